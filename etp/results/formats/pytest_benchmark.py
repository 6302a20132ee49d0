"""JSON written by pytest-benchmark (``--benchmark-json``).

What was multiplied is not in such a file unless the test says so: ``benchmark.extra_info`` must
hold ``product`` and the fields of a problem, such as ``setting`` and ``lmax``.
"""

from __future__ import annotations

from typing import Any

from etp.problem import Problem
from etp.results.formats.common import FormatError, foreign_row, load_json, runtime_of_samples
from etp.results.rows import Row

_MEND = "set it with benchmark.extra_info[...] in the test"


def matches(name: str, text: str) -> bool:
    """Whether the file has the two parts that every such file has."""
    return '"machine_info"' in text and '"benchmarks"' in text


def read(name: str, text: str, context: str | None = None) -> list[Row]:
    """One runtime row for each benchmark.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    body = load_json(name, text)
    environment = _environment(body)
    rows = [_row(name, benchmark, environment) for benchmark in body["benchmarks"]]
    if not rows:
        raise FormatError(name, "holds no benchmark")
    return rows


def _row(name: str, benchmark: dict[str, Any], environment: dict[str, Any]) -> Row:
    place = f"benchmark {benchmark.get('name', '?')!r}"
    info = dict(benchmark.get("extra_info", {}))
    if not isinstance(info.get("product"), str):
        raise FormatError(name, f"extra_info has no 'product': {_MEND}", place)
    product = info.pop("product")
    try:
        if "setting" in info:
            problem = Problem.of_setting(info.pop("setting"), info.pop("lmax"), **info)
        else:
            problem = Problem.of_irreps(**info)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            name, f"extra_info does not describe a problem ({error}): {_MEND}", place
        ) from error
    stats = benchmark["stats"]
    if stats.get("data"):
        result = runtime_of_samples(stats["data"])
        badges = []
    else:
        result = {
            "median_s": stats["median"],
            "q25_s": stats["q1"],
            "q75_s": stats["q3"],
            "rounds": stats["rounds"],
            "role": "product",
        }
        badges = ["no samples"]
    environment = environment | {"device": problem.device, "implementation": benchmark.get("name")}
    return foreign_row(name, place, product, problem.as_dict(), result, environment, badges=badges)


def _environment(body: dict[str, Any]) -> dict[str, Any]:
    machine, commit = body.get("machine_info", {}), body.get("commit_info", {})
    cpu = machine.get("cpu", {})
    return {
        "source": "pytest-benchmark",
        "cpu": cpu.get("brand_raw") or machine.get("processor") or machine.get("machine"),
        "device_name": cpu.get("brand_raw") or machine.get("machine"),
        "cores": cpu.get("count"),
        "python": machine.get("python_version"),
        "os": machine.get("system"),
        "revision": commit.get("id"),
        "dirty": commit.get("dirty"),
        "date": body.get("datetime"),
    }

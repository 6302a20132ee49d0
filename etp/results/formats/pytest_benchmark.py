"""JSON written by pytest-benchmark (``--benchmark-json``).

What was multiplied is not in such a file unless the test says so: ``benchmark.extra_info`` must
hold ``product`` and the fields of a problem, such as ``setting`` and ``lmax``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etp.problem import Problem
from etp.results.formats.common import (
    FormatError,
    an_object,
    foreign_row,
    load_json,
    positive_numbers,
    runtime_of_samples,
)
from etp.results.rows import Row

_MEND = "set it with benchmark.extra_info[...] in the test"


def matches(name: str, text: str) -> bool:
    """Whether the file has the two parts that every such file has."""
    return '"machine_info"' in text and '"benchmarks"' in text


def read(name: str, text: str, context: str | None = None) -> Iterator[Row | FormatError]:
    """One runtime row for each benchmark, or why there is none.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    body = an_object(name, load_json(name, text), "the file")
    benchmarks = body.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise FormatError(name, "holds no benchmark")
    environment = _environment(name, body)
    for number, benchmark in enumerate(benchmarks, 1):
        try:
            yield _row(name, number, benchmark, environment)
        except FormatError as error:
            yield error


def _row(name: str, number: int, value: object, environment: dict[str, Any]) -> Row:
    benchmark = an_object(name, value, "a benchmark", f"benchmark {number}")
    called = str(benchmark.get("name", "?"))[:80]
    place = f"benchmark {called!r}"
    info = dict(an_object(name, benchmark.get("extra_info"), "extra_info", place, null=True))
    if not isinstance(info.get("product"), str):
        raise FormatError(name, f"extra_info has no 'product': {_MEND}", place)
    product = info.pop("product")
    try:
        needed = ("setting", "lmax") if "setting" in info else ("irreps1", "irreps2")
        if missing := [key for key in needed if key not in info]:
            raise ValueError(f"{missing[0]} is missing")
        first, second = (info.pop(key) for key in needed)
        made = Problem.of_setting if needed[0] == "setting" else Problem.of_irreps
        problem = made(first, second, **info)
    except (TypeError, ValueError) as error:
        raise FormatError(
            name, f"extra_info does not describe a problem ({error}): {_MEND}", place
        ) from error
    stats = an_object(name, benchmark.get("stats"), "stats", place)
    if stats.get("data"):
        samples = positive_numbers(name, stats["data"], "stats.data", place)
        result, badges = runtime_of_samples(samples), []
    else:
        named = {"median_s": "median", "q25_s": "q1", "q75_s": "q3", "rounds": "rounds"}
        result = {ours: stats.get(theirs) for ours, theirs in named.items()} | {"role": "product"}
        badges = ["no samples"]
    environment = environment | {"device": problem.device, "implementation": called}
    return foreign_row(name, place, product, problem.as_dict(), result, environment, badges=badges)


def _environment(name: str, body: dict[str, Any]) -> dict[str, Any]:
    machine, commit = (
        an_object(name, body.get(part), part, null=True) for part in ("machine_info", "commit_info")
    )
    cpu = an_object(name, machine.get("cpu"), "machine_info.cpu", null=True)
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

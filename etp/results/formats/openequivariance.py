"""Result folders of OpenEquivariance's benchmark suites (arXiv 2501.13986).

A folder holds ``metadata.json`` and one JSON object for each run, of a batch of products or of a
convolution over a graph, with times in milliseconds (-1 where an implementation was not timed).

Their "uvu" product with weights, every path in a block of its own, is an edge product with weights.
Where a run is another operation than ours ("uvw", or only some of the paths), it is a row under its
own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from etp.irreps import IrrepsError, parse_terms, to_text
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

IMPLEMENTATIONS = {"e3nn": "e3nn", "cue": "cuequivariance", "loopunroll": "openequivariance"}
"""What is measured, by a part of an implementation's name in lower case."""
_DIRECTIONS = {
    "forward": "forward",
    "backward": "backward",
    "double_backward": "double-backward",
}
_RESULTS = ("benchmark results", "benchmark")
"""Where a run of a batch and a run of a convolution keep their times."""


def matches(name: str, text: str) -> bool:
    """Whether this is a run, or the description of a folder of runs."""
    parts = ('"benchmark results"', '"test details"', '"graph_adj_nnz"')
    if not text.lstrip().startswith("{"):
        return False
    return any(part in text for part in parts) or _describes_convolutions(text)


def _describes_convolutions(text: str) -> bool:
    return all(part in text for part in ('"test_name"', '"implementations"', '"graph"'))


def device_of(texts: Mapping[str, str]) -> str | None:
    """Name of the GPU from the ``metadata.json`` among files, None without one."""
    for name, text in texts.items():
        if '"gpu_name"' in text:
            try:
                gpu = an_object(name, load_json(name, text), "the file").get("gpu_name")
            except FormatError:
                continue
            if isinstance(gpu, str):
                return gpu
    return None


def read(name: str, text: str, context: str | None = None) -> Iterator[Row | FormatError]:
    """One runtime row for a run; none for the description of the folder.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    run = an_object(name, load_json(name, text), "the file")
    part = next((part for part in _RESULTS if isinstance(run.get(part), dict)), None)
    if part is None:
        if '"test details"' in text or _describes_convolutions(text):
            return
        raise FormatError(name, "'benchmark results' must be an object, got none")
    benchmark = run[part]
    for key in ("L1", "L2", "L3"):
        if not isinstance(benchmark.get(key), str):
            raise FormatError(
                name, f"{key} must be irreps, got {str(benchmark.get(key))[:40]!r}", part
            )
    direction = _DIRECTIONS.get(str(run.get("direction")))
    if direction is None:
        known = ", ".join(_DIRECTIONS)
        raise FormatError(
            name, f"direction must be one of {known}, got {str(run.get('direction'))[:40]!r}"
        )
    implementation = str(run.get("implementation_name") or run.get("name") or "not stated")[:80]
    environment = {
        "source": "OpenEquivariance benchmark suite",
        "device": "cuda:0",
        "device_name": context or "GPU not stated",
        "implementation": implementation,
        "configuration": _text(run.get("config_label") or run.get("config")),
        "graph": _text(run.get("graph")),
        "irreps": [benchmark["L1"], benchmark["L2"], benchmark["L3"]],
    }
    problem = _problem(name, part, run, benchmark, direction)
    product = _product(implementation, run, benchmark, problem)
    times = benchmark.get("time_millis")
    if isinstance(times, list) and times and all(t == -1 for t in times):
        yield foreign_row(
            name, part, product, problem.as_dict(), None, environment, status="invalid",
            badges=["missing"], reason="the suite writes -1 for what it did not time",
        )  # fmt: skip
        return
    millis = positive_numbers(name, times, "time_millis", part)
    result = runtime_of_samples([t / 1e3 for t in millis])
    yield foreign_row(name, part, product, problem.as_dict(), result, environment)


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:200]


def _problem(
    name: str, part: str, run: dict[str, Any], benchmark: dict[str, Any], direction: str
) -> Problem:
    convolution = "graph_adj_nnz" in benchmark
    edges = _count(name, part, benchmark, "graph_adj_nnz" if convolution else "batch_size")
    rest: dict[str, Any] = {}
    if convolution:
        nodes = _count(name, part, benchmark, "graph_node_count")
        rest = {"kind": "convolution", "neighbours": max(round(edges / nodes), 1)}
    dtype = benchmark.get("rep_dtype") or run.get("irrep_dtype")
    shared = "shared_weights=true" in _described(run)
    try:
        first, second, keep = (_joined(benchmark[key], key) for key in ("L1", "L2", "L3"))
        return Problem.of_irreps(
            first, second, keep, batch=edges, direction=direction, device="cuda:0",
            dtype="float64" if "64" in str(dtype) else "float32",
            weights="shared" if shared else "per-sample", **rest,
        )  # fmt: skip
    except (IrrepsError, ValueError) as error:
        raise FormatError(name, str(error), part) from error


def _count(name: str, part: str, benchmark: dict[str, Any], key: str) -> int:
    value = benchmark.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53:
        return value
    raise FormatError(name, f"{key} must be a positive whole number, got {str(value)[:40]!r}", part)


def _joined(text: str, field: str) -> str:
    """Irreps as typed, each once with all its channels: blocks of one irrep stand together here."""
    return to_text(parse_terms(text.replace(" ", ""), field))


def _described(run: dict[str, Any]) -> str:
    """What a run says of its problem, in lower case without spaces."""
    keys = ("config_repr", "config_str", "config", "config_label")
    return "".join(str(run.get(key, "")) for key in keys).lower().replace(" ", "")


def _product(
    implementation: str, run: dict[str, Any], benchmark: dict[str, Any], problem: Problem
) -> str:
    """Our name where it is the same operation, else one that says what it is."""
    lowered = implementation.lower()
    known = next((ours for part, ours in IMPLEMENTATIONS.items() if part in lowered), None)
    if known is None:
        return implementation
    if "uvw" in _described(run):
        return f"{known}-uvw"
    if problem.kind == "pair":
        return f"{known}-uvu"
    return known if _every_path(problem, benchmark["L3"]) else f"{known}-some-paths"


def _every_path(problem: Problem, output: str) -> bool:
    """Whether the output has a block for each path, as many channels as input 1 has there."""
    channels: Counter[str] = Counter()
    for term in parse_terms(problem.irreps1, "irreps1"):
        channels[str(term.ir)] += term.mul
    wanted: Counter[str] = Counter()
    for first, _, out in problem.triples():
        wanted[str(out)] += channels[str(first)]
    given: Counter[str] = Counter()
    for term in parse_terms(output.replace(" ", ""), "L3"):
        given[str(term.ir)] += term.mul
    return wanted == given

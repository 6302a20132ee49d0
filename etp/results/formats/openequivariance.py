"""Result folders of OpenEquivariance's benchmark suite (arXiv 2501.13986).

A folder holds ``metadata.json`` and one JSON object for each run, with times in milliseconds (-1
where an implementation was not timed). Their product is the channel-wise weighted one ("uvu"):
the second input has one channel, paths are weighted and summed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from etp.irreps import IrrepsError, Term, channels, multiplicities, parse_terms, to_text
from etp.problem import Problem
from etp.results.formats.common import FormatError, foreign_row, load_json, runtime_of_samples
from etp.results.rows import Row

IMPLEMENTATIONS = (("e3nn", "e3nn"), ("cue", "cuequivariance"))
_DIRECTIONS = {
    "forward": "forward",
    "backward": "backward",
    "double_backward": "double-backward",
}


def matches(name: str, text: str) -> bool:
    """Whether this is a run, or the description of a folder of runs."""
    return text.lstrip().startswith("{") and (
        '"benchmark results"' in text or '"test details"' in text
    )


def device_of(texts: Mapping[str, str]) -> str | None:
    """Name of the GPU from the ``metadata.json`` among files, None without one."""
    for text in texts.values():
        if '"test details"' in text:
            try:
                found = json.loads(text).get("gpu_name")
            except json.JSONDecodeError:
                continue
            return None if found is None else str(found)
    return None


def read(name: str, text: str, context: str | None = None) -> list[Row]:
    """One runtime row for a run; none for the description of the folder.

    Args:
        name: Name of the file.
        text: What it holds.
        context: What other files of the folder say of the device.
    """
    run = load_json(name, text)
    if "benchmark results" not in run:
        return []
    found = run["benchmark results"]
    for key in ("L1", "L2", "L3", "batch_size", "time_millis"):
        if key not in found:
            raise FormatError(name, f"has no {key!r} in 'benchmark results'")
    direction = _DIRECTIONS.get(run.get("direction", ""))
    if direction is None:
        known = ", ".join(_DIRECTIONS)
        raise FormatError(name, f"direction must be one of {known}, got {run.get('direction')!r}")
    implementation = str(run.get("implementation_name", ""))
    product = next(
        (ours for theirs, ours in IMPLEMENTATIONS if theirs in implementation.lower()),
        "openequivariance",
    )
    environment = {
        "source": "OpenEquivariance benchmark suite",
        "device": "cuda:0",
        "device_name": context or "GPU not stated",
        "implementation": implementation,
        "configuration": run.get("config_label"),
        "irreps": [found["L1"], found["L2"], found["L3"]],
    }
    problem = _problem(name, found, direction)
    times = found["time_millis"]
    if not times or any(not isinstance(t, int | float) or t <= 0 for t in times):
        return [
            foreign_row(
                name, "run", product, problem, None, environment, status="invalid",
                badges=["missing"], reason="the suite writes -1 for what it did not time",
            )
        ]  # fmt: skip
    result = runtime_of_samples([t / 1e3 for t in times])
    return [foreign_row(name, "run", product, problem, result, environment, badges=["sums paths"])]


def _problem(name: str, found: dict[str, Any], direction: str) -> dict[str, Any]:
    try:
        first = parse_terms(found["L1"].replace(" ", ""), "L1")
        second = parse_terms(found["L2"].replace(" ", ""), "L2")
        keep = parse_terms(found["L3"].replace(" ", ""), "L3")
        dtype = "float64" if "64" in str(found.get("rep_dtype")) else "float32"
        return Problem.of_irreps(
            _plain(first), _plain(second), _plain(keep),
            channels=channels(first, "L1"), batch=int(found["batch_size"]), dtype=dtype,
            direction=direction, device="cuda:0",
        ).as_dict()  # fmt: skip
    except (IrrepsError, ValueError) as error:
        raise FormatError(name, str(error), "benchmark results") from error


def _plain(terms: tuple[Term, ...]) -> str:
    return to_text(Term(1, ir) for ir in multiplicities(terms))

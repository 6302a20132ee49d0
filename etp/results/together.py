"""What the keys of a result must be to each other; each alone is checked by the schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from etp.results.schema import RowError

SAME = 1e-6
"""Relative: a median belongs to its samples if it is that of them to this."""


def check_together(measure: str, result: Mapping[str, Any]) -> None:
    """Raise :class:`RowError` for keys that contradict each other.

    Args:
        measure: What was asked.
        result: What came out, each key checked.
    """
    if measure in _CHECKS:
        _CHECKS[measure](result)


def _times(result: Mapping[str, Any]) -> None:
    """A median that is not that of its own samples is somebody's mistake."""
    typical, samples = result["median_s"], result.get("samples_s")
    if samples and not math.isclose(typical, median(samples), rel_tol=SAME):
        wanted = f"be the median of its samples, {median(samples)}"
        raise RowError("result.median_s", typical, wanted)
    for key, other in (("q25_s", "q75_s"), ("q75_s", "q25_s")):
        if key in result and other not in result:
            raise RowError(f"result.{other}", None, f"be given beside {key}")
    low, high = result.get("q25_s", typical), result.get("q75_s", typical)
    if not low * (1 - SAME) <= typical <= high * (1 + SAME):
        raise RowError("result.median_s", typical, f"lie between its quartiles {low} and {high}")
    if result.get("blocks_s") == []:
        raise RowError("result.blocks_s", [], "hold at least one block")
    _same_length(result, "blocks_s", "block_calls", "order", "start_s")
    if "start_s" in result:
        # Calls are drawn after the start of their block.
        calls = result.get("block_calls", [])
        if sum(calls) != len(samples or []) or not samples:
            wanted = f"name the block of every sample, {len(samples or [])} in all"
            raise RowError("result.block_calls", calls, wanted)


def _same_length(result: Mapping[str, Any], *keys: str) -> None:
    lengths = {key: len(result[key]) for key in keys if key in result}
    if len(set(lengths.values())) > 1:
        names = ", ".join(lengths)
        raise RowError(f"result.{keys[0]}", list(lengths.values()), f"be as long as {names}")


def _interactions(result: Mapping[str, Any]) -> None:
    _same_length(result, "triples", "coefficients")


def _equivariance(result: Mapping[str, Any]) -> None:
    if ("per_element" in result) != ("inverted" in result):
        given = [key for key in ("per_element", "inverted") if key in result]
        raise RowError("result", given, "give per_element and inverted together")
    _same_length(result, "per_element", "inverted")


def _potential(result: Mapping[str, Any]) -> None:
    """A point of a learning curve is an error, a step and a time."""
    _same_length(result, "check_s", "check_steps", "check_force_mev_per_a")
    if not result["check_s"]:
        raise RowError("result.check_s", [], "hold at least one check")


def _sphere(result: Mapping[str, Any]) -> None:
    """A line of coefficients, those of all degrees up to one, for each angle."""
    if len(result["axis"]) != 3:
        raise RowError("result.axis", result["axis"], "be a list of three numbers")
    if not result["angles"]:
        raise RowError("result.angles", [], "hold at least one angle")
    widths = {}
    for key in ("first", "multiplied_last", "multiplied_first"):
        lengths = {len(line) for line in result[key]}
        width = next(iter(lengths), 0)
        if len(lengths) != 1 or width < 1 or math.isqrt(width) ** 2 != width:
            raise RowError(f"result.{key}", sorted(lengths), "have lines of (lmax + 1)^2 numbers")
        _same_length(result, key, "angles")
        widths[key] = width
    if widths["multiplied_last"] != widths["multiplied_first"]:
        raise RowError("result.multiplied_first", widths, "be as wide as multiplied_last")


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "runtime": _times,
    "interactions": _interactions,
    "equivariance": _equivariance,
    "potential": _potential,
    "sphere": _sphere,
}

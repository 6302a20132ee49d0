"""Layers of a whole model: time added up, shares, what it gains, and what fits into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etp.analysis.comparison import Comparison, ProductEntry
from etp.problem import Direction

MEMORY_SHARE = 0.8
"""Of the memory that is free; the rest is left to the program around it."""


class MeasuredLayer(NamedTuple):
    """A layer of a model: its name, how often it occurs (repeats) and what was measured on it."""

    name: str
    repeats: int
    comparison: Comparison


@dataclass(frozen=True)
class ModelTime:
    """One product in all layers of a model.

    Attributes:
        product: Its name.
        seconds: All layers added up.
        shares: Of each layer in that sum.
        ratio: Its sum over that of the baseline.
    """

    product: str
    seconds: float
    shares: tuple[float, ...]
    ratio: float

    def gain(self, share: float) -> float:
        """How many times as fast the whole becomes, where the layers took ``share`` of it (Amdahl).

        Args:
            share: Of the same whole, with the baseline: of a forward where forwards were timed, of
                a training step where backwards were.

        Raises:
            ValueError: If the share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {share}")
        return 1 / (1 - share + share * self.ratio)


def model_times(parts: Sequence[MeasuredLayer]) -> list[ModelTime]:
    """Products that were timed in every layer, fastest first.

    Raises:
        ValueError: If the baseline was not timed in every layer, or there is none.
    """
    if not parts:
        raise ValueError("parts must hold at least one layer, got none")
    base = parts[0].comparison.baseline
    sums = {
        entry.product: [
            part.repeats * part.comparison.entry(entry.product).typical_s for part in parts
        ]
        for entry in parts[0].comparison.timed
        if all(entry.product in {e.product for e in part.comparison.timed} for part in parts)
    }
    if base not in sums:
        raise ValueError(f"{base} was not timed in every layer: gains are told against it")
    made = [
        ModelTime(
            product, sum(own), tuple(t / sum(own) for t in own), sum(own) / sum(sums[base])
        )
        for product, own in sums.items()
    ]  # fmt: skip
    return sorted(made, key=lambda total: total.seconds)


def largest_batches(parts: Sequence[MeasuredLayer], memory: int | None) -> dict[str, int]:
    """Edges that fit into so many bytes in every layer, product by product, one layer at a time.

    Products whose memory was not measured in every layer are left out; all where nobody says how
    much there is.
    """
    if memory is None:
        return {}
    batches = {}
    for time in model_times(parts):
        each = [
            largest_batch(p.comparison, p.comparison.entry(time.product), memory) for p in parts
        ]
        known = [batch for batch in each if batch is not None]
        if len(known) == len(parts):
            batches[time.product] = min(known)
    return batches


def whole_of(direction: Direction) -> str:
    """What a share is of: ``forward``, or ``step`` where gradients are timed too."""
    return "forward" if direction == "forward" else "step"


def largest_batch(comparison: Comparison, entry: ProductEntry, memory: int) -> int | None:
    """Edges (or samples) whose call fits into so many bytes; None where memory was not measured.

    Peak memory and the bytes of inputs and outputs are taken to grow with the batch.

    Args:
        comparison: What was measured.
        entry: The product.
        memory: Bytes that are free.
    """
    peak = entry.result("memory").get("peak_bytes")
    numbers = entry.result("cost").get("bytes")
    if peak is None or numbers is None:
        return None
    tables = entry.result("memory").get("table_bytes", 0)
    free = MEMORY_SHARE * memory - tables
    return max(0, int(comparison.problem.batch * free / (peak + numbers)))

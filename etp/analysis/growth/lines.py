"""Comparisons in a row: one size changes from each to the next, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from etp.analysis.comparison import Comparison
from etp.problem import Axis, Problem
from etp.results.rows import Row
from etp.text import count_text, counted

AXES: tuple[Axis, ...] = get_args(Axis)
_FOLLOW = {"lmax": ("lmax", "irreps1", "irreps2", "filter_out")}
"""Parts of a problem that change with the size; only itself where nothing is named."""


@dataclass(frozen=True)
class Line:
    """Comparisons along one axis, smallest size first.

    Attributes:
        axis: The size that changes.
        comparisons: One for each size, at least one.
    """

    axis: Axis
    comparisons: tuple[Comparison, ...]

    @property
    def sizes(self) -> list[int]:
        """Sizes at which something was timed."""
        return [self.size(comparison) for comparison in self.comparisons]

    @property
    def last(self) -> Comparison:
        """The comparison at the largest size."""
        return self.comparisons[-1]

    @property
    def products(self) -> list[str]:
        """Products timed at any size, in the order of the rows."""
        timed = [entry for comparison in self.comparisons for entry in comparison.timed]
        return list(dict.fromkeys(entry.product for entry in timed))

    def size(self, comparison: Comparison) -> int:
        """Size of a comparison along the axis."""
        return int(getattr(comparison.problem, self.axis))

    def named(self, size: int) -> str:
        """A size in words: ``lmax 5``, ``batch 1 000``, ``16 channels``."""
        return size_text(self.axis, size)

    def where(self) -> str:
        """What does not change, in words: ``for batch 10 000 on AMD EPYC, 2 threads``."""
        problem = self.last.problem
        fixed = [axis for axis in AXES if axis != self.axis]
        parts = [size_text(axis, getattr(problem, axis)) for axis in fixed
                 if axis != "channels" or problem.channels > 1]  # fmt: skip
        return f"for {' and '.join(parts)} on {self.device()}"

    def device(self) -> str:
        """Device, with its threads where they were kept."""
        environment = self.last.environment()
        name = str(environment.get("device_name") or self.last.problem.device)
        threads = environment.get("threads") if self.last.problem.device == "cpu" else None
        return name if threads is None else f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def size_text(axis: str, size: int) -> str:
    """A size in words."""
    if axis == "channels":
        return counted(size, "channel")
    return f"{axis} {count_text(size)}"


def lines(comparisons: Iterable[Comparison], axis: Axis) -> list[Line]:
    """Group comparisons into lines; what was timed nowhere is left out.

    Args:
        comparisons: In any order.
        axis: What may change along a line. Along lmax the irreps follow it, so typed irreps, which
            have one lmax only, make no line.

    Raises:
        ValueError: If ``axis`` is none of :data:`AXES`.
    """
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        if comparison.timed and (axis != "lmax" or comparison.problem.setting is not None):
            groups.setdefault(_fixed(comparison, axis), []).append(comparison)
    return [
        Line(
            axis,
            tuple(sorted(group, key=lambda comparison: int(getattr(comparison.problem, axis)))),
        )
        for group in groups.values()
    ]


def swept_axis(rows: Sequence[Row]) -> Axis | None:
    """The axis with most sizes among runtimes; None where every size is the only one."""
    sizes = {axis: len({row.problem[axis] for row in rows}) for axis in AXES}
    most = max(AXES, key=lambda axis: sizes[axis])
    return most if sizes[most] > 1 else None


def _fixed(comparison: Comparison, axis: Axis) -> str:
    """Everything that must be equal along a line."""
    problem: Problem = comparison.problem
    free = _FOLLOW.get(axis, (axis,))
    fixed = {name: value for name, value in problem.as_dict().items() if name not in free}
    return json.dumps([fixed, comparison.environment().get("device_name")], sort_keys=True)

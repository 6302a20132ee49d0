"""Signals on spheres and a rotation slider: see that multiplying commutes with rotating.

A browser draws them (``etp/assets/sphere.js``) from harmonic coefficients: a few thousand numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etp.charts import theme
from etp.charts.theme import Mode
from etp.text import power_text

Values = NDArray[np.float64]
START = 4
"""Step of the slider at first: far enough that a wrong order shows."""
DIGITS = 5
"""Of a coefficient that is drawn: more than a colour can show."""


@dataclass(frozen=True)
class Turn:
    """Harmonic coefficients of signals on the sphere for each angle of a full turn.

    Attributes:
        axis: Unit vector that is turned about.
        angles: Radians, shape ``(k,)``.
        first: The first input, rotated: ``(k, (lmax + 1)^2)``.
        multiplied_last: Rotate, then multiply; its own lmax.
        multiplied_first: Multiply, then rotate.
        gate: Largest relative difference that is roundoff.
    """

    axis: Sequence[float]
    angles: Sequence[float]
    first: Values
    multiplied_last: Values
    multiplied_first: Values
    gate: float

    @classmethod
    def of_result(cls, result: Mapping[str, Any], gate: float) -> Turn:
        """Read the result of a row of measure ``sphere``.

        Args:
            result: Its fields.
            gate: Largest relative difference that is roundoff.
        """
        return cls(
            result["axis"],
            result["angles"],
            np.array(result["first"]),
            np.array(result["multiplied_last"]),
            np.array(result["multiplied_first"]),
            gate,
        )

    @property
    def difference(self) -> Values:
        """What the order of rotating and multiplying changes."""
        return self.multiplied_last - self.multiplied_first

    @property
    def relative(self) -> float:
        """Norm of the difference over that of the signal, at the worst angle.

        Harmonics are orthonormal: the norm of the coefficients is that over the sphere.
        """
        size = float(np.linalg.norm(self.multiplied_first, axis=1).max()) or 1.0
        return float(np.linalg.norm(self.difference, axis=1).max()) / size

    @property
    def equivariant(self) -> bool:
        """Whether the difference is roundoff."""
        return self.relative <= self.gate


def scene(turns: Mapping[str, Turn], mode: Mode, *, arrows: bool = False) -> dict[str, Any]:
    """What the browser draws: for each product a row of four spheres, all seen by one camera.

    The rotated input, both orders of the product, and their difference. The two orders share a
    scale. The difference has its own where it is roundoff, and the signal's where it is a failure.

    Args:
        turns: By product, of the same angles.
        mode: "light" or "dark".
        arrows: Whether signals are first shown as vector fields, by their gradients.
    """
    t = theme.tokens(mode)
    first_turn = next(iter(turns.values()))
    return {
        "name": " | ".join(turns),
        "rows": [
            {
                "name": product,
                "words": _words(turn),
                "right": turn.equivariant,
                "input": _written(_widened(turn.first, turn)),
                "last": _written(turn.multiplied_last),
                "first_order": _written(turn.multiplied_first),
                "difference": _written(turn.difference),
            }
            for product, turn in turns.items()
        ],
        "axis": [round(float(v), 6) for v in first_turn.axis],
        "angles": [round(float(angle), 4) for angle in first_turn.angles],
        "start": min(START, len(first_turn.angles) - 1),
        "arrows": arrows,
        "colours": list(t.sphere),
        "ink": t.ink,
        "mute": t.mute,
    }


def _words(turn: Turn) -> str:
    if turn.equivariant:
        return (
            f"both orders agree at every angle, to {power_text(turn.relative)} of the signal: that "
            "is roundoff."
            if turn.relative
            else "both orders agree at every angle, exactly."
        )
    return (
        f"the two orders differ by up to {turn.relative:.0%} of the signal: it is not equivariant."
    )


def _widened(values: Values, turn: Turn) -> Values:
    """Coefficients up to the degree of the product, which one table of harmonics then serves."""
    missing = turn.multiplied_last.shape[1] - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing))) if missing > 0 else values


def _written(values: Values) -> list[list[float]]:
    return [[float(f"{v:.{DIGITS}g}") for v in line] for line in values]

"""Where the exact contraction stops being the cheaper one: multiply-adds of powers.

A power (MACE's symmetric contraction) is a polynomial in the components of one feature. Over sorted
monomials the exact one keeps few terms; the Gaunt power keeps one path in many and needs a grid
that grows with the order. Counts are for one channel of one node, weights contracted before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path

from etp.text import count_text

PATH = Path(__file__).resolve().parents[1] / "results" / "data" / "powers.json"


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds of both powers.

    Attributes:
        order: Largest number of factors.
        lmax: The input is 0e + 1o + ... + lmax.
        lout: The output is 0e + 1o + ... + lout.
        exact: Of every coupling.
        dense: Of the Gaunt power on the smallest exact grid, by dense matrices.
        separable: By Legendre functions and fast Fourier transforms.
    """

    order: int
    lmax: int
    lout: int
    exact: int
    dense: int
    separable: int


def natural(lmax: int) -> str:
    """Irreps 0e + 1o + ... + lmax.

    Examples:
        >>> natural(2)
        '0e+1o+2e'
    """
    return "+".join(f"{l}{'eo'[l % 2]}" for l in range(lmax + 1))


@cache
def counted() -> tuple[MultiplyAdds, ...]:
    """All counts there are, by order, lmax and output."""
    counts = []
    for entry in json.loads(PATH.read_text()):
        exact = entry.pop("macs")
        dense, separable = gaunt_macs(**entry)
        counts.append(MultiplyAdds(**entry, exact=exact, dense=dense, separable=separable))
    return tuple(counts)


def gaunt_macs(order: int, lmax: int, lout: int) -> tuple[int, int]:
    """Multiply-adds of a Gaunt power, to the grid, products and one reading: dense, separable.

    The signals of all degrees are counted as read at once, which favours it: with weights of their
    own for each degree it reads them one by one.

    Args:
        order: Largest number of factors.
        lmax: Largest degree of the input.
        lout: Largest degree of the output.

    Examples:
        >>> gaunt_macs(3, 1, 1)
        (150, 144)
    """
    degree = order * lmax + lout
    rows, columns = degree // 2 + 1, degree + 1
    products, sides = rows * columns * (order - 1), (lmax, lout)
    components = sum((l + 1) ** 2 for l in sides)
    # The usual model of a real FFT: 1.25 N log2 N.
    fourier = len(sides) * rows * round(1.25 * columns * log2(max(columns, 2)))
    return products + rows * columns * components, products + rows * components + fourier


def sentences() -> tuple[str, str]:
    """Where it turns, in words: at the shape of MACE, and for each order."""
    known = {(c.order, c.lmax, c.lout): c for c in counted()}
    mace = known[3, 3, 1]
    first = (
        "At the shape of MACE (order 3, lmax 3, outputs 0e + 1o) the exact contraction needs "
        f"{count_text(mace.exact)} multiply-adds for a channel; the Gaunt power, which keeps one "
        f"path in many, {count_text(mace.dense)} with dense transforms and "
        f"{count_text(mace.separable)} with separable ones."
    )
    turns = []
    for order in sorted({c.order for c in counted()}):
        own = [c for c in counted() if c.order == order and c.lout == 1]
        turns.append(f"of order {order} {_from(own, 'dense')} (dense), {_from(own, 'separable')} "
                     "(separable)")  # fmt: skip
    return first, f"With these outputs Gaunt needs fewer {'; '.join(turns)}."


def table() -> list[dict[str, int | str]]:
    """All counts as lines: what people read."""
    return [
        {
            "order": c.order,
            "lmax": c.lmax,
            "outputs up to": c.lout,
            "exact": c.exact,
            "Gaunt, dense": c.dense,
            "Gaunt, separable": c.separable,
            "fewest": "exact" if c.exact <= min(c.dense, c.separable) else "Gaunt",
        }
        for c in counted()
    ]


def against(lout: int = 1) -> list[dict[str, int]]:
    """Exact and Gaunt by order and lmax, for outputs up to ``lout``; of Gaunt its cheaper form."""
    return [
        {
            "order": c.order,
            "lmax": c.lmax,
            "exact": c.exact,
            "gaunt": min(c.dense, c.separable),
        }
        for c in counted()
        if c.lout == lout
    ]


def _from(counts: Sequence[MultiplyAdds], form: str) -> str:
    """From which lmax on a form of the Gaunt power needs fewer."""
    turned = [c.lmax for c in counts if getattr(c, form) < c.exact]
    top = max(c.lmax for c in counts)
    return f"from lmax {min(turned)} on" if turned else f"at no lmax up to {top}"

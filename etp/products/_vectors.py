r"""Vector fields on the sphere: what they are made of, and how two of them are multiplied.

A field with vector spherical harmonics is a sum of potentials, n Y, :math:`\nabla Y` and
:math:`n \times \nabla Y` (Varshalovich et al. 1988, 7.3): each needs one scalar signal.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from etp.maths import sphere
from etp.product.weighting import Side
from etp.products._fields import Field, gradient, value

POTENTIALS = {"value": ("v",), "radial": ("r",), "gradient": ("b", "a"), "curl": ("b", "a")}
"""Fields made from one scalar potential each: components v value, r radial, b beta, a alpha."""


def potential(kind: str, lmax: int, nodes: sphere.Grid) -> tuple[Field, ...]:
    r"""Fields of a potential: Y, n Y, :math:`\nabla Y` or :math:`n \times \nabla Y` of norm 1."""
    if kind in ("value", "radial"):
        return (value(lmax, nodes),)
    degrees = torch.arange(lmax + 1, dtype=torch.float64)
    norm = (degrees * (degrees + 1)).clamp(min=1).rsqrt()
    along_beta, along_alpha = (field.times(norm) for field in gradient(lmax, nodes))
    if kind == "gradient":
        return along_beta, along_alpha
    return along_alpha.times(-torch.ones(lmax + 1, dtype=torch.float64)), along_beta


def components(j: int, spin: int) -> list[int]:
    """The l - j of the harmonics of a field of some spin with total degree j."""
    return [number for number in range(-spin, spin + 1) if j + number >= abs(j - spin)]


def share(kind: str, j: int, number: int) -> float:
    """How much of a potential the vector harmonic of degree j, component l = j + number, takes."""
    below, above = sqrt(j / (2 * j + 1)), sqrt((j + 1) / (2 * j + 1))
    shares = {
        "value": {0: 1.0},
        "radial": {-1: below, 1: above},
        "gradient": {-1: above, 1: -below},
        "curl": {0: -1.0},
    }
    return shares[kind][number]


Vector = dict[str, Tensor]
"""Components on the grid: r, b, a along the point, beta and alpha; v the value of a scalar."""
SIDES: tuple[Side, Side, Side] = ("in1", "in2", "out")
OUT = 2


class Potential(NamedTuple):
    """Fields of one side that are made from one scalar signal.

    Attributes:
        side: 0 and 1 for the inputs, 2 for the output.
        kind: How they are made: a key of :data:`etp.products._POTENTIALS`.
        sector: Value parity of the scalar signal.
    """

    side: int
    kind: str
    sector: int

    @property
    def name(self) -> str:
        """Prefix of the names of its tables."""
        return f"{SIDES[self.side]}_{self.kind}_{'natural' if self.sector == 1 else 'pseudo'}"

    @property
    def parity(self) -> int:
        """Value parity of its fields: n and the gradient change sign, n x gradient does not."""
        return -self.sector if self.kind in ("radial", "gradient") else self.sector

    @property
    def components(self) -> tuple[str, ...]:
        """Components of the fields, as :data:`Vector` names them."""
        return POTENTIALS[self.kind]


class Step(NamedTuple):
    """One pointwise product: component ``c1`` of one field times ``c2`` of another.

    Attributes:
        parity1: Value parity of the first field; that of the result is the product of both.
        parity2: Of the second.
        c1: Component of the first.
        c2: Component of the second.
        c3: Component of the result that it is added to.
        sign: 1 or -1.
    """

    parity1: int
    parity2: int
    c1: str
    c2: str
    c3: str
    sign: int

    @property
    def parity(self) -> int:
        """Value parity of the result."""
        return self.parity1 * self.parity2


Coupling = Literal["cross", "dot", "scalar-vector"]


class Rule(NamedTuple):
    """How two fields are multiplied.

    Attributes:
        spins: Of both inputs and the output, 0 for a scalar signal and 1 for a vector one.
        square: Square of the product's size relative to ``wigner_3j`` of the spins.
        flipped: (side, l - j) of components that enter with -1. With equal signs the cross product
            of two equal degrees would lose its even paths by antisymmetry; with these no path is
            lost for degrees up to 14 (checked), (0, 0, 0) of the cross product apart.
        products: Components (first, second, result) and sign.
    """

    spins: tuple[int, int, int]
    square: int
    flipped: frozenset[tuple[int, int]]
    products: tuple[tuple[str, str, str, int], ...]


RULES: dict[Coupling, Rule] = {
    "cross": Rule(
        (1, 1, 1),
        6,
        frozenset({(1, 1), (2, 0)}),
        (
            ("b", "a", "r", 1),
            ("a", "b", "r", -1),
            ("a", "r", "b", 1),
            ("r", "a", "b", -1),
            ("r", "b", "a", 1),
            ("b", "r", "a", -1),
        ),
    ),
    "dot": Rule(
        (1, 1, 0),
        3,
        frozenset({(0, 0)}),
        (("r", "r", "v", 1), ("b", "b", "v", 1), ("a", "a", "v", 1)),
    ),
    "scalar-vector": Rule(
        (0, 1, 1),
        3,
        frozenset({(1, 0)}),
        (("v", "r", "r", 1), ("v", "b", "b", 1), ("v", "a", "a", 1)),
    ),
}

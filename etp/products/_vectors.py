r"""Vector fields on the sphere: what they are made of, and how two of them are multiplied.

A field with vector spherical harmonics is a sum of potentials, n Y, :math:`\nabla Y` and
:math:`n \times \nabla Y` (Varshalovich et al. 1988, 7.3): each needs one scalar signal.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal, NamedTuple

import torch

from etp.e3 import o3
from etp.maths import sphere
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


class Harmonic(NamedTuple):
    """Vector harmonics Y^(j, l) of an irrep of degree j, and the field that holds them.

    Attributes:
        ir: The irrep.
        offset: l - j.
    """

    ir: o3.Irrep
    offset: int

    @property
    def sector(self) -> int:
        """Value parity of the scalar signals that the field is made of."""
        parity: int = self.ir.p * (-1) ** self.ir.l
        return parity

    @property
    def parity(self) -> int:
        """Value parity of the field."""
        return self.sector * (-1) ** self.offset


class Potential(NamedTuple):
    """Fields that are made from one scalar signal.

    Attributes:
        kind: How: a key of :data:`POTENTIALS`.
        sector: Value parity of the scalar signal.
    """

    kind: str
    sector: int

    @property
    def parity(self) -> int:
        """Value parity of its fields: n and the gradient change sign, n x gradient does not."""
        return -self.sector if self.kind in ("radial", "gradient") else self.sector

    def made(self) -> list[tuple[int, str]]:
        """Value parity and component of each field that it gives to."""
        return [(self.parity, component) for component in POTENTIALS[self.kind]]


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


Pairing = Literal["cross", "dot", "scalar-vector"]


class SpinRule(NamedTuple):
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


RULES: dict[Pairing, SpinRule] = {
    "cross": SpinRule(
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
    "dot": SpinRule(
        (1, 1, 0),
        3,
        frozenset({(0, 0)}),
        (("r", "r", "v", 1), ("b", "b", "v", 1), ("a", "a", "v", 1)),
    ),
    "scalar-vector": SpinRule(
        (0, 1, 1),
        3,
        frozenset({(1, 0)}),
        (("v", "r", "r", 1), ("v", "b", "b", 1), ("v", "a", "a", 1)),
    ),
}

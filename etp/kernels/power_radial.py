"""Powers of a scalar and a vector: their closed form, which ``on_cpu/power_radial.h`` evaluates.

An equivariant polynomial of a scalar s and a vector v has nothing in it but s and q = v . v: up to
degree three nine coefficients, where there are 27 monomials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Monomial = tuple[int, ...]
Terms = Mapping[tuple[int, Monomial], Sequence[tuple[int, float]]]
"""Weights of each pair of an output's component and a monomial, and what scales them."""

_OF_SCALAR = ((1, 0), (2, 0), (3, 0), (0, 1), (1, 1))
_OF_VECTOR = ((0, 0), (1, 0), (2, 0), (0, 1))
"""Powers of s and of q in each term: of the scalar, and of what scales the vector."""
_SINGLE, _DOUBLE = 2.0**-22, 1e-14
"""How far apart coefficients may be, of the largest, that are the same but for rounding."""


class ClosedForm(NamedTuple):
    """A closed form.

    Attributes:
        precision: 2 where it is exact in float64, 1 where it is in float32.
        components: First component of the scalar and of the vector, of input and of output; -1
            where there is none.
        weights: Of each term, and what scales them.
    """

    precision: int
    components: tuple[int, int, int, int]
    weights: Sequence[Sequence[tuple[int, float]]]


def radial(dims: tuple[int, int], terms: Terms) -> ClosedForm | None:
    """The closed form of a power; None where it has none, or is no map of a scalar and a vector.

    Args:
        dims: Components of input and output.
        terms: What it computes.
    """
    if dims[0] != 4:
        return None
    for scalar_in, vector_in in ((0, 1), (3, 0)):
        for scalar_out, vector_out in _outputs(dims[1]):
            components = scalar_in, vector_in, scalar_out, vector_out
            form = _fitted(components, terms)
            if form is not None:
                return form
    return None


def _outputs(out: int) -> Iterator[tuple[int, int]]:
    """Where a scalar and a vector can be among components."""
    yield from {1: [(0, -1)], 3: [(-1, 0)], 4: [(0, 1), (3, 0)]}.get(out, [])


def _fitted(components: tuple[int, int, int, int], terms: Terms) -> ClosedForm | None:
    left = dict(terms)
    largest = max((abs(value) for own in terms.values() for _, value in own), default=0.0)
    spread, weights = 0.0, []
    for pairs in _pairs(*components):
        members: list[dict[int, float]] = [dict(left.pop(pair, ())) for pair in pairs]
        known = sorted({weight for own in members for weight in own})
        values = [[own.get(weight, 0.0) for own in members] for weight in known]
        spread = max([spread, *(max(own) - min(own) for own in values)])
        weights.append(
            [(p, math.fsum(own) / len(own)) for p, own in zip(known, values, strict=True)]
        )
    if left or spread > _SINGLE * largest:
        return None
    return ClosedForm(2 if spread <= _DOUBLE * largest else 1, components, weights)


def _pairs(
    scalar_in: int, vector_in: int, scalar_out: int, vector_out: int
) -> Iterator[list[tuple[int, Monomial]]]:
    """For each term the pairs that it stands for; none where the output lacks it."""
    axes = range(vector_in, vector_in + 3)
    for s, q in _OF_SCALAR:
        squares = [(i, i) for i in axes] if q else [()]
        own = [] if scalar_out < 0 else squares
        yield [(scalar_out, _sorted(s * (scalar_in,), square)) for square in own]
    for s, q in _OF_VECTOR:
        squares = [(i, i) for i in axes] if q else [()]
        yield [
            (vector_out + axis - vector_in, _sorted(s * (scalar_in,), (axis,), square))
            for axis in axes if vector_out >= 0 for square in squares
        ]  # fmt: skip


def _sorted(*factors: Monomial) -> Monomial:
    return tuple(sorted(i for own in factors for i in own))


def section(numel: int, form: ClosedForm) -> tuple[list[Any], list[float]]:
    """Numbers of a program for the kernel: by term, and once more by weight.

    Returns:
        Parts of its int32 numbers, and its coefficients.
    """
    flat = [(term, p, value) for term, own in enumerate(form.weights) for p, value in own]
    by_weight = sorted(flat, key=lambda item: item[1])
    terms = len(form.weights)
    ints = [
        list(form.components),
        np.searchsorted([term for term, _, _ in flat], np.arange(terms + 1)),
        [p for _, p, _ in flat],
        np.searchsorted([p for _, p, _ in by_weight], np.arange(numel + 1)),
        [term for term, _, _ in by_weight],
    ]
    return ints, [v for *_, v in flat] + [v for *_, v in by_weight]

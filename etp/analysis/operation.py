"""Do two products compute the same thing?

Every product here is a sum of weighted paths. Two are the same operation when they have the same
outputs and their coefficients agree up to a factor for each degree of an input or output: such
factors are a choice of normalisation, which any linear layer before or after absorbs. Free weights
are part of the operation: one for each path is more than one for each degree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-6
"""Relative; coefficients are measured in float64."""

OF_COUPLINGS = "coupling"
"""What the weights of powers scale."""

Labels = tuple[str, str, str]


@dataclass(frozen=True)
class Operation:
    """Paths of a product as measured.

    Attributes:
        keeps_paths: Whether each path has an output of its own.
        weights_per: What its free weights scale, ``path``, ``degree`` or, of powers, ``coupling``.
        coefficients: For each path (irreps of both inputs and the output) its coefficient. Of
            powers for each coupling in each independent polynomial: the label of the polynomial,
            that of the coupling, and the output.
    """

    keeps_paths: bool
    weights_per: str
    coefficients: Mapping[Labels, float]

    @classmethod
    def of_result(cls, result: Mapping[str, Any]) -> Operation:
        """Read the result of an ``interactions`` row."""
        triples = [(a, b, c) for a, b, c in result["triples"]]
        keeps_paths = bool(result.get("keeps_paths", False))
        return cls(
            keeps_paths,
            # Rows of earlier versions hold no product with weights of another kind.
            str(result.get("weights_per", "path" if keeps_paths else "degree")),
            dict(zip(triples, result["coefficients"], strict=True)),
        )


def same_operation(first: Operation, second: Operation) -> bool:
    """Whether both have the same outputs and the same paths up to factors for each degree."""
    if (first.keeps_paths, first.weights_per) != (second.keeps_paths, second.weights_per):
        return False
    if first.coefficients.keys() != second.coefficients.keys():
        return False
    if first.weights_per == OF_COUPLINGS:
        # Polynomials of one input, in echelon form: no factor of theirs is free.
        return all(
            abs(second.coefficients[path] - value) <= TOLERANCE * max(1.0, abs(value))
            for path, value in first.coefficients.items()
        )
    if first.keeps_paths:
        # Each path has its own output, whose factor is free.
        return True
    paths = list(first.coefficients)
    ratios = np.array([second.coefficients[p] / first.coefficients[p] for p in paths])
    incidence = _incidence(paths)
    return _solvable(incidence, np.log(np.abs(ratios))) and _signs_solvable(
        incidence, (ratios < 0).astype(int)
    )


def _incidence(paths: Sequence[Labels]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which factors each path carries: ``(paths, factors)`` of 0 and 1."""
    keys = sorted({(side, ir) for path in paths for side, ir in enumerate(path)})
    place = {key: i for i, key in enumerate(keys)}
    table = np.zeros((len(paths), len(keys)), dtype=np.int64)
    for row, path in enumerate(paths):
        for side, ir in enumerate(path):
            table[row, place[side, ir]] = 1
    return table


def _solvable(incidence: np.ndarray[Any, Any], logs: np.ndarray[Any, Any]) -> bool:
    """Whether the sizes of the ratios are products of factors."""
    fitted, *_ = np.linalg.lstsq(incidence.astype(float), logs, rcond=None)
    return bool(np.abs(incidence @ fitted - logs).max() < TOLERANCE)


def _signs_solvable(incidence: np.ndarray[Any, Any], odd: np.ndarray[Any, Any]) -> bool:
    """Whether the signs are products of signs: elimination over the field of two elements."""
    table = np.column_stack([incidence % 2, odd])
    top = 0
    for column in range(incidence.shape[1]):
        pivots = np.flatnonzero(table[top:, column])
        if not len(pivots):
            continue
        table[[top, top + pivots[0]]] = table[[top + pivots[0], top]]
        others = np.flatnonzero(table[:, column])
        table[others[others != top]] ^= table[top]
        top += 1
        if top == len(table):
            return True
    return not table[top:, -1].any()

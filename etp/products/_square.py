r"""Products by way of square matrices, as a description: :math:`z = \sum_g C_g (A_g(x) B_g(y))`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from etp.products._description import ONE_SLOT


class Grade(NamedTuple):
    """One of the matrix products that are added up; float64 tables.

    Attributes:
        first: Matrices of the components of input 1, (dim1, side^2).
        second: Of input 2, (dim2, side^2).
        out: What reads components off a matrix, (side^2, dim_out).
    """

    first: Tensor
    second: Tensor
    out: Tensor


class Matrices(NamedTuple):
    """A sum of products of square matrices.

    Attributes:
        side: Rows of a matrix.
        grades: What is added up.
    """

    side: int
    grades: Sequence[Grade]

    @property
    def slots(self) -> Sequence[Sequence[int]]:
        """One for each component."""
        return ONE_SLOT

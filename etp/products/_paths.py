"""Products given by coefficients of their paths, as a description: sparse, or dense by pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from etp.kernels.on_cpu import compose
from etp.kernels.sparse import SparseTable
from etp.maths import so3
from etp.maths.layout import slices
from etp.product.base import Path, TensorProduct
from etp.products._description import ONE_SLOT


class Between(NamedTuple):
    """One path: where its irreps lie in one channel's features, and its coefficients.

    Attributes:
        places: Of both inputs and the output.
        matrix: Float64, (dim1, dim2, dim_out).
    """

    places: tuple[slice, slice, slice]
    matrix: Tensor


class Paths(NamedTuple):
    """Sum over paths of ``x[i] y[j] matrix[i, j, k]``, added to component k.

    Attributes:
        dims: Components of both inputs and the output.
        paths: What is added up.
        dense: Whether zeros are multiplied too, as one matrix for each pair of irreps.
    """

    dims: tuple[int, int, int]
    paths: Sequence[Between]
    dense: bool = False

    @property
    def slots(self) -> Sequence[Sequence[int]]:
        """One for each component."""
        return ONE_SLOT

    def entries(self) -> tuple[Tensor, Tensor]:
        """Components (i, j, k) of the coefficients that are not zero, (3, entries); the values."""
        places, values = [], []
        for path in self.paths:
            indices = (path.matrix.abs() > so3.ZERO).nonzero(as_tuple=True)
            starts = (part.start for part in path.places)
            places.append(torch.stack([s + i for s, i in zip(starts, indices, strict=True)]))
            values.append(path.matrix[indices])
        return torch.cat(places, dim=1), torch.cat(values)

    def macs(self) -> int:
        """Multiply-adds: of pairs dense ones, else of the table."""
        if self.dense:
            return sum(pair.matrix.shape[0] + pair.matrix.numel() for pair in self.pairs())
        entries, _ = self.entries()
        # One for each entry, and one for each product of two components that occurs.
        return entries.shape[1] + torch.unique(entries[:2], dim=1).shape[1]

    def table(self, owner: TensorProduct, name: str) -> SparseTable:
        """The coefficients for a walk, kept in a product under a name."""
        return SparseTable(owner, name, *self.entries(), self.dims)

    def read(self, side: int) -> list[Tensor]:
        """Components that each path reads of an input."""
        parts = (path.places[side] for path in self.paths)
        return [torch.arange(part.start, part.stop) for part in parts]

    def with_copies(self, side: int) -> Paths:
        """The same with a copy for each path of what it reads of an input."""
        dims, paths, start = list(self.dims), [], 0
        for path in self.paths:
            places, dim = list(path.places), path.matrix.shape[side]
            places[side] = slice(start, start + dim)
            paths.append(Between((places[0], places[1], places[2]), path.matrix))
            start += dim
        dims[side] = start
        return self._replace(dims=(dims[0], dims[1], dims[2]), paths=paths)

    def pairs(self) -> list[Pair]:
        """The paths of each pair of irreps together."""
        members: dict[tuple[int, int], list[int]] = {}
        for number, path in enumerate(self.paths):
            first, second, _ = path.places
            members.setdefault((first.start, second.start), []).append(number)
        return [self._pair(numbers) for numbers in members.values()]

    def _pair(self, numbers: Sequence[int]) -> Pair:
        paths = [self.paths[number] for number in numbers]
        first, second, _ = paths[0].places
        return Pair(
            first,
            second,
            torch.cat([path.matrix.flatten(0, 1) for path in paths], dim=1),
            torch.cat([torch.arange(p.places[2].start, p.places[2].stop) for p in paths]),
            torch.cat(
                [
                    torch.full((path.matrix.shape[2],), n)
                    for n, path in zip(numbers, paths, strict=True)
                ]
            ),
        )


class Pair(NamedTuple):
    """All paths of one irrep of each input: an outer product and one dense matrix.

    Attributes:
        first: Where the irrep of input 1 lies.
        second: That of input 2.
        matrix: (dim1 * dim2, columns).
        out: Component that each column is added to.
        path: Number of its path.
    """

    first: slice
    second: slice
    matrix: Tensor
    out: Tensor
    path: Tensor

    def dense(self) -> compose.Dense:
        """As tile programs take it."""
        target = self.out.to(torch.int32).numpy()
        return self.first, self.second, self.matrix.numpy(), np.ascontiguousarray(target)


def paths_of(product: TensorProduct, *, dense: bool = False) -> Paths:
    """Describe a product by its own claims.

    Args:
        product: Its irreps and paths are used.
        dense: As in :class:`Paths`.
    """
    parts1, parts2, outputs = map(slices, (product.irs_in1, product.irs_in2, product.irs_out))
    paths = []
    for number, path in enumerate(product.paths):
        own = number if product.keeps_paths else product.irs_out.index(path.ir_out)
        places = (
            parts1[product.irs_in1.index(path.ir_in1)],
            parts2[product.irs_in2.index(path.ir_in2)],
            outputs[own],
        )
        paths.append(Between(places, coefficients(path)))
    return Paths((parts1[-1].stop, parts2[-1].stop, outputs[-1].stop), paths, dense)


def coefficients(path: Path) -> Tensor:
    """Of a path, float64, (dim1, dim2, dim_out)."""
    degrees = path.ir_in1.l, path.ir_in2.l, path.ir_out.l
    return path.coefficient * so3.clebsch_gordan(*degrees)

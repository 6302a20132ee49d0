"""Tile programs: bilinear maps as steps on rows of a tile of samples, run by ``tile.c``.

A row holds one component of every sample of a tile. A program reads its inputs into rows, works
through its steps and writes rows back; nothing in between touches memory. Coefficients are float64
and cast last, once for each precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

DENSE, SPARSE, OUTER, SPREAD, MULTIPLY, MATRIX, ZERO = range(7)
"""Codes of the steps, as in ``tile.c``."""
_ONTO = {0: 0, 1: 1, -1: 2}
_VERSION = 1
"""Of the layout of :meth:`Program.code`: a graph kept on disk may be older than the library."""

Rows = NDArray[np.int32]
NEGLIGIBLE = 1e-14
"""Entries below this are rounding errors of zero; coefficients have sizes near 1."""


class DensePart(NamedTuple):
    """Dense part of a linear map: ``target = source @ matrix``."""

    source: Rows
    target: Rows
    matrix: NDArray[np.float64]

    def transposed(self) -> DensePart:
        """The transposed map, from targets to sources."""
        return DensePart(self.target, self.source, self.matrix.T)


class LinearMap(NamedTuple):
    """Chain of block diagonal maps.

    Attributes:
        widths: Number of rows before, between and after the stages.
        stages: Blocks of each stage; rows count from 0 in each of its two sides.
    """

    widths: tuple[int, ...]
    stages: tuple[tuple[DensePart, ...], ...]

    def transposed(self) -> LinearMap:
        """The transposed map."""
        stages = tuple(
            _disjoint([block.transposed() for block in stage]) for stage in reversed(self.stages)
        )
        return LinearMap(self.widths[::-1], stages)

    @property
    def macs(self) -> int:
        """Multiply-adds for one sample."""
        return sum(block.matrix.size for stage in self.stages for block in stage)


def _disjoint(blocks: Sequence[DensePart]) -> tuple[DensePart, ...]:
    """Blocks that share targets as one: a step writes its targets and adds nothing to them."""
    members: dict[int, list[DensePart]] = {}
    group_of: dict[int, int] = {}
    for number, block in enumerate(blocks):
        rows = block.target.tolist()
        met = {group_of[row] for row in rows if row in group_of}
        members[number] = [b for group in sorted(met) for b in members.pop(group)] + [block]
        rows += [row for row, group in group_of.items() if group in met]
        group_of |= dict.fromkeys(rows, number)
    return tuple(_joined(group) for group in members.values())


def _joined(blocks: Sequence[DensePart]) -> DensePart:
    if len(blocks) == 1:
        return blocks[0]
    targets = np.unique(np.concatenate([block.target for block in blocks]))
    matrices = []
    for block in blocks:
        matrix = np.zeros((len(block.source), len(targets)))
        matrix[:, np.searchsorted(targets, block.target)] = block.matrix
        matrices.append(matrix)
    return DensePart(
        np.concatenate([block.source for block in blocks]), targets, np.concatenate(matrices)
    )


class Program:
    """Steps with their indices and coefficients.

    Args:
        inputs: Components of each input, at most three.
        outputs: Components of each output, at most two.

    Attributes:
        in_rows: First row of each input.
        out_rows: First row of each output.
        macs: Multiply-adds for one sample.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.rows = 0
        self.macs = 0
        self.steps: list[tuple[int, ...]] = []
        self._index: list[Rows] = []
        self._table: list[NDArray[np.float64]] = []
        self._used = [0, 0]
        self.in_rows = tuple(self.take(n) for n in inputs)
        self.out_rows = tuple(self.take(n) for n in outputs)

    def take(self, count: int) -> int:
        """Reserve rows; returns the first."""
        first, self.rows = self.rows, self.rows + count
        return first

    def linear(self, source: int, target: int, chain: LinearMap) -> Self:
        """Apply a chain of block diagonal maps."""
        middle = [self.take(width) for width in chain.widths[1:-1]]
        at = [source, *middle, target]
        for stage, start, end in zip(chain.stages, at, at[1:], strict=False):
            for block in stage:
                self.macs += block.matrix.size
                index = self._keep_index(block.source + start, block.target + end)
                table = self._keep_table(block.matrix.ravel())
                inner, outer = block.matrix.shape
                self._step(DENSE, outer, first=inner, index=index, table=table)
        return self

    def sparse(
        self, rows: Rows, target: Rows, source: Rows, values: ArrayLike, *, add: bool = False
    ) -> Self:
        """Apply compressed rows: entries rows[r]..rows[r + 1] make row ``target[r]``."""
        weights = np.asarray(values, dtype=np.float64)
        self.macs += len(weights)
        index = self._keep_index(rows, target, source)
        table = self._keep_table(weights)
        return self._step(SPARSE, len(target), index=index, table=table, other=int(add))

    def sparse_matrix(
        self, source: int, target: int, matrix: ArrayLike, *, add: bool = False
    ) -> Self:
        """Apply a matrix, inputs by outputs, by its non-zeros."""
        values = np.asarray(matrix, dtype=np.float64).T
        out, inner = (np.abs(values) > NEGLIGIBLE).nonzero()
        rows = np.searchsorted(out, np.arange(len(values) + 1)).astype(np.int32)
        to = np.arange(target, target + len(values), dtype=np.int32)
        return self.sparse(rows, to, (inner + source).astype(np.int32), values[out, inner], add=add)

    def outer(self, pairs: Rows, target: int) -> Self:
        """Products of pairs of rows, ``pairs`` of shape (n, 2)."""
        self.macs += len(pairs)
        return self._step(OUTER, len(pairs), target, index=self._keep_index(pairs.ravel()))

    def spread(self, pairs: Rows, source: int, first: int, second: int) -> Self:
        """Transpose of :meth:`outer`; gradients lie ``first`` and ``second`` rows behind."""
        self.macs += 2 * len(pairs)
        index = self._keep_index(pairs.ravel())
        return self._step(SPREAD, len(pairs), source, first, second, index)

    def multiply(self, target: int, first: int, second: int, count: int, onto: int = 0) -> Self:
        """Row by row products of ``count`` rows: written (0), added (1) or subtracted (-1)."""
        self.macs += count
        return self._step(MULTIPLY, count, target, first, second, other=_ONTO[onto])

    def matrix(self, target: int, first: int, second: int, side: int, turned: int = 0) -> Self:
        """Product of square matrices; ``turned`` 1 transposes the first, 2 the second."""
        self.macs += side**3
        return self._step(MATRIX, side, target, first, second, other=turned)

    def zero(self, target: int, count: int) -> Self:
        """Clear rows."""
        return self._step(ZERO, count, target)

    def code(self) -> Rows:
        """Shape, steps and indices in one array, as ``operator.cpp`` reads it."""
        three = [*self.in_rows, 0, 0][:3], [*self.inputs, 0, 0][:3]
        two = [*self.out_rows, 0][:2], [*self.outputs, 0][:2]
        counts = len(self.steps), self._used[0], self._used[1], self.rows
        sides = len(self.inputs), len(self.outputs), *chain(*three, *two)
        head = (_VERSION, *counts, *divmod(self.macs, 1 << 31), *sides)
        steps = np.asarray(self.steps, dtype=np.int32).ravel()
        return np.concatenate([np.asarray(head, dtype=np.int32), steps, *self._index])

    def table(self) -> NDArray[np.float64]:
        """All coefficients."""
        return np.concatenate([np.zeros(0), *self._table])

    def _step(
        self,
        code: int,
        size: int,
        target: int = 0,
        first: int = 0,
        second: int = 0,
        index: int = 0,
        table: int = 0,
        other: int = 0,
    ) -> Self:
        self.steps.append((code, size, target, first, second, index, table, other))
        return self

    def _keep_index(self, *parts: Rows) -> int:
        self._index += [np.asarray(part, dtype=np.int32) for part in parts]
        return self._advance(0, sum(len(part) for part in parts))

    def _keep_table(self, values: NDArray[np.float64]) -> int:
        self._table.append(values)
        return self._advance(1, len(values))

    def _advance(self, which: int, count: int) -> int:
        start = self._used[which]
        self._used[which] += count
        return start


class Bilinear:
    """A bilinear map and its derivative.

    Attributes:
        forward: (x, y) to z.
        gradient: (gradient of z, x, y) to the gradients of x and y.
        kept: What :mod:`etp.kernels.on_cpu.tile` made of it, by dtype; stays behind in a
            copy.
    """

    def __init__(self, forward: Program, gradient: Program) -> None:
        self.forward, self.gradient = forward, gradient
        self.kept: dict[Any, Any] = {}

    def __iter__(self) -> Iterator[Program]:
        """Both programs."""
        yield from (self.forward, self.gradient)

    def __reduce__(self) -> tuple[type[Self], tuple[Program, Program]]:
        """Copies and pickles, without what was kept."""
        return type(self), (self.forward, self.gradient)

    @classmethod
    def of_dims(cls, dims: tuple[int, int, int]) -> Self:
        """Two programs without steps, for features of (dim1, dim2, dim_out) components."""
        d1, d2, d3 = dims
        return cls(Program((d1, d2), (d3,)), Program((d3, d1, d2), (d1, d2)))


def packed(both: Bilinear, dtype: np.dtype[np.floating]) -> tuple[Rows, NDArray[np.floating]]:
    """Code and coefficients of both programs, one behind the other."""
    codes, tables = ([program.code() for program in both], [program.table() for program in both])
    return np.concatenate(codes), np.concatenate(tables).astype(dtype)

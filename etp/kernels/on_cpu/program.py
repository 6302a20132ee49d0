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

DENSE, SPARSE, OUTER, SPREAD, MULTIPLY, MATRIX, ZERO, BUTTERFLY = range(8)
"""Codes of the steps, as in ``tile.c``."""
_ONTO = {0: 0, 1: 1, -1: 2}
_VERSION = 4
"""Of the layout of :meth:`Program.code`: a graph kept on disk may be older than the library."""

Rows = NDArray[np.int32]
Sizes = tuple[int, int, int]
"""Of a matrix product: rows, inner, columns."""
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


class MatrixView(NamedTuple):
    """A matrix in rows: element (i, k) is row ``start + i * step + k * inner``."""

    start: int
    step: int
    inner: int

    @property
    def transposed(self) -> MatrixView:
        """Rows and columns exchanged."""
        return MatrixView(self.start, self.inner, self.step)

    def moved(self, by: int) -> MatrixView:
        """The same some rows behind."""
        return self._replace(start=self.start + by)

    def rows(self, height: int, width: int) -> Rows:
        """Where the elements of a matrix of this size are, row by row."""
        i, k = np.indices((height, width), dtype=np.int32)
        return (self.start + i * self.step + k * self.inner).ravel()


class Coefficients:
    """Numbers that steps share: what was kept before is not kept again."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[NDArray[np.float64]] = []
        self._starts: dict[bytes, int] = {}

    def keep(self, values: NDArray[np.float64]) -> int:
        """First place of these values."""
        key = values.tobytes()
        if key not in self._starts:
            self._starts[key] = self.count
            self._parts.append(values)
            self.count += len(values)
        return self._starts[key]

    def table(self) -> NDArray[np.float64]:
        """All of them."""
        return np.concatenate([np.zeros(0), *self._parts])


class Program:
    """Steps with their indices and coefficients.

    Args:
        inputs: Components of each input, at most three.
        outputs: Components of each output, at most two.
        coefficients: Shared with other programs; None for its own.

    Attributes:
        in_rows: First row of each input.
        out_rows: First row of each output.
        macs: Multiply-adds for one sample.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        coefficients: Coefficients | None = None,
    ) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.rows = 0
        self.macs = 0
        self.steps: list[tuple[int, ...]] = []
        self._index: list[Rows] = []
        self._indices = 0
        self._coefficients = Coefficients() if coefficients is None else coefficients
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
                self.dense(DensePart(block.source + start, block.target + end, block.matrix))
        return self

    def dense(self, block: DensePart, *, add: bool = False) -> Self:
        """Apply a matrix to any rows, which gives any others."""
        self.macs += block.matrix.size
        index = self._keep_index(block.source, block.target)
        table = self._coefficients.keep(block.matrix.ravel())
        inner, outer = block.matrix.shape
        return self._step(DENSE, outer, first=inner, index=index, table=table, other=int(add))

    def sparse(
        self, rows: Rows, target: Rows, source: Rows, values: ArrayLike, *, add: bool = False
    ) -> Self:
        """Apply compressed rows: entries rows[r]..rows[r + 1] make row ``target[r]``.

        Rows of as many entries are done one after the other, by a loop for just so many.
        """
        counts = np.diff(rows)
        order = np.argsort(counts, kind="stable")
        entries = np.argsort(np.repeat(np.argsort(order, kind="stable"), counts), kind="stable")
        weights = np.asarray(values, dtype=np.float64)[entries]
        self.macs += len(weights)
        runs = np.stack(np.unique(counts, return_counts=True), axis=1)
        index = self._keep_index(runs.ravel(), target[order], source[entries])
        table = self._coefficients.keep(weights)
        return self._step(
            SPARSE, len(target), first=len(runs), index=index, table=table, other=int(add)
        )

    def sparse_matrix(
        self, source: int, target: int, matrix: ArrayLike, *, add: bool = False
    ) -> Self:
        """Apply a matrix, inputs by outputs, by its non-zeros."""
        values = np.asarray(matrix, dtype=np.float64)
        inner, outer = (np.arange(size, dtype=np.int32) for size in values.shape)
        return self.sparse_block(DensePart(inner + source, outer + target, values), add=add)

    def sparse_block(self, block: DensePart, *, add: bool = False) -> Self:
        """Apply a matrix by its non-zeros to any rows, which gives any others."""
        values = block.matrix.T
        out, inner = (np.abs(values) > NEGLIGIBLE).nonzero()
        rows = np.searchsorted(out, np.arange(len(values) + 1)).astype(np.int32)
        return self.sparse(rows, block.target, block.source[inner], values[out, inner], add=add)

    def outer(self, pairs: Rows, target: int) -> Self:
        """Products of pairs of rows, ``pairs`` of shape (n, 2)."""
        self.macs += len(pairs)
        return self._step(OUTER, len(pairs), target, index=self._keep_index(pairs.ravel()))

    def spread(self, pairs: Rows, source: int, first: int, second: int) -> Self:
        """Transpose of :meth:`outer`; gradients lie ``first`` and ``second`` rows behind."""
        self.macs += 2 * len(pairs)
        index = self._keep_index(pairs.ravel())
        return self._step(SPREAD, len(pairs), source, first, second, index)

    def butterfly(self, pairs: Rows) -> Self:
        """Sums and differences of pairs of rows, ``pairs`` of shape (n, 2), in their place."""
        self.macs += 2 * len(pairs)
        return self._step(BUTTERFLY, len(pairs), index=self._keep_index(pairs.ravel()))

    def multiply(self, target: int, first: int, second: int, count: int, onto: int = 0) -> Self:
        """Row by row products of ``count`` rows: written (0), added (1) or subtracted (-1)."""
        self.macs += count
        return self._step(MULTIPLY, count, target, first, second, other=_ONTO[onto])

    def matrix(self, target: int, first: int, second: int, side: int, turned: int = 0) -> Self:
        """Product of square matrices; ``turned`` 1 transposes the first, 2 the second."""
        a, b = MatrixView(first, side, 1), MatrixView(second, side, 1)
        return self.product(
            MatrixView(target, side, 1),
            a.transposed if turned == 1 else a,
            b.transposed if turned == 2 else b,
            (side, side, side),
        )

    def product(
        self,
        target: MatrixView,
        first: MatrixView,
        second: MatrixView,
        sizes: Sizes,
        *,
        add: bool = False,
    ) -> Self:
        """Product of two matrices of (rows, inner) and (inner, columns)."""
        rows, inner, columns = sizes
        self.macs += rows * inner * columns
        apart = [n for view in (target, first, second) for n in view[1:]]
        index = self._keep_index(np.array([*sizes, *apart], dtype=np.int32))
        starts = target.start, first.start, second.start
        return self._step(MATRIX, 0, *starts, index=index, other=int(add))

    def zero(self, target: int, count: int) -> Self:
        """Clear rows."""
        return self._step(ZERO, count, target)

    def code(self, channels: int = 1, widths: Sequence[int] = ()) -> Rows:
        """Shape, steps, indices and widths in one array, as ``operator.cpp`` reads it.

        Args:
            channels: Of each block of features.
            widths: Of the blocks of all inputs and then outputs; empty where each is one.
        """
        three = [*self.in_rows, 0, 0][:3], [*self.inputs, 0, 0][:3]
        two = [*self.out_rows, 0][:2], [*self.outputs, 0][:2]
        counts = len(self.steps), self._indices, self._coefficients.count, self.rows
        sides = len(self.inputs), len(self.outputs), *chain(*three, *two)
        head = (_VERSION, *counts, *divmod(self.macs, 1 << 31), *sides, channels, len(widths))
        first, last = (np.asarray(part, dtype=np.int32) for part in (head, widths))
        return np.concatenate([first, self.body(), last])

    def body(self) -> Rows:
        """Steps and then their indices."""
        steps = np.asarray(self.steps, dtype=np.int32).ravel()
        return np.concatenate([steps, *self._index])

    def table(self) -> NDArray[np.float64]:
        """All coefficients."""
        return self._coefficients.table()

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
        start = self._indices
        self._index += [np.asarray(part, dtype=np.int32) for part in parts]
        self._indices += sum(len(part) for part in parts)
        return start


class Lie(NamedTuple):
    """How features of several channels lie: blocks of (channels, width), one for each irrep.

    Attributes:
        channels: Of every block.
        widths: Of the blocks of both inputs and of the output.
    """

    channels: int
    widths: tuple[Sequence[int], Sequence[int], Sequence[int]]


ONE_CHANNEL = Lie(1, ((), (), ()))


class Bilinear:
    """A bilinear map and its derivative.

    Attributes:
        forward: (x, y) to z.
        gradient: (gradient of z, x, y) to the gradients of x and y.
        lie: How features lie.
        kept: What :mod:`etp.kernels.on_cpu.tile` made of it, by dtype; stays behind in a
            copy.
    """

    def __init__(self, forward: Program, gradient: Program, lie: Lie = ONE_CHANNEL) -> None:
        self.forward, self.gradient, self.lie = forward, gradient, lie
        self.kept: dict[Any, Any] = {}

    def __iter__(self) -> Iterator[Program]:
        """Both programs."""
        yield from (self.forward, self.gradient)

    def __reduce__(self) -> tuple[type[Self], tuple[Program, Program, Lie]]:
        """Copies and pickles, without what was kept."""
        return type(self), (self.forward, self.gradient, self.lie)

    def across(self, channels: int, widths: Sequence[Sequence[int]]) -> Self:
        """The same map on features of several channels.

        Args:
            channels: Of every block.
            widths: Of the blocks of both inputs and of the output.
        """
        first, second, out = widths
        return type(self)(self.forward, self.gradient, Lie(channels, (first, second, out)))

    def codes(self) -> Iterator[Rows]:
        """Code of both programs."""
        channels, (x, y, z) = self.lie
        yield self.forward.code(channels, (*x, *y, *z))
        yield self.gradient.code(channels, (*z, *x, *y, *x, *y))

    @classmethod
    def of_dims(cls, dims: tuple[int, int, int]) -> Self:
        """Two programs without steps, for features of (dim1, dim2, dim_out) components."""
        d1, d2, d3 = dims
        return cls(Program((d1, d2), (d3,)), Program((d3, d1, d2), (d1, d2)))


def packed(both: Bilinear, dtype: np.dtype[np.floating]) -> tuple[Rows, NDArray[np.floating]]:
    """Code and coefficients of both programs, one behind the other."""
    tables = [program.table() for program in both]
    return np.concatenate(list(both.codes())), np.concatenate(tables).astype(dtype)

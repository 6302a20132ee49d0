"""Tile programs: bilinear maps as steps on rows of a tile of samples, run by ``tile.c``.

A row holds one component of every sample of a tile. A program reads its inputs into rows, works
through its steps and writes rows back; nothing in between touches memory. Coefficients are float64
and cast last, once for each precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

DENSE, SPARSE, OUTER, SPREAD, MULTIPLY, MATRIX, ZERO = range(7)
"""Codes of the steps, as in ``tile.c``."""

Rows = NDArray[np.int32]
NEGLIGIBLE = 1e-14
"""Entries below this are rounding errors of zero; coefficients have sizes near 1."""


class Block(NamedTuple):
    """Dense part of a linear map: ``target = source @ matrix``."""

    source: Rows
    target: Rows
    matrix: NDArray[np.float64]

    def transposed(self) -> Block:
        """The transposed map, from targets to sources."""
        return Block(self.target, self.source, self.matrix.T)


class LinearMap(NamedTuple):
    """Chain of block diagonal maps.

    Attributes:
        widths: Number of rows before, between and after the stages.
        stages: Blocks of each stage; rows count from 0 in each of its two sides.
    """

    widths: tuple[int, ...]
    stages: tuple[tuple[Block, ...], ...]

    @classmethod
    def of_matrix(cls, matrix: ArrayLike) -> LinearMap:
        """One dense matrix, inputs by outputs."""
        values = np.asarray(matrix, dtype=np.float64)
        sides = [np.arange(n, dtype=np.int32) for n in values.shape]
        return cls(values.shape, ((Block(sides[0], sides[1], values),),))

    def transposed(self) -> LinearMap:
        """The transposed map."""
        stages = tuple(tuple(b.transposed() for b in stage) for stage in reversed(self.stages))
        return LinearMap(self.widths[::-1], stages)

    @property
    def macs(self) -> int:
        """Multiply-adds for one sample."""
        return sum(block.matrix.size for stage in self.stages for block in stage)


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

    def multiply(self, target: int, first: int, second: int, count: int, *, add: bool) -> Self:
        """Row by row products of ``count`` rows, added to what is there if asked."""
        self.macs += count
        return self._step(MULTIPLY, count, target, first, second, other=int(add))

    def matrix(self, target: int, first: int, second: int, side: int, turned: int = 0) -> Self:
        """Product of square matrices; ``turned`` 1 transposes the first, 2 the second."""
        self.macs += side**3
        return self._step(MATRIX, side, target, first, second, other=turned)

    def zero(self, target: int, count: int) -> Self:
        """Clear rows."""
        return self._step(ZERO, count, target)

    def arrays(self, dtype: np.dtype[np.floating]) -> tuple[Rows, Rows, NDArray[np.floating]]:
        """Steps, indices and coefficients as ``tile.c`` reads them."""
        steps = np.asarray(self.steps, dtype=np.int32)
        index = np.concatenate(self._index) if self._index else np.zeros(1, np.int32)
        table = np.concatenate(self._table) if self._table else np.zeros(1)
        return steps, index, table.astype(dtype)

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


class Bilinear(NamedTuple):
    """A bilinear map and its derivative.

    Attributes:
        forward: (x, y) to z.
        gradient: (gradient of z, x, y) to the gradients of x and y.
    """

    forward: Program
    gradient: Program

    @classmethod
    def of_dims(cls, dims: tuple[int, int, int]) -> Bilinear:
        """Two programs without steps, for features of (dim1, dim2, dim_out) components."""
        d1, d2, d3 = dims
        return cls(Program((d1, d2), (d3,)), Program((d3, d1, d2), (d1, d2)))


_GROUP = 128
"""Pairs of components held at once: their rows and those they feed fit the first-level cache."""


def of_entries(
    entries: NDArray[np.integer], values: ArrayLike, dims: tuple[int, int, int]
) -> Bilinear:
    """Programs of a table of non-zeros, ``z[k] += value * x[i] * y[j]``.

    Each product x[i] y[j] is made once. Products are taken in groups that share as many outputs as
    they can, so that an output is mostly complete within one group.

    Args:
        entries: Components (i, j, k) of each entry, shape (3, entries).
        values: Coefficients, shape (entries,).
        dims: Numbers of components (dim1, dim2, dim_out).
    """
    i, j, k = (np.asarray(part, dtype=np.int64) for part in entries)
    values = np.asarray(values, dtype=np.float64)
    pairs, pair = np.unique(i * dims[1] + j, return_inverse=True)
    group_of = _groups(pair, k, len(pairs), dims[2])
    both = Bilinear.of_dims(dims)
    forward, gradient = both
    x, y = forward.in_rows
    g, gx_in, gy_in = gradient.in_rows
    to_x, to_y = (out - row for out, row in zip(gradient.out_rows, (gx_in, gy_in), strict=True))
    widest = int(np.bincount(group_of).max())
    products, back = forward.take(widest), gradient.take(widest)
    gradient.zero(gradient.out_rows[0], dims[0]).zero(gradient.out_rows[1], dims[1])
    seen = np.zeros(dims[2], dtype=bool)
    seen[k] = True
    if not seen.all():
        forward.zero(forward.out_rows[0], dims[2])
    seen[:] = False
    entry_group = group_of[pair]
    order = np.argsort(entry_group, kind="stable")
    ends = np.searchsorted(entry_group[order], np.arange(group_of.max() + 2))
    place = np.zeros(len(pairs), dtype=np.int64)
    for number, (low, high) in enumerate(pairwise(ends)):
        members = np.flatnonzero(group_of == number)
        place[members] = np.arange(len(members))
        mine = order[low:high]
        local, out, weight = place[pair[mine]], k[mine], values[mine]
        columns = np.stack([pairs[members] // dims[1], pairs[members] % dims[1]], axis=1)
        forward.outer((columns + np.array([x, y], np.int32)).astype(np.int32), products)
        for again in (False, True):
            part = seen[out] == again
            _compressed(
                forward, out[part], local[part] + products, weight[part],
                forward.out_rows[0], add=again,
            )  # fmt: skip
        seen[out] = True
        _compressed(gradient, local, out + g, weight, back)
        gradient.spread(
            (columns + np.array([gx_in, gy_in], np.int32)).astype(np.int32), back, to_x, to_y
        )
    return both


def _compressed(
    program: Program,
    out: NDArray[np.int64],
    source: NDArray[np.int64],
    values: NDArray[np.float64],
    base: int,
    *,
    add: bool = False,
) -> None:
    """Append a sparse step: entries sorted by the row they feed."""
    if not len(out):
        return
    order = np.argsort(out, kind="stable")
    target, counts = np.unique(out, return_counts=True)
    rows = np.array([0, *accumulate(counts)], dtype=np.int32)
    program.sparse(
        rows, (target + base).astype(np.int32), source[order].astype(np.int32), values[order],
        add=add,
    )  # fmt: skip


def _groups(
    pair: NDArray[np.int64], out: NDArray[np.int64], n_pairs: int, n_out: int
) -> NDArray[np.int64]:
    """Group number of each pair: parts that share no output whole, together up to a bound."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pair), dtype=np.int8)
    graph = coo_array((ones, (pair, n_pairs + out)), shape=(n_pairs + n_out,) * 2)
    part = connected_components(graph, directed=False)[1][:n_pairs]
    _, first, part = np.unique(part, return_index=True, return_inverse=True)
    order = np.argsort(first[part], kind="stable")
    group = np.empty(n_pairs, dtype=np.int64)
    number, held, last = 0, 0, -1
    sizes = np.bincount(part)
    for p in order:
        fits = held + (sizes[part[p]] if part[p] != last else 1) <= _GROUP
        if held and not fits and (part[p] != last or held >= _GROUP):
            number, held = number + 1, 0
        group[p] = number
        held, last = held + 1, part[p]
    return group


def of_dense(
    blocks: Sequence[tuple[slice, slice, NDArray[np.float64], Rows]], dims: tuple[int, int, int]
) -> Bilinear:
    """Programs of ``z[target] = outer(x[part1], y[part2]) @ matrix`` for each block.

    Args:
        blocks: (part1, part2, matrix, target) with disjoint targets that make up the output.
        dims: Numbers of components (dim1, dim2, dim_out).
    """
    both = Bilinear.of_dims(dims)
    forward, gradient = both
    x, y = forward.in_rows
    g, gx_in, gy_in = gradient.in_rows
    to_x, to_y = (out - row for out, row in zip(gradient.out_rows, (gx_in, gy_in), strict=True))
    widest = max(len(matrix) for _, _, matrix, _ in blocks)
    products, back = forward.take(widest), gradient.take(widest)
    gradient.zero(gradient.out_rows[0], dims[0]).zero(gradient.out_rows[1], dims[1])
    for part1, part2, matrix, target in blocks:
        first, second = np.arange(part1.start, part1.stop), np.arange(part2.start, part2.stop)
        columns = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
        local = np.arange(len(matrix), dtype=np.int32)
        block = Block(local, target, matrix)
        widths = (len(matrix), dims[2])
        forward.outer((columns + np.array([x, y], np.int32)).astype(np.int32), products)
        forward.linear(products, forward.out_rows[0], LinearMap(widths, ((block,),)))
        gradient.linear(g, back, LinearMap(widths, ((block,),)).transposed())
        gradient.spread(
            (columns + np.array([gx_in, gy_in], np.int32)).astype(np.int32), back, to_x, to_y
        )
    return both


def of_signals(
    first: Mapping[int, LinearMap],
    second: Mapping[int, LinearMap],
    out: Mapping[int, LinearMap],
    dims: tuple[int, int, int],
) -> Bilinear:
    """Programs of the pointwise product of signals by sector (value parity).

    Args:
        first: Features 1 to values, by sector.
        second: Features 2 to values.
        out: Values to output features, by sector.
        dims: Numbers of components (dim1, dim2, dim_out).
    """
    both = Bilinear.of_dims(dims)
    products = [(a, b) for a in first for b in second if a * b in out]
    forward, gradient = both
    f, h = ({s: forward.take(m.widths[-1]) for s, m in maps.items()} for maps in (first, second))
    for row, maps, place in zip(forward.in_rows, (first, second), (f, h), strict=True):
        for s, chain in maps.items():
            forward.linear(row, place[s], chain)
    fh = {s: forward.take(m.widths[0]) for s, m in out.items()}
    written: set[int] = set()
    for a, b in products:
        count = out[a * b].widths[0]
        forward.multiply(fh[a * b], f[a], h[b], count, add=a * b in written)
        written.add(a * b)
    for s, chain in out.items():
        forward.linear(fh[s], forward.out_rows[0], chain)

    back = {s: gradient.take(m.widths[0]) for s, m in out.items()}
    for s, chain in out.items():
        gradient.linear(gradient.in_rows[0], back[s], chain.transposed())
    pairs = (products, [(b, a) for a, b in products])
    for which, (mine, others) in enumerate(((first, second), (second, first))):
        target, other_row = gradient.out_rows[which], gradient.in_rows[2 - which]
        gradient.zero(target, dims[which])
        values = {s: gradient.take(m.widths[-1]) for s, m in others.items()}
        for s, chain in others.items():
            gradient.linear(other_row, values[s], chain)
        for s, chain in mine.items():
            total = gradient.take(chain.widths[-1])
            met = [b for a, b in pairs[which] if a == s]
            for number, b in enumerate(met):
                count = chain.widths[-1]
                gradient.multiply(total, back[s * b], values[b], count, add=number > 0)
            if met:
                gradient.linear(total, target, chain.transposed())
    return both


class Graded(NamedTuple):
    """Tables of one product of square matrices: features to matrices, twice, and back."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    out: NDArray[np.float64]


def of_matrices(grades: Sequence[Graded], side: int) -> Bilinear:
    """Programs of a sum of matrix products, ``z = sum ((x @ first) (y @ second)) @ out``.

    Args:
        grades: Tables of each product: (dim1, side^2), (dim2, side^2) and (side^2, dim_out).
        side: Rows of a matrix.
    """
    dims = len(grades[0].first), len(grades[0].second), grades[0].out.shape[1]
    both = Bilinear.of_dims(dims)
    for program in both:
        a, b, c, d, e = (program.take(side * side) for _ in range(5))
        x, y = program.in_rows[-2:]
        for number, tables in enumerate(grades):
            add = number > 0
            program.sparse_matrix(x, a, tables.first).sparse_matrix(y, b, tables.second)
            if program is both.forward:
                program.matrix(c, a, b, side)
                program.sparse_matrix(c, program.out_rows[0], tables.out, add=add)
            else:
                gx, gy = program.out_rows
                program.sparse_matrix(program.in_rows[0], c, tables.out.T)
                program.matrix(d, c, b, side, turned=2).matrix(e, a, c, side, turned=1)
                program.sparse_matrix(d, gx, tables.first.T, add=add)
                program.sparse_matrix(e, gy, tables.second.T, add=add)
    return both

"""Tile programs of the bilinear maps that products are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etp.kernels.on_cpu.folding import connected, folded
from etp.kernels.on_cpu.program import Bilinear, DensePart, LinearMap, Program, Rows

_GROUP, _WHOLE = 128, 320
"""Pairs of components held at once, where their outputs allow: their rows and those they feed fit
the first-level cache. Up to the second number those of the same outputs stay together."""


def of_entries(
    entries: NDArray[np.integer], values: ArrayLike, dims: tuple[int, int, int]
) -> Bilinear:
    """Programs of a table of non-zeros, ``z[k] += value * x[i] * y[j]``.

    Each product x[i] y[j] is made once. Products are taken in groups that share as many outputs as
    they can, so that an output is mostly complete within one group, and their coefficients folded.

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
        out, column = np.unique(k[mine], return_inverse=True)
        matrix = np.zeros((len(members), len(out)))
        np.add.at(matrix, (place[pair[mine]], column), values[mine])
        few = folded(matrix)
        target, local = out.astype(np.int32), np.arange(len(members), dtype=np.int32)
        columns = np.stack([pairs[members] // dims[1], pairs[members] % dims[1]], axis=1)
        forward.outer((columns + np.array([x, y], np.int32)).astype(np.int32), products)
        few.apply(forward, local + products, target + forward.out_rows[0], seen[out])
        seen[out] = True
        few.apply_transposed(gradient, target + g, local + back)
        gradient.spread(
            (columns + np.array([gx_in, gy_in], np.int32)).astype(np.int32), back, to_x, to_y
        )
    return both


def _groups(
    pair: NDArray[np.int64], out: NDArray[np.int64], n_pairs: int, n_out: int
) -> NDArray[np.int64]:
    """Group number of each pair: parts that share no output, together up to a bound.

    Parts are whole, for couples that can be folded are in one part, unless they are very large.
    """
    part, _ = connected(pair, out, n_pairs, n_out)
    _, first, part = np.unique(part, return_index=True, return_inverse=True)
    order = np.argsort(first[part], kind="stable")
    group = np.empty(n_pairs, dtype=np.int64)
    number, held, last = 0, 0, -1
    sizes = np.bincount(part)
    for p in order:
        large = sizes[part[p]] > _WHOLE
        fits = held + (1 if large else sizes[part[p]]) <= _GROUP
        if held and not fits and (part[p] != last or large):
            number, held = number + 1, 0
        group[p] = number
        held, last = held + 1, part[p]
    return group


Dense = tuple[slice, slice, NDArray[np.float64], Rows]
"""A block of components of each input, the matrix of their outer product, and its targets."""


def of_dense(blocks: Sequence[Dense], dims: tuple[int, int, int]) -> Bilinear:
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
        block = DensePart(local, target, matrix)
        widths = (len(matrix), dims[2])
        forward.outer((columns + np.array([x, y], np.int32)).astype(np.int32), products)
        forward.linear(products, forward.out_rows[0], LinearMap(widths, ((block,),)))
        gradient.linear(g, back, LinearMap(widths, ((block,),)).transposed())
        gradient.spread(
            (columns + np.array([gx_in, gy_in], np.int32)).astype(np.int32), back, to_x, to_y
        )
    return both


class Pointwise(NamedTuple):
    """A pointwise product of two fields that is added to a third, by their numbers."""

    first: int
    second: int
    out: int
    sign: int = 1


class FieldMap(NamedTuple):
    """Features to several fields on the same points.

    Attributes:
        chain: To the values of all fields, one field after the other.
        points: Of a field.
    """

    chain: LinearMap
    points: int

    @property
    def features(self) -> int:
        """Components before the map."""
        return self.chain.widths[0]

    @property
    def reads_all(self) -> bool:
        """Whether every component gives to some field."""
        read = np.concatenate([block.source for block in self.chain.stages[0]])
        return len(np.unique(read)) == self.features

    @property
    def values(self) -> int:
        """Values of all fields."""
        return self.chain.widths[-1]

    @property
    def fields(self) -> int:
        """Number of fields."""
        return self.values // self.points


def of_fields(maps: tuple[FieldMap, FieldMap, FieldMap], terms: Sequence[Pointwise]) -> Bilinear:
    """Programs of pointwise products of fields.

    Args:
        maps: Features of each side to fields, those of the output with quadrature weights:
            transposed, it reads fields off.
        terms: Products of fields of both inputs.
    """
    first, second, out = maps
    both = Bilinear.of_dims((first.features, second.features, out.features))
    forward, gradient = both
    x, y, z = (forward.take(side.values) for side in maps)
    forward.linear(forward.in_rows[0], x, first.chain)
    forward.linear(forward.in_rows[1], y, second.chain)
    _products(forward, out, z, x, y, terms)
    if not out.reads_all:
        forward.zero(forward.out_rows[0], out.features)
    forward.linear(z, forward.out_rows[0], out.chain.transposed())

    g = gradient.take(out.values)
    gradient.linear(gradient.in_rows[0], g, out.chain)
    # One input after the other, in the same rows: they should stay in the cache.
    widest = max(first.values, second.values)
    other, total = gradient.take(widest), gradient.take(widest)
    turned = [Pointwise(t.second, t.first, t.out, t.sign) for t in terms]
    for which, (mine, others, met) in enumerate(((first, second, terms), (second, first, turned))):
        gradient.linear(gradient.in_rows[2 - which], other, others.chain)
        back = [Pointwise(t.out, t.second, t.first, t.sign) for t in met]
        _products(gradient, mine, total, g, other, back)
        target = gradient.out_rows[which]
        gradient.zero(target, mine.features).linear(total, target, mine.chain.transposed())
    return both


def _products(
    program: Program,
    out: FieldMap,
    target: int,
    first: int,
    second: int,
    terms: Sequence[Pointwise],
) -> None:
    """Sums of products of fields; a field that no term reaches is zero."""
    points = out.points
    for number in range(out.fields):
        row = target + number * points
        # One that is added comes first: it writes where nothing is yet.
        mine = sorted((t for t in terms if t.out == number), key=lambda t: -t.sign)
        if not mine or mine[0].sign < 0:
            program.zero(row, points)
        for place, term in enumerate(mine):
            onto = 0 if place == 0 and term.sign > 0 else term.sign
            factors = first + term.first * points, second + term.second * points
            program.multiply(row, *factors, points, onto)


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
    square = np.arange(side * side, dtype=np.int32)
    read_off = [folded(tables.out) for tables in grades]
    for program in both:
        a, b, c, d, e = (program.take(side * side) for _ in range(5))
        x, y = program.in_rows[-2:]
        for number, (tables, out) in enumerate(zip(grades, read_off, strict=True)):
            add = number > 0
            program.sparse_matrix(x, a, tables.first).sparse_matrix(y, b, tables.second)
            if program is both.forward:
                program.matrix(c, a, b, side)
                again = np.full(dims[2], add)
                out.apply(program, square + c, _run(program.out_rows[0], dims[2]), again)
            else:
                gx, gy = program.out_rows
                out.apply_transposed(program, _run(program.in_rows[0], dims[2]), square + c)
                program.matrix(d, c, b, side, turned=2).matrix(e, a, c, side, turned=1)
                program.sparse_matrix(d, gx, tables.first.T, add=add)
                program.sparse_matrix(e, gy, tables.second.T, add=add)
    return both


def _run(start: int, count: int) -> Rows:
    return np.arange(start, start + count, dtype=np.int32)

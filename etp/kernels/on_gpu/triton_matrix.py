r"""Products of matrices made of features, as straight-line Triton kernels, one for each form.

.. math:: T(x, y, z) = \sum_g \mathrm{tr}\,(A_g(x)\, B_g(y)\, C_g(z))

and its derivatives are products of the same kind. Every lane holds the matrices of one row, one
channel of one sample, entry by entry in registers: :math:`C` whole, of :math:`A` a column and of
:math:`B` a row at a time, made of components where they are wanted. Entries are sparse sums, with
coefficients as numbers in the code.

Not measured on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import PRODUCT, Evaluation, Output
from etp.kernels.on_gpu.lying import Lying
from etp.kernels.on_gpu.row_form import ChannelBlock, RowForm, RowWriter
from etp.kernels.on_gpu.triton_source import Source
from etp.maths import so3

MAX_SIDE = 9
"""Rows of the largest matrices worth compiling: minutes, for second derivatives."""
MAX_NUMBERS = 280
"""Numbers of a forward product that registers hold, as not all of them are needed at once."""
MAX_HELD = 200
"""Numbers that a lane may hold to do all grades in one kernel (seen in compiled code)."""
RESULT = 2
"""Side of the result."""
Named = dict[tuple[int, int], str]
"""Variables of the entries of a matrix that are not zero."""
Sparse = Mapping[tuple[int, int], Sequence[tuple[int, float]]]
"""For each entry of a matrix the components that it is made of, with their factors."""


class GradeMatrices(NamedTuple):
    """Matrices of the components of each side, float64, shape (dim, side, side)."""

    first: Tensor
    second: Tensor
    third: Tensor


class MatrixForm(RowForm):
    """Sum over grades of traces of products of three matrices, for each channel.

    Args:
        channels: Number of channels C.
        sides: Blocks of each side, whose components the grades take in this order.
        grades: What is added up.
    """

    def __init__(
        self,
        channels: int,
        sides: Sequence[Sequence[ChannelBlock]],
        grades: Sequence[GradeMatrices],
    ) -> None:
        digest = hashlib.sha256(repr((channels, tuple(map(tuple, sides)))).encode())
        for matrices in grades:
            for matrix in matrices:
                digest.update(matrix.contiguous().numpy().tobytes())
        super().__init__(digest.hexdigest(), channels, sides)
        self.size = grades[0].first.shape[-1]
        self._grades = grades

    @cached_property
    def entries(self) -> list[tuple[Sparse, ...]]:
        """Of each grade and side, the entries that are not zero."""
        return [tuple(map(_sparse, matrices)) for matrices in self._grades]

    @override
    def sources(self, evaluation: Evaluation) -> list[Source]:
        together = self.held(evaluation) <= MAX_HELD
        parts = [self.entries] if together else [[grade] for grade in self.entries]
        return [
            _MatrixWriter(self, evaluation, grades, first=number == 0).source
            for number, grades in enumerate(parts)
        ]

    def held(self, evaluation: Evaluation) -> int:
        """Numbers that a lane holds where it does all grades: components and whole matrices."""
        sides = [*evaluation.inputs, *(out.side for out in evaluation.outputs)]
        components = sum(block.dim for side in sides for block in self.sides[side])
        return components + sides.count(RESULT) * self.size**2


def matrix_form(lies: Lying, grades: Sequence[GradeMatrices]) -> MatrixForm | None:
    """The form of a product by way of matrices; None if its kernel would not fit.

    Args:
        lies: Where the blocks of each side lie.
        grades: What is added up.
    """
    sides = lies.blocks()
    if sides is None:
        return None
    form = MatrixForm(lies.channels, sides, grades)
    return form if form.size <= MAX_SIDE and form.held(PRODUCT) <= MAX_NUMBERS else None


class _MatrixWriter(RowWriter):
    """Writes the kernel of some grades, one after the other.

    Entries of A are numbered (i, j), of B (j, k), of C (k, i). One j after the other is done:
    column j of A and row j of B meet the whole of C.
    """

    def __init__(
        self,
        form: MatrixForm,
        evaluation: Evaluation,
        grades: Sequence[tuple[Sparse, ...]],
        *,
        first: bool,
    ) -> None:
        super().__init__("matrices", form, evaluation)
        self._size = form.size
        self._components = [self._loaded(n) for n in range(len(evaluation.inputs))]
        self._sums = [
            [""] * sum(block.dim for block in form.sides[out.side]) for out in evaluation.outputs
        ]
        for entries in grades:
            self._add(entries)
        for o in range(len(evaluation.outputs)):
            self._store(o, first=first)

    def _add(self, entries: tuple[Sparse, ...]) -> None:
        """Add what one grade gives to the outputs."""
        self._entries, size = entries, range(self._size)
        inputs, outputs = self._evaluation.inputs, self._evaluation.outputs
        corners = [(k, i) for k in size for i in size]
        whole = {n: self._matrix(n, corners) for n, side in enumerate(inputs) if side == RESULT}
        totals: dict[int, Named] = {o: {} for o, out in enumerate(outputs) if out.side == RESULT}
        for j in size:
            vectors = dict(whole)
            for n, side in enumerate(inputs):
                if side != RESULT:
                    vectors[n] = self._matrix(n, self._line(side, j))
            for o, out in enumerate(outputs):
                if out.side == RESULT:
                    self._add_outer(totals[o], out, vectors, j)
                else:
                    self._read(o, self._contracted(out, vectors, j))
        for o, total in totals.items():
            self._read(o, total)

    def _loaded(self, number: int) -> list[str]:
        side = self._evaluation.inputs[number]
        blocks = range(len(self._form.sides[side]))
        return [name for b in blocks for name in self.load_input(number, b, settled=True)]

    def _line(self, side: int, j: int) -> list[tuple[int, int]]:
        """Entries of column j of A or of row j of B."""
        return [(n, j) if side == 0 else (j, n) for n in range(self._size)]

    def _matrix(self, number: int, wanted: Sequence[tuple[int, int]]) -> Named:
        """Entries of the matrix of an input that are not zero."""
        entries = self._entries[self._evaluation.inputs[number]]
        components = self._components[number]
        entry_names: Named = {}
        for place in wanted:
            parts = [(components[m], value) for m, value in entries.get(place, ())]
            if parts:
                entry_names[place] = self.source.let(_sum(parts))
        return entry_names

    def _add_outer(
        self,
        total: Named,
        out: Output,
        vectors: Mapping[int, Named],
        j: int,
    ) -> None:
        """Add column j of A times row j of B to a matrix in the places of C."""
        for i in range(self._size):
            for k in range(self._size):
                parts = [
                    f"{vectors[a][i, j]} * {vectors[b][j, k]}"
                    for a, b in out.terms
                    if (i, j) in vectors[a] and (j, k) in vectors[b]
                ]
                if parts:
                    before = [total[k, i]] if (k, i) in total else []
                    total[k, i] = self.source.let(" + ".join([*before, *parts]))

    def _contracted(
        self,
        out: Output,
        vectors: Mapping[int, Named],
        j: int,
    ) -> Named:
        """In the places of column j of A the row of B times C, of row j of B the column of A."""
        entry_names: Named = {}
        for place in self._line(out.side, j):
            at = place[out.side]
            parts = []
            for other, third in out.terms:
                for n, (row, column) in enumerate(self._line(1 - out.side, j)):
                    corner = (n, at) if out.side == 0 else (at, n)
                    if (row, column) in vectors[other] and corner in vectors[third]:
                        parts.append(f"{vectors[other][row, column]} * {vectors[third][corner]}")
            if parts:
                entry_names[place] = self.source.let(" + ".join(parts))
        return entry_names

    def _read(self, o: int, values: Named) -> None:
        """Add the components of a matrix to an output."""
        entries = self._entries[self._evaluation.outputs[o].side]
        parts: dict[int, list[tuple[str, float]]] = {}
        for place, name in values.items():
            for m, value in entries.get(place, ()):
                parts.setdefault(m, []).append((name, value))
        sums = self._sums[o]
        for m, summands in parts.items():
            before = [(sums[m], 1.0)] if sums[m] else []
            sums[m] = self.source.let(_sum([*before, *summands]))

    def _store(self, o: int, *, first: bool) -> None:
        start = 0
        for number, block in enumerate(self._form.sides[self._evaluation.outputs[o].side]):
            earlier = ["zero"] * block.dim if first else self.load_output(o, number)
            own = self._sums[o][start : start + block.dim]
            pairs = zip(earlier, own, strict=True)
            totals = [self.source.let(f"{a} + {b}") if b else a for a, b in pairs]
            self.store_output(o, number, totals)
            start += block.dim


def _sum(parts: Sequence[tuple[str, float]]) -> str:
    written = "".join(
        f" {'-' if value < 0 else '+'} " + (name if abs(value) == 1 else f"{abs(value)!r} * {name}")
        for name, value in parts
    )
    return written.removeprefix(" + ").strip()


def _sparse(matrices: Tensor) -> Sparse:
    sparse: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for m, row, column in (matrices.abs() > so3.ZERO).nonzero().tolist():
        sparse.setdefault((row, column), []).append((m, float(matrices[m, row, column])))
    return sparse


def grade_of(tables: Sequence[Tensor], size: int) -> GradeMatrices:
    """From the tables of a product: (dim1, size^2), (dim2, size^2) and (size^2, dim3)."""
    first, second, third = (table.detach().cpu().to(torch.float64) for table in tables)
    shape = (-1, size, size)
    # What is read off is Z = A B, numbered (i, k); the trace wants C numbered (k, i).
    return GradeMatrices(first.reshape(shape), second.reshape(shape), third.T.reshape(shape).mT)

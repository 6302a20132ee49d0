r"""Polynomial maps as steps on rows, and the steps of their derivatives.

A map :math:`T(x, w)` is written once, as linear maps and products (:class:`Polynomial`). Each
question that a model asks of it is a list of operations made from these by the chain rule: forwards
for the change along :math:`(h_x, h_w)`, backwards for gradients of :math:`g \cdot T`, and both for
their change (Griewank and Walther, Evaluating Derivatives, 2008, sec. 3). What an answer does not
need is left out, so that every question has a program of its own, which ``power_steps.c`` runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from etp.kernels.on_cpu.program import (
    NEGLIGIBLE,
    Coefficients,
    DensePart,
    LinearMap,
    MatrixView,
    Program,
    Rows,
    Sizes,
)

Z, GX, GW, ALONG_X, ALONG_W = (1 << n for n in range(5))
"""What may be asked, and along what it may be changed, as in ``power_steps.c``."""
_VERSION = 2
"""Of the layout of :func:`packed`: a graph kept on disk may be older than the library."""
DIRECTORY = 8
"""Numbers in front of the places of the programs."""
HEAD = 10
"""Numbers in front of a program's steps: how many, its rows, and the first of each input and
output."""
_DENSE = 0.5
"""Share of non-zeros from which a matrix is applied whole."""
Flags = NDArray[np.bool_]


class RowOperation(ABC):
    """Something that is added to rows; linear in each of its operands."""

    @property
    @abstractmethod
    def target(self) -> Rows:
        """Rows that it gives to."""

    @property
    @abstractmethod
    def operands(self) -> tuple[Rows, ...]:
        """Rows of each operand."""

    @abstractmethod
    def change(self, operand: int, by: int) -> RowOperation:
        """Change of the target along that of an operand, both ``by`` rows behind."""

    @abstractmethod
    def back(self, operand: int, by: int) -> RowOperation:
        """Gradient of an operand from that of the target, both ``by`` rows behind."""

    @abstractmethod
    def write(self, program: Program, place: Rows, *, add: bool) -> None:
        """Append it to a program, with row r at ``place[r]``."""


@dataclass(frozen=True)
class RowMap(RowOperation):
    """A matrix applied to any rows."""

    block: DensePart

    @property
    @override
    def target(self) -> Rows:
        return self.block.target

    @property
    @override
    def operands(self) -> tuple[Rows, ...]:
        return (self.block.source,)

    @override
    def change(self, operand: int, by: int) -> RowMap:
        source, target, matrix = self.block
        return RowMap(DensePart(source + by, target + by, matrix))

    @override
    def back(self, operand: int, by: int) -> RowMap:
        return RowMap(self.change(operand, by).block.transposed())

    @override
    def write(self, program: Program, place: Rows, *, add: bool) -> None:
        source, target, matrix = self.block
        block = DensePart(place[source], place[target], matrix)
        filled = np.count_nonzero(np.abs(matrix) > NEGLIGIBLE)
        write = program.dense if filled >= _DENSE * matrix.size else program.sparse_block
        write(block, add=add)


@dataclass(frozen=True)
class RowProducts(RowOperation):
    """Products of two runs of rows, row by row."""

    to: int
    factors: tuple[int, int]
    size: int

    @property
    @override
    def target(self) -> Rows:
        return _run(self.to, self.size)

    @property
    @override
    def operands(self) -> tuple[Rows, ...]:
        return tuple(_run(start, self.size) for start in self.factors)

    @override
    def change(self, operand: int, by: int) -> RowProducts:
        own, other = self.factors[operand], self.factors[1 - operand]
        return RowProducts(self.to + by, (own + by, other), self.size)

    @override
    def back(self, operand: int, by: int) -> RowProducts:
        own, other = self.factors[operand], self.factors[1 - operand]
        return RowProducts(own + by, (self.to + by, other), self.size)

    @override
    def write(self, program: Program, place: Rows, *, add: bool) -> None:
        to, first, second = (int(place[row]) for row in (self.to, *self.factors))
        program.multiply(to, first, second, self.size, int(add))


@dataclass(frozen=True)
class MatrixProduct(RowOperation):
    """MatrixProduct of matrices of (rows, inner) and (inner, columns), ``sizes`` in this order."""

    to: MatrixView
    first: MatrixView
    second: MatrixView
    sizes: Sizes

    @property
    @override
    def target(self) -> Rows:
        rows, _, columns = self.sizes
        return self.to.rows(rows, columns)

    @property
    @override
    def operands(self) -> tuple[Rows, ...]:
        rows, inner, columns = self.sizes
        return self.first.rows(rows, inner), self.second.rows(inner, columns)

    @override
    def change(self, operand: int, by: int) -> MatrixProduct:
        first, second = self.first, self.second
        if operand == 0:
            first = first.moved(by)
        else:
            second = second.moved(by)
        return MatrixProduct(self.to.moved(by), first, second, self.sizes)

    @override
    def back(self, operand: int, by: int) -> MatrixProduct:
        rows, inner, columns = self.sizes
        grad = self.to.moved(by)
        if operand == 0:
            own, sizes = self.first.moved(by), (rows, columns, inner)
            return MatrixProduct(own, grad, self.second.transposed, sizes)
        own, sizes = self.second.moved(by), (inner, rows, columns)
        return MatrixProduct(own, self.first.transposed, grad, sizes)

    @override
    def write(self, program: Program, place: Rows, *, add: bool) -> None:
        views = (self.to, self.first, self.second)
        to, first, second = (v._replace(start=int(place[v.start])) for v in views)
        program.product(to, first, second, self.sizes, add=add)


def _run(start: int, count: int) -> Rows:
    return np.arange(start, start + count, dtype=np.int32)


class Polynomial:
    """A map T(x, w), in operations that write each row once.

    Args:
        dims: Rows of x, of w and of the result.
    """

    def __init__(self, dims: tuple[int, int, int]) -> None:
        self.dims = dims
        self.rows = 0
        self.buffers: list[Rows] = []
        self.operations: list[RowOperation] = []
        self.x, self.w, self.z = (self.take(count) for count in dims)

    def take(self, count: int) -> int:
        """Reserve rows that stay side by side; returns the first."""
        first, self.rows = self.rows, self.rows + count
        self.buffers.append(_run(first, count))
        return first

    def linear(self, source: int, target: int, chain: LinearMap) -> None:
        """Apply a chain of block diagonal maps."""
        at = [source, *(self.take(width) for width in chain.widths[1:-1]), target]
        for stage, start, end in zip(chain.stages, at, at[1:], strict=False):
            for block in stage:
                moved = DensePart(block.source + start, block.target + end, block.matrix)
                self.operations.append(RowMap(moved))

    def pointwise(self, target: int, first: int, second: int, count: int) -> None:
        """Products of runs of rows."""
        self.operations.append(RowProducts(target, (first, second), count))

    def product(
        self, target: MatrixView, first: MatrixView, second: MatrixView, sizes: Sizes
    ) -> None:
        """Product of two matrices of (rows, inner) and (inner, columns)."""
        self.operations.append(MatrixProduct(target, first, second, sizes))

    def answer(self, asked: int, coefficients: Coefficients) -> Answer:
        """The program for a question, flags as :data:`Z`."""
        starts = self.x, self.w, self.z
        x, w, z = (_run(start, count) for start, count in zip(starts, self.dims, strict=True))
        by_change, by_gradient = self.rows, 2 * self.rows
        operations, result = list(self.operations), z
        if asked & (ALONG_X | ALONG_W):
            along = _chosen(self.rows, asked, ((ALONG_X, x), (ALONG_W, w)))
            operations += list(_changes(self.operations, along, by_change))
            result = z + by_change
        wanted = _chosen(by_gradient, asked, ((GX, x), (GW, w)))
        if wanted.any():
            given = _chosen(by_gradient, Z, ((Z, result),))
            operations += list(_gradients(operations, wanted, given, by_gradient))
        answers = ((Z, result), (GX, x + by_gradient), (GW, w + by_gradient))
        outputs = [rows if asked & flag else None for flag, rows in answers]
        inputs = [x, w, result + by_gradient, x + by_change, w + by_change]
        return _Writing(self, operations, coefficients).answer(inputs, outputs)


class Answer(NamedTuple):
    """A program for one question, and the first rows of x, w, g, h_x, h_w, z, g_x and g_w."""

    program: Program
    places: tuple[int, ...]

    def code(self) -> Rows:
        """What ``power_steps.c`` reads."""
        head = (len(self.program.steps), self.program.rows, *self.places)
        return np.concatenate([np.array(head, dtype=np.int32), self.program.body()])


QUESTIONS = (
    Z, GX, GW, GX | GW,
    *(sum(some) | along for along in (ALONG_X, ALONG_X | ALONG_W)
      for count in (1, 2, 3) for some in combinations((Z, GX, GW), count)),
)  # fmt: skip
"""Values, gradients, and their change along h_x, or along both."""


def packed(of: Polynomial) -> tuple[Rows, NDArray[np.float64]]:
    """The programs of all questions behind a directory of them, and their coefficients."""
    coefficients = Coefficients()
    directory = np.zeros(1 << 5, dtype=np.int32)
    parts: list[Rows] = []
    end = DIRECTORY + len(directory)
    macs = 0
    for asked in QUESTIONS:
        answer = of.answer(asked, coefficients)
        macs = macs or answer.program.macs
        parts.append(answer.code())
        directory[asked] = end
        end += len(parts[-1])
    dim, numel, out = of.dims
    head = np.array([dim, out, numel, 0, macs, _VERSION, 0, 0], dtype=np.int32)
    return np.concatenate([head, directory, *parts]), coefficients.table()


def _chosen(count: int, asked: int, choices: Sequence[tuple[int, Rows]]) -> Flags:
    """True for the rows of what is asked, of ``count`` in all."""
    flags = np.zeros(count, dtype=np.bool_)
    for flag, rows in choices:
        if asked & flag:
            flags[rows] = True
    return flags


def _changes(operations: Sequence[RowOperation], along: Flags, by: int) -> Iterator[RowOperation]:
    """Changes of all rows from those of some, each ``by`` rows behind."""
    for operation in operations:
        for number, rows in enumerate(operation.operands):
            if along[rows].any():
                along[operation.target] = True
                yield operation.change(number, by)


def _gradients(
    operations: Sequence[RowOperation], wanted: Flags, given: Flags, by: int
) -> Iterator[RowOperation]:
    """Gradients of the rows wanted and all between from those given, each ``by`` rows behind."""
    varied = wanted.copy()
    for operation in operations:
        if any(varied[rows].any() for rows in operation.operands):
            varied[operation.target] = True
    for operation in reversed(operations):
        if not given[operation.target].any():
            continue
        for number, rows in enumerate(operation.operands):
            if varied[rows].any():
                given[rows] = True
                yield operation.back(number, by)


class _Writing:
    """Operations, without those that are not needed, as a program.

    Args:
        of: What they were made of.
        operations: One after the other.
        coefficients: Shared with other programs.
    """

    def __init__(
        self, of: Polynomial, operations: Sequence[RowOperation], coefficients: Coefficients
    ) -> None:
        # Rows, their changes, gradients of both.
        self.buffers = [rows + by for by in range(0, 4 * of.rows, of.rows) for rows in of.buffers]
        self.operations = operations
        self.program = Program((), (), coefficients)
        self.full = np.zeros(4 * of.rows, dtype=np.bool_)

    def answer(self, inputs: Sequence[Rows], outputs: Sequence[Rows | None]) -> Answer:
        """The program from some inputs to the outputs that are asked for."""
        asked = [rows for rows in outputs if rows is not None]
        read = self._keep_needed(asked)
        given = [rows if read[rows].any() else None for rows in inputs]
        place = self._place([rows for rows in given if rows is not None], asked)
        for operation in self.operations:
            for rows in operation.operands:
                self._clear(rows, place)
            add = bool(self.full[operation.target].any())
            if add:
                self._clear(operation.target, place)
            operation.write(self.program, place, add=add)
            self.full[operation.target] = True
        for rows in asked:
            self._clear(rows, place)
        known = (*given, *outputs)
        return Answer(self.program, tuple(-1 if k is None else int(place[k[0]]) for k in known))

    def _keep_needed(self, asked: Sequence[Rows]) -> Flags:
        """Leave out operations whose result nothing reads; rows that are read, or asked for."""
        live = np.zeros_like(self.full)
        for rows in asked:
            live[rows] = True
        kept = []
        for operation in reversed(self.operations):
            if live[operation.target].any():
                kept.append(operation)
                for rows in operation.operands:
                    live[rows] = True
        self.operations = kept[::-1]
        return live

    def _place(self, given: Sequence[Rows], asked: Sequence[Rows]) -> Rows:
        """Where each row is: buffers take the place of those that are done with.

        The fewer rows there are, the nearer is the cache that holds them.
        """
        for rows in given:
            self.full[rows] = True
        owner = np.concatenate([np.full(len(b), n) for n, b in enumerate(self.buffers)])
        uses = [(-1, rows) for rows in given]
        for time, operation in enumerate(self.operations):
            uses += [(time, rows) for rows in (*operation.operands, operation.target)]
        uses += [(len(self.operations), rows) for rows in asked]
        times: dict[int, list[int]] = {}
        for time, rows in uses:
            for number in np.unique(owner[rows]).tolist():
                times.setdefault(number, []).append(time)
        place = np.full(len(owner), -1, dtype=np.int32)
        held: list[tuple[int, int, int]] = []
        for number, (first, *_, last) in ((n, (*t, t[-1])) for n, t in times.items()):
            held = sorted(run for run in held if run[2] >= first)
            at, size = 0, len(self.buffers[number])
            for low, high, _ in held:
                if low - at >= size:
                    break
                at = max(at, high)
            held.append((at, at + size, last))
            place[self.buffers[number]] = _run(at, size)
            self.program.rows = max(self.program.rows, at + size)
        return place

    def _clear(self, rows: Rows, place: Rows) -> None:
        """Zeros in rows that nothing was written to."""
        empty = np.unique(place[rows[~self.full[rows]]])
        for run in np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1):
            if len(run):
                self.program.zero(int(run[0]), len(run))
        self.full[rows] = True

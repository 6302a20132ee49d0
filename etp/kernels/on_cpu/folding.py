"""Sparse matrices folded into sums and differences of rows, and small dense blocks.

Coefficients of real harmonics come in couples: two rows of a matrix that differ in signs only, as
cos cos and sin sin both make cos(a + b) and cos(a - b). In terms of the sum and the difference of
what they multiply each entry of both is needed once. Done again while couples are left, this takes
most of the entries of a Clebsch-Gordan or matrix product away, and what stays falls apart into
blocks without zeros.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etp.kernels.on_cpu.program import NEGLIGIBLE, DensePart, Program, Rows

_WORTH = 4
"""Entries of a row from which its couple is folded: it costs as much as two."""
_SAME = 10
"""Decimals in which the entries of a couple agree."""
_STEP, _ENTRY = 15, 2
"""What a step costs, and an entry by itself, where an entry of a whole block costs one."""
Matrix = NDArray[np.float64]


class Folded(NamedTuple):
    """A matrix, sources by targets, on sums and differences of its sources.

    Attributes:
        rounds: Couples of sources, (n, 2) each, that become their sum and their difference.
        matrix: Applied after the last round.
    """

    rounds: tuple[Rows, ...]
    matrix: Matrix

    def apply(self, program: Program, source: Rows, target: Rows, again: NDArray[np.bool_]) -> None:
        """Append it; sources are overwritten, targets are added to where ``again``."""
        for couples in self.rounds:
            program.butterfly(source[couples])
        by_blocks(program, DensePart(source, target, self.matrix), again)

    def apply_transposed(self, program: Program, source: Rows, target: Rows) -> None:
        """Append its transpose, from targets to sources of the matrix."""
        turned = DensePart(source, target, self.matrix.T)
        by_blocks(program, turned, np.zeros(len(target), dtype=np.bool_))
        for couples in reversed(self.rounds):
            program.butterfly(target[couples])


def folded(matrix: Matrix) -> Folded:
    """Fold the couples of a matrix, and those of what comes out of that."""
    rounds = []
    while len(couples := _couples(matrix)):
        first, second = matrix[couples[:, 0]], matrix[couples[:, 1]]
        matrix = matrix.copy()
        matrix[couples[:, 0]] = (first + second) / 2
        matrix[couples[:, 1]] = (first - second) / 2
        matrix[np.abs(matrix) < NEGLIGIBLE] = 0
        rounds.append(couples)
    return Folded(tuple(rounds), matrix)


def _couples(matrix: Matrix) -> Rows:
    """Pairs of rows that differ in signs only."""
    sizes = np.round(np.abs(matrix), _SAME)
    alike: dict[bytes, list[int]] = {}
    for row in np.flatnonzero((sizes > 0).sum(axis=1) >= _WORTH).tolist():
        alike.setdefault(sizes[row].tobytes(), []).append(row)
    pairs = [rows[k : k + 2] for rows in alike.values() for k in range(0, len(rows) - 1, 2)]
    return np.array(pairs, dtype=np.int32).reshape(-1, 2)


def by_blocks(program: Program, whole: DensePart, again: NDArray[np.bool_]) -> None:
    """Append a matrix block by block: filled ones whole, all others by their non-zeros.

    Args:
        program: Where to.
        whole: What is applied.
        again: For each target, whether it is added to.
    """
    filled = np.abs(whole.matrix) > NEGLIGIBLE
    source, target = filled.nonzero()
    block_of_source, block_of_target = connected(source, target, *filled.shape)
    rest = np.ones(len(whole.target), dtype=np.bool_)
    for number in np.unique(block_of_target[filled.any(axis=0)]).tolist():
        mine = np.flatnonzero(block_of_source == number)
        for added in (False, True):
            targets = np.flatnonzero((block_of_target == number) & (again == added))
            place = np.ix_(mine, targets)
            if _STEP + len(mine) * len(targets) < _ENTRY * np.count_nonzero(filled[place]):
                block = DensePart(whole.source[mine], whole.target[targets], whole.matrix[place])
                program.dense(block, add=added)
                rest[targets] = False
    for added in (False, True):
        targets = np.flatnonzero(rest & (again == added))
        if len(targets):
            _by_entries(program, whole, targets, add=added)


def _by_entries(
    program: Program, whole: DensePart, targets: NDArray[np.integer], *, add: bool
) -> None:
    values = whole.matrix[:, targets].T
    row, inner = (np.abs(values) > NEGLIGIBLE).nonzero()
    counts = np.bincount(row, minlength=len(targets))
    rows = np.array([0, *accumulate(counts.tolist())], dtype=np.int32)
    program.sparse(rows, whole.target[targets], whole.source[inner], values[row, inner], add=add)


def connected(
    rows: NDArray[np.integer], columns: NDArray[np.integer], n_rows: int, n_columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of the connected part of each row and column, from the places of non-zeros.

    A part has the number of its first row.
    """
    of_row = np.arange(n_rows)
    while True:
        # Neighbours take the smallest number around them until nothing changes.
        of_column = np.full(n_columns, n_rows)
        np.minimum.at(of_column, columns, of_row[rows])
        smaller = of_row.copy()
        np.minimum.at(smaller, rows, of_column[columns])
        if np.array_equal(smaller, of_row):
            return of_row, of_column
        of_row = smaller

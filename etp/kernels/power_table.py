"""Powers as tables: their polynomials, the program that kernels read, the plain form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import combinations, combinations_with_replacement, pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from etp.kernels.power_radial import Monomial, radial, section
from etp.kernels.tables import TableModule

MAX_CODED = 4000
"""Pairs and monomials that a GPU's kernel may have in its code."""
_HEADER = 9
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int32]]


class Segment(NamedTuple):
    """Polynomials of one degree that lead to one output irrep, each with a weight.

    Attributes:
        row: First component in the output of one channel.
        degree: Of the polynomials.
        values: Float64 coefficients, shape (polynomials, components, sorted monomials); the
            monomials are those of ``combinations_with_replacement(range(dim), degree)``.
    """

    row: int
    degree: int
    values: Floats


def places(sizes: Sequence[int], channels: int, by_component: bool) -> list[tuple[int, int]]:
    """Where each component of channel 0 lies in features, and how far apart the channels are.

    Args:
        sizes: Components of each block.
        channels: Of every block.
        by_component: Whether channels are fastest within a block.
    """
    out, start = [], 0
    for size in sizes:
        for m in range(size):
            out.append((start + m * channels, 1) if by_component else (start + m, size))
        start += size * channels
    return out


class PowerProgram(NamedTuple):
    """A power as ``power.c`` reads it.

    Attributes:
        ints: int32: sizes, then the arrays that :meth:`arrays` names, then its closed form.
        numbers: Float64 coefficients, by pair and once more by weight, then those of that form.
    """

    ints: Ints
    numbers: Floats

    def arrays(self) -> dict[str, Ints]:
        """The parts of ``ints``."""
        _, out, numel, monomials, pairs, terms, shorts, runs, _ = map(int, self.ints[:_HEADER])
        sizes = {
            "parent": monomials, "factor": monomials, "row": out + 1, "monomial": pairs,
            "term": pairs + 1, "weight": terms, "of_weight": numel + 1, "entry": terms,
            "short_parent": shorts, "short_factor": shorts, "runs": out + 1, "left": runs,
            "run": runs + 1, "right": pairs,
        }  # fmt: skip
        ends = np.cumsum([_HEADER, *sizes.values()])
        parts = (self.ints[a:b] for a, b in pairwise(ends))
        return dict(zip(sizes, parts, strict=True))


class PowerTable(TableModule):
    """A power: what it computes of one channel.

    Attributes:
        dim: Components of the input of one channel.
        out: Components of the output.
        numel: Weights of one channel.
        pairs: (output, monomial) pairs that some weight reaches.
        codable: Whether a GPU's kernel may have it in its code.
    """

    def __init__(self, program: PowerProgram) -> None:
        super().__init__()
        self.dim, self.out, self.numel, monomials, self.pairs, _ = map(int, program.ints[:6])
        self.codable = monomials + self.pairs <= MAX_CODED
        self.program = program
        arrays = program.arrays()
        self._rows = [int(n) for n in arrays["row"]]
        self._levels = _levels(arrays["parent"], self.dim, monomials)
        self.register_buffer("code", torch.from_numpy(program.ints), persistent=False)
        for name in ("parent", "factor", "monomial"):
            index = torch.from_numpy(arrays[name].astype(np.int64))
            self.register_buffer(name, index, persistent=False)
        self.register_table("numbers", torch.from_numpy(program.numbers))
        dense = np.zeros((self.pairs, self.numel))
        for pair, (start, end) in enumerate(pairwise(arrays["term"])):
            dense[pair, arrays["weight"][start:end]] = program.numbers[start:end]
        self.register_table("dense", torch.from_numpy(dense))

    @classmethod
    def of_segments(cls, dims: tuple[int, int], segments: Sequence[Segment]) -> PowerTable:
        """Make the table of polynomials; weights are numbered in the order of the segments.

        Args:
            dims: Components of the input and of the output of one channel.
            segments: At least one polynomial in all.
        """
        return cls(_compiled(dims, segments))

    @property
    def monomials(self) -> int:
        """Products of components that are formed, components themselves among them."""
        return len(self.get_buffer("parent"))

    @property
    def macs(self) -> int:
        """Multiply-adds of one channel of one node, weights contracted before."""
        return self.monomials - self.dim + self.pairs

    def plain(self, x: Tensor, w: Tensor, elements: Tensor | None) -> Tensor:
        """The power in PyTorch: the reference.

        Args:
            x: Shape (N, dim, C).
            w: Shape (Z, numel, C).
            elements: Row of ``w`` of each node, (N,); None where Z is N, or 1 for all.
        """
        coefficients = self.table("dense", x.dtype) @ w
        monomials = x
        parent, factor = self.index("parent"), self.index("factor")
        for start, end in self._levels:
            first = monomials.index_select(1, parent[start:end])
            monomials = torch.cat([monomials, first * x.index_select(1, factor[start:end])], dim=1)
        out = []
        for start, end in pairwise(self._rows):
            own = coefficients[:, start:end]
            if elements is not None:
                own = own.index_select(0, elements)
            out.append((own * monomials.index_select(1, self.index("monomial")[start:end])).sum(1))
        return torch.stack(out, dim=1)


def _levels(parent: Ints, dim: int, monomials: int) -> list[tuple[int, int]]:
    """Runs of monomials whose parents all come before the run."""
    levels, start = [], dim
    while start < monomials:
        end = start
        while end < monomials and parent[end] < start:
            end += 1
        levels.append((start, end))
        start = end
    return levels


def _halves(monomials: Iterable[Monomial]) -> dict[Monomial, tuple[Monomial, Monomial]]:
    """Each monomial as two shorter ones, the second at least as long; of few different ones."""
    splits = {m: _splits(m) for m in monomials}
    ends: dict[Monomial, set[Monomial]] = {}
    for monomial, own in splits.items():
        for second in own:
            ends.setdefault(second, set()).add(monomial)
    halves: dict[Monomial, tuple[Monomial, Monomial]] = {}

    def rank(second: Monomial) -> tuple[bool, int]:
        """Components are there already; of the others, what serves most is formed first."""
        return len(second) > 1, -len(ends[second]) - (second in splits)

    waiting = [(rank(second), n, second) for n, second in enumerate(ends)]
    heapify(waiting)
    while waiting:
        known, n, second = heappop(waiting)
        if rank(second) != known:  # it serves fewer by now
            heappush(waiting, (rank(second), n, second))
            continue
        for monomial in ends.pop(second):
            halves[monomial] = splits[monomial][second], second
            for other in splits[monomial].keys() & ends.keys():
                ends[other].discard(monomial)
    formed = {half for both in halves.values() for half in both}
    return halves | {monomial: ((), monomial) for monomial in halves.keys() & formed}


def _splits(monomial: Monomial) -> dict[Monomial, Monomial]:
    """What a monomial can end in, and what is left."""
    out = {}
    for second in combinations(monomial, (len(monomial) + 1) // 2):
        first = list(monomial)
        for i in second:
            first.remove(i)
        out[second] = tuple(first)
    return out


def _compiled(dims: tuple[int, int], segments: Sequence[Segment]) -> PowerProgram:
    dim, out = dims
    terms: dict[tuple[int, Monomial], list[tuple[int, float]]] = {}
    numel = 0
    for row, degree, values in segments:
        all_of_degree = list(combinations_with_replacement(range(dim), degree))
        k, m, p = np.nonzero(values.transpose(1, 2, 0))
        for at_k, at_m, at_p in zip(k.tolist(), m.tolist(), p.tolist(), strict=True):
            own = terms.setdefault((row + at_k, all_of_degree[at_m]), [])
            own.append((numel + at_p, float(values[at_p, at_k, at_m])))
        numel += len(values)
    made = _with_parents(dim, {m for _, m in terms})
    number = {monomial: n for n, monomial in enumerate(made)}
    halves = _halves(sorted({m for _, m in terms}))
    shorts = _with_parents(dim, {half for both in halves.values() for half in both if half})
    place = {monomial: n for n, monomial in enumerate(shorts)} | {(): len(shorts)}
    pairs = sorted(terms, key=lambda pair: (pair[0], *(place[half] for half in halves[pair[1]])))
    of_run = [(k, place[halves[m][0]]) for k, m in pairs]
    runs = list(dict.fromkeys(of_run))
    flat = [(n, p, v) for n, pair in enumerate(pairs) for p, v in terms[pair]]
    by_weight = sorted(flat, key=lambda item: item[1])
    closed = radial(dims, terms)
    more_ints, more = section(numel, closed) if closed is not None else ([], [])
    ints = (
        [dim, out, numel, len(made), len(pairs), len(flat), len(shorts) + 1, len(runs)],
        [closed.precision if closed is not None else 0],
        [number[parent] for parent, _ in made.values()],
        [factor for _, factor in made.values()],
        np.searchsorted([k for k, _ in pairs], np.arange(out + 1)),
        [number[m] for _, m in pairs],
        np.searchsorted([pair for pair, _, _ in flat], np.arange(len(pairs) + 1)),
        [p for _, p, _ in flat],
        np.searchsorted([p for _, p, _ in by_weight], np.arange(numel + 1)),
        [pair for pair, _, _ in by_weight],
        [*(place[parent] for parent, _ in shorts.values()), 0],
        [*(factor for _, factor in shorts.values()), 0],
        np.searchsorted([k for k, _ in runs], np.arange(out + 1)),
        [left for _, left in runs],
        [*map(of_run.index, runs), len(pairs)],
        [place[halves[m][1]] for _, m in pairs],
        *more_ints,
    )
    numbers = np.array([*(v for *_, v in flat), *(v for *_, v in by_weight), *more])
    return PowerProgram(
        np.concatenate([np.asarray(part, dtype=np.int32) for part in ints]), numbers
    )


def _with_parents(dim: int, wanted: set[Monomial]) -> dict[Monomial, tuple[Monomial, int]]:
    """Monomials by degree, components first, each a product of an earlier one and a component."""
    by_degree: dict[int, set[Monomial]] = {}
    for monomial in wanted:
        by_degree.setdefault(len(monomial), set()).add(monomial)
    split: dict[Monomial, tuple[Monomial, int]] = {}
    for degree in range(max(by_degree, default=1), 1, -1):
        known = by_degree.setdefault(degree - 1, set())
        for monomial in sorted(by_degree.get(degree, ())):
            choices = [(monomial[:n] + monomial[n + 1 :], i) for n, i in enumerate(monomial)]
            parent, factor = next((c for c in choices if c[0] in known), choices[-1])
            known.add(parent)
            split[monomial] = parent, factor
    first = {(i,): ((i,), i) for i in range(dim)}
    return first | {m: split[m] for m in sorted(split, key=lambda m: (len(m), m))}


def restored(program: Tensor, values: Tensor) -> PowerTable:
    """The table that a program and its numbers were made of, on the CPU."""
    return PowerTable(PowerProgram(program.cpu().numpy(), values.cpu().double().numpy()))


class Raising(Protocol):
    """What a power computes of one channel, in PyTorch."""

    @property
    def dim(self) -> int:
        """Components of the input."""

    @property
    def numel(self) -> int:
        """Weights of a channel."""

    def plain(self, x: Tensor, w: Tensor, elements: Tensor | None) -> Tensor:
        """As :meth:`PowerTable.plain`."""


def plain(table: Raising, x: Tensor, w: Tensor, elements: Tensor | None, lie: Tensor) -> Tensor:
    """The power in PyTorch, of features as they lie."""
    channels = w.shape[-1] // table.numel
    rows = w.reshape(-1, table.numel, channels)
    return together(table.plain(apart(x, lie[: table.dim], channels), rows, elements), lie)


def _where(lie: Tensor, channels: int) -> Tensor:
    """Where the features hold each channel of each component, (components, channels)."""
    return lie[:, :1].long() + lie[:, 1:].long() * torch.arange(channels, device=lie.device)


def apart(x: Tensor, lie: Tensor, channels: int) -> Tensor:
    """Features as they lie to (N, components, channels)."""
    columns = x.index_select(1, _where(lie, channels).flatten())
    return columns.unflatten(1, (len(lie), channels))


def together(z: Tensor, lie: Tensor) -> Tensor:
    """Results (N, out, channels) to features as they lie; ``lie`` ends in what concerns them."""
    where = _where(lie[len(lie) - z.shape[1] :], z.shape[2])
    columns = z.flatten(1)
    return torch.zeros_like(columns).index_copy(1, where.flatten(), columns)

"""Edge products as tables: their paths, the program that kernels read, the plain form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from etp.kernels.tables import TableModule

Layout = Literal["mul_ir", "ir_mul"]
PADDING = 16
"""Channels of a row are filled up to a multiple of this: a whole vector in each precision."""
NEGLIGIBLE = 1e-14
MAX_CODED = 10_000
"""Coefficients that a GPU's kernel may have in its code: compiling takes minutes beyond."""
HEADER = 15
"""Numbers before the arrays of a program."""


class EdgePath(NamedTuple):
    """One path: which block of channels meets which numbers of input 2, and where it goes.

    Attributes:
        x: First number of its block in input 1.
        y: First number in input 2.
        z: First number of its block in the output.
        w: First of its ``mul`` weights; -1 where it has none.
        mul: Channels of both blocks.
        values: Float64 coefficients, shape (components in 1, in 2, out).
    """

    x: int
    y: int
    z: int
    w: int
    mul: int
    values: Tensor


class EdgeTable(TableModule):
    """An edge product: its paths and how features lie.

    Args:
        paths: At least one. Blocks of one side are the same or apart; several paths may read or
            write the same one.
        dims: Numbers of input 1, input 2 and the output of an edge.
        weight_numel: Numbers of the weights of an edge.
        layout: ``mul_ir``, (channel, component) within a block, or ``ir_mul``.

    Attributes:
        codable: Whether a GPU's kernel may have it in its code.

    Raises:
        ValueError: If there is no path, or blocks overlap without being the same.
    """

    def __init__(
        self,
        paths: Sequence[EdgePath],
        dims: tuple[int, int, int],
        weight_numel: int,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__()
        if not paths:
            raise ValueError("paths must hold at least one path, got none")
        self.dims, self.weight_numel, self.layout = dims, weight_numel, layout
        self._places = [(*path[:5], tuple(path.values.shape)) for path in paths]
        values = [path.values.detach().to("cpu", torch.float64) for path in paths]
        shared = _share_weights(self._places)
        program = _EdgeProgram(
            self._places, [v.numpy() for v in values], shared, dims, weight_numel, layout
        )
        self.register_table("dense", torch.cat([v.flatten() for v in values]))
        self.register_table("numbers", torch.from_numpy(program.numbers))
        self.register_buffer("program", torch.from_numpy(program.ints), persistent=False)
        # As code it may not be too long, and each weight is of one path.
        self.codable = not any(shared) and len(program.numbers) <= 2 * MAX_CODED

    @property
    def places(self) -> list[tuple[Any, ...]]:
        """Of each path x, y, z, w, mul and the shape of its coefficients."""
        return self._places

    def coefficients(self) -> list[Tensor]:
        """Those of each path, float64."""
        sizes = [a * b * c for *_, (a, b, c) in self._places]
        flat = self.table("dense", torch.float64).split(sizes)
        return [c.reshape(p[5]) for c, p in zip(flat, self._places, strict=True)]

    def plain(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        """The product of each edge's own features, in PyTorch: the reference.

        Args:
            x: Shape (E, dims[0]).
            y: Shape (E, dims[1]).
            w: Shape (E, weight_numel), (weight_numel,), or None for ones.
        """
        table = self.table("dense", x.dtype)
        blocks: dict[int, Tensor] = {}
        start = 0
        for px, py, pz, pw, mul, (d1, d2, d3) in self._places:
            c = table[start : start + d1 * d2 * d3].reshape(d1, d2, d3)
            start += d1 * d2 * d3
            first = x[:, px : px + mul * d1]
            second = torch.tensordot(y[:, py : py + d2], c, dims=([1], [1]))
            if self.layout == "mul_ir":
                z = torch.bmm(first.reshape(-1, mul, d1), second)
            else:
                z = torch.bmm(second.transpose(1, 2), first.reshape(-1, d1, mul))
            if w is not None and pw >= 0:
                own = w[..., pw : pw + mul]
                z = z * (own.unsqueeze(-1) if self.layout == "mul_ir" else own.unsqueeze(-2))
            z = z.reshape(x.shape[0], mul * d3)
            blocks[pz] = blocks[pz] + z if pz in blocks else z
        return self._joined(blocks, x)

    def _joined(self, blocks: dict[int, Tensor], like: Tensor) -> Tensor:
        parts, end = [], 0
        for start in sorted(blocks):
            if start > end:
                parts.append(like.new_zeros(like.shape[0], start - end))
            parts.append(blocks[start])
            end = start + blocks[start].shape[1]
        if end < self.dims[2]:
            parts.append(like.new_zeros(like.shape[0], self.dims[2] - end))
        return torch.cat(parts, dim=1)

    def plain_convolution(
        self,
        x: Tensor,
        y: Tensor,
        w: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> Tensor:
        """The convolution in PyTorch."""
        messages = self.plain(x.index_select(0, senders), y, w)
        out = messages.new_zeros(num_nodes, self.dims[2])
        return out.index_add(0, receivers, messages)


def restored(program: Tensor, values: Tensor) -> EdgeTable:
    """The table that a program was made of, from the layout that :class:`_EdgeProgram` gives it."""
    ints = program.tolist()
    n_paths, n_in, n_out, entries, terms, *dims, numel, by_component = ints[:10]
    at = HEADER
    paths = [
        _PathPart(*ints[k : k + _PATH_NUMBERS])
        for k in range(at, at + _PATH_NUMBERS * n_paths, _PATH_NUMBERS)
    ]
    at += _PATH_NUMBERS * n_paths
    blocks = [ints[k : k + 5] for k in range(at, at + 5 * (n_in + n_out), 5)]
    at += 5 * (n_in + n_out)
    source = np.asarray(ints[at : at + terms * entries]).reshape(terms, entries)
    numbers = values[: terms * entries].double().cpu().numpy().reshape(terms, entries)
    made: dict[tuple[int, ...], Tensor] = {}
    for part in paths:
        x, width1, row1 = _around(part.x, blocks[:n_in])
        z, width3, row3 = _around(part.z, blocks[n_in:])
        whole = made.setdefault(
            (x, z, part.w, part.mul),
            torch.zeros(width1, dims[1], width3, dtype=torch.float64),
        )  # fmt: skip
        at1, at3 = (part.x - row1) // part.padded, (part.z - row3) // part.padded
        for number, (i, k) in enumerate(_pairs(part.d1, part.d3, part.diagonal), start=part.first):
            for n in range(terms):
                whole[at1 + i, source[n, number], at3 + k] += numbers[n, number]
    whole_paths = [EdgePath(x, 0, z, w, mul, c) for (x, z, w, mul), c in made.items()]
    return EdgeTable(whole_paths, tuple(dims), numel, "ir_mul" if by_component else "mul_ir")


def _around(row: int, blocks: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """First number, components and first row of the block that a row lies in."""
    start, _, width, first, _ = next(b for b in reversed(blocks) if b[3] <= row)
    return start, width, first


class _PathPart(NamedTuple):
    """A path as the kernel walks it, or some of its rows and columns.

    Attributes:
        x: Row of its first component in input 1.
        z: Likewise in the output.
        w: First of its weights; -1 where it has none.
        mul: Channels.
        padded: Numbers of a row.
        d1: Components of input 1.
        d3: Components of the output.
        first: Its first coefficient; those of an output component lie side by side.
        diagonal: Whether there is but one for each component.
        adds: Whether others have its weights too.
        start: First number of the block in the output.
    """

    x: int
    z: int
    w: int
    mul: int
    padded: int
    d1: int
    d3: int
    first: int
    diagonal: int
    adds: int
    start: int


_PATH_NUMBERS = len(_PathPart._fields)
_MOST = 7
"""Components of a part: as many as the kernel keeps in registers."""


def _pairs(d1: int, d3: int, diagonal: bool | int) -> list[tuple[int, int]]:
    """Components of input 1 and output that each coefficient of a part is of."""
    if diagonal:
        return [(i, i) for i in range(d1)]
    return [(i, k) for k in range(d3) for i in range(d1)]


def _cut(dim: int) -> list[slice]:
    """Components in runs of 1, 3, 5 or 7, as the kernel takes them: few, and about as long."""
    count = -(-dim // _MOST)
    count += (dim - count) % 2
    short = [1] * count
    for n in range((dim - count) // 2):
        short[n % count] += 2
    ends = np.cumsum([0, *short]).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]


class _EdgeProgram:
    """A table as ``edge.c`` reads it: ``ints`` and ``numbers``."""

    def __init__(
        self,
        places: Sequence[tuple[Any, ...]],
        values: Sequence[np.ndarray[Any, np.dtype[np.float64]]],
        shared: Sequence[bool],
        dims: tuple[int, int, int],
        weight_numel: int,
        layout: Layout,
    ) -> None:
        first = _Rows([(p[0], p[4], p[5][0]) for p in places], dims[0], "input 1")
        last = _Rows([(p[2], p[4], p[5][2]) for p in places], dims[2], "the output")
        self._parts: list[_PathPart] = []
        self._entries: list[list[tuple[int, float]]] = []
        for place, c, adds in zip(places, values, shared, strict=True):
            self._add(place, c, first.row[place[0]], last.row[place[2]], adds)
        # Sums of terms are made in whole vectors.
        entries = self._entries + [[]] * (-len(self._entries) % PADDING)
        terms = max(1, *map(len, entries))
        source = np.zeros((terms, len(entries)), dtype=np.int32)
        numbers = np.zeros((terms, len(entries)))
        for e, own in enumerate(entries):
            for n, (j, v) in enumerate(own):
                source[n, e], numbers[n, e] = j, v
        by_y = sorted(((j, e, v) for e, own in enumerate(entries) for j, v in own))
        of_y = np.searchsorted([j for j, _, _ in by_y], np.arange(dims[1] + 1))
        macs = sum(
            int((np.abs(c) > NEGLIGIBLE).any(1).sum()) * place[4]
            for place, c in zip(places, values, strict=True)
        )
        header = (
            len(self._parts), len(first.blocks), len(last.blocks), len(entries), terms, *dims,
            weight_numel, int(layout == "ir_mul"), first.size, last.size,
            macs, int(first.whole), int(last.whole),
        )  # fmt: skip
        ints = (
            header, np.ravel(self._parts), np.ravel(first.blocks), np.ravel(last.blocks),
            np.ravel(source), of_y, [e for _, e, _ in by_y],
        )  # fmt: skip
        self.ints = np.concatenate([np.asarray(part, dtype=np.int32) for part in ints])
        self.numbers = np.concatenate([np.ravel(numbers), [v for *_, v in by_y]])

    def _add(
        self,
        place: tuple[Any, ...],
        c: np.ndarray[Any, np.dtype[np.float64]],
        x: int,
        z: int,
        shared: bool,
    ) -> None:
        """A path, in parts that the kernel knows; ``x`` and ``z`` are its first rows."""
        _, py, start, w, mul, (d1, _, d3) = place
        padded, there = _padded(mul), np.abs(c) > NEGLIGIBLE
        off = ~np.eye(d1, d3, dtype=bool)
        diagonal = d1 == d3 and d1 in (3, 5, 7) and not there.any(1)[off].any()
        for n, (rows, columns) in enumerate(product(_cut(d3), _cut(d1))):
            wide, tall = columns.stop - columns.start, rows.stop - rows.start
            self._parts.append(_PathPart(
                x + columns.start * padded, z + rows.start * padded, w, mul, padded, wide, tall,
                len(self._entries), int(diagonal), int(n > 0 or shared), start,
            ))  # fmt: skip
            own, seen = c[columns, :, rows], there[columns, :, rows]
            self._entries += [
                [(py + int(j), float(own[i, j, k])) for j in np.flatnonzero(seen[i, :, k])]
                for i, k in _pairs(wide, tall, diagonal)
            ]


def _share_weights(places: Sequence[tuple[Any, ...]]) -> list[bool]:
    """Of each path whether some of its weights are another's too."""
    shared = [False] * len(places)
    ranges = sorted((p[3], p[3] + p[4], n) for n, p in enumerate(places) if p[3] >= 0)
    reach, furthest = 0, -1
    for start, end, number in ranges:
        if start < reach:
            shared[number] = shared[furthest] = True
        if end > reach:
            reach, furthest = end, number
    return shared


class _Rows:
    """Blocks of one side, and where the kernel keeps their rows."""

    def __init__(self, wanted: Sequence[tuple[int, int, int]], dim: int, side: str) -> None:
        self.row: dict[int, int] = {}
        self.blocks: list[tuple[int, ...]] = []
        self.size = 0
        for start, mul, width in sorted(set(wanted)):
            self.row[start] = self.size
            self.blocks.append((start, mul, width, self.size, _padded(mul)))
            self.size += width * _padded(mul)
        for (start, mul, width, *_), after in pairwise(self.blocks):
            if start + mul * width > after[0]:
                raise ValueError(
                    f"paths must use blocks of {side} that are the same or apart, got blocks at "
                    f"{start} and {after[0]} that overlap"
                )
        self.whole = sum(mul * width for _, mul, width, _, _ in self.blocks) == dim


def _padded(mul: int) -> int:
    return -(-mul // PADDING) * PADDING

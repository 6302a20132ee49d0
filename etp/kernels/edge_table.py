"""Edge products as tables: their paths, the program that kernels read, the plain form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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
HEADER = 16
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
        program = _EdgeProgram(
            self._places, [v.numpy() for v in values], dims, weight_numel, layout
        )
        self.register_table("dense", torch.cat([v.flatten() for v in values]))
        self.register_table("numbers", torch.from_numpy(program.numbers))
        self.register_buffer("program", torch.from_numpy(program.ints), persistent=False)
        # As code it may not be too long, and each weight is of one path.
        ranges = sorted((p[3], p[3] + p[4]) for p in self._places if p[3] >= 0)
        apart = all(before[1] <= after[0] for before, after in pairwise(ranges))
        self.codable = apart and len(program.numbers) <= 2 * MAX_CODED

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
    parts: list[list[tuple[int, ...]]] = []
    at = HEADER
    for size in (7 * n_paths, 5 * n_in, 5 * n_out):
        parts.append([tuple(ints[k : k + (7 if not parts else 5)])
                      for k in range(at, at + size, 7 if not parts else 5)])  # fmt: skip
        at += size
    paths, first, last = parts
    row = ints[at : at + 1 + sum(path[5] for path in paths)]
    component = ints[at + len(row) :][:entries]
    term = ints[at + len(row) + entries :][: entries + 1]
    source = ints[at + len(row) + 2 * entries + 1 :][:terms]
    by_row1, by_row3 = ({b[3]: b for b in blocks} for blocks in (first, last))
    made = []
    for x, z, w, mul, padded, d3, start in paths:
        c = torch.zeros(by_row1[x][2], dims[1], d3, dtype=torch.float64)
        for k in range(d3):
            for e in range(row[start + k], row[start + k + 1]):
                for n in range(term[e], term[e + 1]):
                    c[component[e] // padded, source[n], k] = values[n].double()
        made.append(EdgePath(by_row1[x][0], 0, by_row3[z][0], w, mul, c))
    return EdgeTable(made, tuple(dims), numel, "ir_mul" if by_component else "mul_ir")


class _EdgeProgram:
    """A table as ``edge.c`` reads it: ``ints`` and ``numbers``."""

    def __init__(
        self,
        places: Sequence[tuple[Any, ...]],
        values: Sequence[np.ndarray[Any, np.dtype[np.float64]]],
        dims: tuple[int, int, int],
        weight_numel: int,
        layout: Layout,
    ) -> None:
        first = _Rows([(p[0], p[4], p[5][0]) for p in places], dims[0], "input 1")
        last = _Rows([(p[2], p[4], p[5][2]) for p in places], dims[2], "the output")
        row, component, entries = [0], [], []
        paths = []
        for (px, py, pz, pw, mul, (d1, _, d3)), c in zip(places, values, strict=True):
            padded = _padded(mul)
            paths.append((first.row[px], last.row[pz], pw, mul, padded, d3, len(row) - 1))
            for k in range(d3):
                for i in range(d1):
                    terms = np.flatnonzero(np.abs(c[i, :, k]) > NEGLIGIBLE)
                    if len(terms):
                        component.append(i * padded)
                        entries.append([(py + j, c[i, j, k]) for j in terms])
                row.append(len(component))
        term = np.cumsum([0, *map(len, entries)])
        flat = [(e, j, v) for e, terms in enumerate(entries) for j, v in terms]
        by_y = sorted(flat, key=lambda item: (item[1], item[0]))
        of_y = np.searchsorted([j for _, j, _ in by_y], np.arange(dims[1] + 1))
        widest = max(_padded(p[4]) for p in places)
        macs = sum((row[start + d3] - row[start]) * mul for _, _, _, mul, _, d3, start in paths)
        header = (
            len(paths), len(first.blocks), len(last.blocks), len(entries), len(flat), *dims,
            weight_numel, int(layout == "ir_mul"), first.size, last.size, widest,
            macs, int(first.whole), int(last.whole),
        )  # fmt: skip
        ints = (
            header, np.ravel(paths), np.ravel(first.blocks), np.ravel(last.blocks), row, component,
            term, [j for _, j, _ in flat], of_y, [e for e, _, _ in by_y],
        )  # fmt: skip
        self.ints = np.concatenate([np.asarray(part, dtype=np.int32) for part in ints])
        self.numbers = np.array([v for *_, v in flat] + [v for *_, v in by_y], dtype=np.float64)


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

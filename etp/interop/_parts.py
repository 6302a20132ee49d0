"""Pieces that a tensor product of e3nn is computed in: rows of features to rows of all outputs.

Each serves the instructions of some modes and leaves zero where they write nothing, so that a
product is the sum of its parts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.edge import convolution, edge
from etp.kernels.edge_table import EdgePath, EdgeTable
from etp.kernels.modes import plain_only
from etp.kernels.on_cpu import compose, program, tile
from etp.kernels.tables import TableModule
from etp.maths import so3
from etp.maths.signs import sign_of_e3nn


class Leg(NamedTuple):
    """A block ``mul x ir`` of features: its first number, copies and components."""

    start: int
    mul: int
    dim: int


class PlacedInstruction(NamedTuple):
    """An instruction, with where its blocks and weights lie.

    Attributes:
        mode: Connection mode.
        first: Block of input 1.
        second: Block of input 2.
        out: Block of the output.
        weight: First of its weights, -1 where it has none.
        numel: Number of its weights, if it has any.
        values: Coefficients with the path weight in them, (first.dim, second.dim, out.dim).
    """

    mode: str
    first: Leg
    second: Leg
    out: Leg
    weight: int
    numel: int
    values: Tensor


class RowSizes(NamedTuple):
    """Numbers of input 1, input 2 and the output of a row, and of all weights."""

    in1: int
    in2: int
    out: int
    weights: int


def steps_of(product: o3.TensorProduct) -> list[PlacedInstruction]:
    """The instructions of a product that compute anything."""
    irreps = (product.irreps_in1, product.irreps_in2, product.irreps_out)
    legs = [
        [Leg(at.start, mul, ir.dim) for (mul, ir), at in zip(own, own.slices(), strict=True)]
        for own in irreps
    ]
    made, weight = [], 0
    for ins in product.instructions:
        numel = 1
        for size in ins.path_shape:
            numel *= size
        ir1, ir2, ir3 = (
            own[place].ir
            for own, place in zip(irreps, (ins.i_in1, ins.i_in2, ins.i_out), strict=True)
        )
        if numel:
            made.append(
                PlacedInstruction(
                    mode=ins.connection_mode,
                    first=legs[0][ins.i_in1],
                    second=legs[1][ins.i_in2],
                    out=legs[2][ins.i_out],
                    weight=weight if ins.has_weight else -1,
                    numel=numel,
                    values=ins.path_weight
                    * sign_of_e3nn(ir1.l, ir2.l, ir3.l)
                    * so3.clebsch_gordan(ir1.l, ir2.l, ir3.l),
                )
            )
        weight += numel if ins.has_weight else 0
    return made


class ProductPart(TableModule):
    """Some instructions of a product, of whose rows it knows the sizes."""

    @abstractmethod
    def __init__(self, steps: Sequence[PlacedInstruction], sizes: RowSizes) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        """Rows (B, in1) and (B, in2), weights (B, weights), (weights,) or None, to (B, out)."""


class Channelwise(ProductPart):
    """Modes ``uvu`` and ``uvuv``: each copy v of input 2 meets all channels u of input 1.

    Attributes:
        whole: Whether the table reads and writes rows as they lie, so that it also convolves.
    """

    def __init__(self, steps: Sequence[PlacedInstruction], sizes: RowSizes) -> None:
        super().__init__(steps, sizes)
        blocks = _Blocks(sizes.out)
        paths: list[EdgePath] = []
        order: list[int] = []
        for step in steps:
            first, second, out = step.first, step.second, step.out
            apart = step.mode == "uvuv" and second.mul > 1
            start = blocks.apart(out, first.mul, second.mul) if apart else blocks.whole(out)
            for v in range(second.mul):
                paths.append(
                    EdgePath(
                        x=first.start,
                        y=second.start + v * second.dim,
                        z=start + apart * v * first.mul * out.dim,
                        w=len(order) if step.weight >= 0 else -1,
                        mul=first.mul,
                        values=step.values,
                    )
                )
                if step.weight >= 0:
                    order += [step.weight + u * second.mul + v for u in range(first.mul)]
        self.dim_out = sizes.out
        self.edges = EdgeTable(paths, (sizes.in1, sizes.in2, blocks.size), len(order))
        self.weighted = bool(order)
        same = order == list(range(sizes.weights))
        self.register_buffer("order", None if same else torch.tensor(order), persistent=False)
        place = blocks.place()
        self.moved = blocks.size > sizes.out
        identity = torch.equal(place, torch.arange(sizes.out)) if not self.moved else False
        index = place if self.moved else place.argsort()
        self.register_buffer("place", None if identity else index, persistent=False)
        self.whole = identity

    @override
    def forward(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        z = edge(self.edges, x, y, self._own(w))
        place = self.optional_index("place")
        if place is None:
            return z
        if self.moved:
            return z.new_zeros(z.shape[0], self.dim_out).index_add(1, place, z)
        return z.index_select(1, place)

    def convolve(
        self, x: Tensor, y: Tensor, w: Tensor | None, senders: Tensor, receivers: Tensor, nodes: int
    ) -> Tensor:
        """Sum over edges by receiver, where the part is ``whole``: see ``edge.convolution``."""
        return convolution(self.edges, x, y, self._own(w), senders, receivers, nodes)

    def _own(self, w: Tensor | None) -> Tensor | None:
        order = self.optional_index("order")
        if w is None or not self.weighted:
            return None
        return w if order is None else w.index_select(-1, order)


class _Blocks:
    """Where a table writes: the output itself, and behind it what would overlap there."""

    def __init__(self, dim: int) -> None:
        self.size = dim
        self._of: dict[tuple[int, int, int], int] = {}
        self._taken: set[int] = set()
        self._places = {0: torch.arange(dim)}

    def whole(self, out: Leg) -> int:
        """First number for all copies of a block, as they lie."""
        return self._start(out, 1, 1, torch.arange(out.mul * out.dim))

    def apart(self, out: Leg, mul1: int, mul2: int) -> int:
        """First number for the copies (u, v) of a block, kept as (v, u)."""
        lie = torch.arange(out.mul * out.dim).reshape(mul1, mul2, out.dim)
        return self._start(out, mul1, mul2, lie.transpose(0, 1).flatten())

    def _start(self, out: Leg, mul1: int, mul2: int, place: Tensor) -> int:
        key = out.start, mul1, mul2
        if key not in self._of:
            behind = out.start in self._taken
            self._of[key] = self.size if behind else out.start
            self._taken.add(out.start)
            if behind:
                self._places[self.size] = out.start + place
                self.size += len(place)
            else:
                self._places[0][out.start : out.start + len(place)] = out.start + place
        return self._of[key]

    def place(self) -> Tensor:
        """Where each number that the table writes belongs in the output."""
        return torch.cat([self._places[start] for start in sorted(self._places)])


class Mixed(ProductPart):
    """Mode ``uvw``: an edge product without weights, then a linear map over pairs of channels."""

    def __init__(self, steps: Sequence[PlacedInstruction], sizes: RowSizes) -> None:
        super().__init__(steps, sizes)
        by_out: dict[Leg, list[PlacedInstruction]] = {}
        for step in steps:
            by_out.setdefault(step.out, []).append(step)
        self.slots = [(out, by_out[out]) for out in sorted(by_out)]
        paths, width = [], 0
        self.widths = []
        for out, own in self.slots:
            start = width
            for step in own:
                first, second = step.first, step.second
                for v in range(second.mul):
                    y = second.start + v * second.dim
                    paths.append(EdgePath(first.start, y, width, -1, first.mul, step.values))
                    width += first.mul * out.dim
            self.widths.append(width - start)
        self.edges = EdgeTable(paths, (sizes.in1, sizes.in2, width), 0)
        self.dim_out = sizes.out
        self.cuts = _cuts(steps, sizes.weights)

    @override
    def forward(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        assert w is not None
        weights = w.split([size for _, size in self.cuts], dim=-1)
        of_step = {start: part for (start, _), part in zip(self.cuts, weights, strict=True)}
        pairs = edge(self.edges, x, y, None).split(self.widths, dim=1)
        blocks = []
        for (out, steps), own in zip(self.slots, pairs, strict=True):
            maps = torch.cat([_by_second(of_step[s.weight], s) for s in steps], dim=-2)
            blocks.append((out, _mixed(own.unflatten(1, (-1, out.dim)), maps)))
        return _filled(blocks, self.dim_out)


class Selected(Mixed):
    """Mode ``uvw`` with scalars as input 2, such as elements one-hot: their zeros are skipped.

    The sum over v goes over the rows whose scalar v is not zero, which is exact for any input.
    """

    LEAST = 0.5
    """Share of zeros from which skipping them is faster than one matrix product with all."""

    @override
    def forward(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        assert w is not None
        if w.ndim > 1 or not _numbers(y):
            return super().forward(x, y, w)
        steps = [step for _, own in self.slots for step in own]
        places = sorted({s.second.start + v for s in steps for v in range(s.second.mul)})
        there = y.detach() != 0
        counts = dict(zip(places, there[:, places].sum(0).tolist(), strict=True))
        if not 0 < sum(counts.values()) <= (1 - self.LEAST) * len(places) * len(y):
            return super().forward(x, y, w)
        rows = {place: there[:, place].nonzero().squeeze(1) for place in places if counts[place]}
        weights = w.split([size for _, size in self.cuts])
        of_step = {start: part for (start, _), part in zip(self.cuts, weights, strict=True)}
        blocks = []
        for out, own in self.slots:
            pieces = [p for s in own for p in _selected(x, y, of_step[s.weight], s, rows)]
            z = x.new_zeros(len(x), out.dim, out.mul)
            if pieces:
                chosen, mixed = (torch.cat(parts) for parts in zip(*pieces, strict=True))
                z = z.index_add(0, chosen, mixed)
            blocks.append((out, z.transpose(1, 2)))
        return _filled(blocks, self.dim_out)


def _numbers(y: Tensor) -> bool:
    """Whether the zeros of ``y`` can be looked at, and nothing is asked of them."""
    looks = y.is_cpu and not torch.compiler.is_compiling() and not plain_only()
    return looks and type(y) is Tensor and not y.requires_grad


def _selected(
    x: Tensor, y: Tensor, w: Tensor, step: PlacedInstruction, rows: dict[int, Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each scalar of a step the rows that have it, and what it adds to them."""
    first, second = step.first, step.second
    features = x[:, first.start : first.start + first.mul * first.dim]
    features = features.unflatten(1, (first.mul, first.dim)).transpose(1, 2)
    maps = w.reshape(first.mul, second.mul, step.out.mul)
    factor = float(step.values[0, 0, 0])
    for v, own in enumerate(maps.unbind(1)):
        chosen = rows.get(second.start + v)
        if chosen is not None:
            scalars = factor * y[:, second.start + v].index_select(0, chosen)
            mixed = features.index_select(0, chosen) @ own
            yield chosen, mixed * scalars[:, None, None]


def _cuts(steps: Sequence[PlacedInstruction], numel: int) -> list[tuple[int, int]]:
    """Start and size of the weights of each step, and of what lies between."""
    edges = {0, numel}
    for step in steps:
        edges |= {step.weight, step.weight + step.numel}
    ordered = sorted(edges)
    return [(a, b - a) for a, b in pairwise(ordered)]


def _by_second(w: Tensor, step: PlacedInstruction) -> Tensor:
    """Weights (..., u v w) as maps (..., v u, w)."""
    shaped = w.unflatten(-1, (step.first.mul, step.second.mul, step.out.mul))
    return shaped.transpose(-3, -2).flatten(-3, -2)


def _mixed(pairs: Tensor, maps: Tensor) -> Tensor:
    """(B, pairs, components) by (pairs, w) or (B, pairs, w) to (B, w, components)."""
    if maps.ndim == 3:
        return torch.bmm(maps.transpose(1, 2), pairs)
    rows = pairs.transpose(1, 2)
    return (rows.flatten(0, 1) @ maps).unflatten(0, rows.shape[:2]).transpose(1, 2)


def _filled(blocks: Sequence[tuple[Leg, Tensor]], dim: int) -> Tensor:
    """Blocks (B, channels, components) in their order as rows, zero between them."""
    parts, end = [], 0
    for out, z in blocks:
        if out.start > end:
            parts.append(z.new_zeros(z.shape[0], out.start - end))
        parts.append(z.flatten(1))
        end = out.start + out.mul * out.dim
    if end < dim:
        parts.append(blocks[0][1].new_zeros(blocks[0][1].shape[0], dim - end))
    return torch.cat(parts, dim=1)


class Pairwise(ProductPart):
    """Mode ``uuu`` of blocks with the same number of channels: channel u meets channel u."""

    def __init__(self, steps: Sequence[PlacedInstruction], sizes: RowSizes) -> None:
        super().__init__(steps, sizes)
        self.steps = list(steps)
        self.channels = steps[0].first.mul
        self.reads = (
            list(dict.fromkeys(step.first for step in steps)),
            list(dict.fromkeys(step.second for step in steps)),
        )
        starts = [_starts(blocks) for blocks in self.reads]
        ends = list(accumulate((step.out.dim for step in steps), initial=0))
        entries, values = [], []
        for number, step in enumerate(steps):
            i, j, k = (step.values.abs() > so3.ZERO).nonzero(as_tuple=True)
            first, second = starts[0][step.first], starts[1][step.second]
            entries.append(torch.stack([first + i, second + j, ends[number] + k]))
            values.append(step.values[i, j, k])
            self.register_table(f"values{number}", step.values)
        wide1, wide2 = (sum(leg.dim for leg in blocks) for blocks in self.reads)
        self._entries = torch.cat(entries, dim=1), torch.cat(values), (wide1, wide2, ends[-1])
        self.dim_out = sizes.out
        self.cuts = _cuts([s for s in steps if s.weight >= 0], sizes.weights)

    @override
    def forward(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        weights: dict[int, Tensor] = {}
        if w is not None:
            parts = w.split([size for _, size in self.cuts], dim=-1)
            weights = {start: part for (start, _), part in zip(self.cuts, parts, strict=True)}
        rows1, rows2 = (
            torch.cat([self._channels(t, leg) for leg in legs], dim=2).flatten(0, 1)
            for t, legs in zip((x, y), self.reads, strict=True)
        )
        pieces = self._multiplied(rows1, rows2).unflatten(0, (-1, self.channels))
        sums: dict[Leg, Tensor] = {}
        dims = [step.out.dim for step in self.steps]
        for step, z in zip(self.steps, pieces.split(dims, dim=2), strict=True):
            if step.weight >= 0:
                z = z * weights[step.weight].unsqueeze(-1)
            sums[step.out] = sums[step.out] + z if step.out in sums else z
        return _filled(sorted(sums.items(), key=lambda item: item[0]), self.dim_out)

    def _channels(self, x: Tensor, leg: Leg) -> Tensor:
        block = x[:, leg.start : leg.start + leg.mul * leg.dim]
        return block.unflatten(1, (leg.mul, leg.dim))

    def _multiplied(self, x: Tensor, y: Tensor) -> Tensor:
        """One channel's products, all steps apart: (N, dim1) and (N, dim2)."""
        if tile.applies(x):
            return tile.bilinear(x, y, self._packed(x.dtype))
        starts = [_starts(blocks) for blocks in self.reads]
        made = []
        for number, step in enumerate(self.steps):
            first, second = starts[0][step.first], starts[1][step.second]
            outer = (
                x[:, first : first + step.first.dim, None]
                * y[:, None, second : second + step.second.dim]
            )
            made.append(outer.flatten(1) @ self.table(f"values{number}", x.dtype).flatten(0, 1))
        return torch.cat(made, dim=1)

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _packed(self, dtype: torch.dtype) -> tile.Packed:
        programs: program.Bilinear | None = self.__dict__.get("_programs")
        if programs is None:
            entries, values, dims = self._entries
            programs = compose.of_entries(entries.numpy(), values.numpy(), dims)
            self.__dict__["_programs"] = programs
        return tile.kept(programs, dtype)


def _starts(blocks: Sequence[Leg]) -> dict[Leg, int]:
    ends = accumulate((leg.dim for leg in blocks), initial=0)
    return dict(zip(blocks, ends, strict=False))


def parts_of(steps: Sequence[PlacedInstruction], sizes: RowSizes) -> list[ProductPart]:
    """Parts that compute the steps between them.

    Raises:
        ValueError: If a mode is none of these.
    """
    groups: dict[tuple[type[ProductPart], int], list[PlacedInstruction]] = {}
    for step in steps:
        groups.setdefault(_kind(step), []).append(step)
    return [kind(own, sizes) for (kind, _), own in groups.items()]


def _kind(step: PlacedInstruction) -> tuple[type[ProductPart], int]:
    """What computes a step, and which of several."""
    if step.mode == "uuu" and step.first.mul > 1:
        return Pairwise, step.first.mul
    if step.mode in ("uuu", "uvu", "uvuv"):
        return Channelwise, 0
    if step.mode == "uvw":
        return (Selected if step.second.dim == 1 and step.second.mul > 1 else Mixed), 0
    raise ValueError(
        f"from_e3nn: connection mode {step.mode!r} is not one of uuu, uvu, uvuv, uvw; "
        "keep this product as it is"
    )

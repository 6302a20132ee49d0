r"""SO(2) convolutions whose channels are mixed at the nodes: after the sum over edges, not before.

Maps that all edges share commute with turning back and with adding up. So an edge only has to keep
apart what its maps make of each irrep, channel by channel, which is an edge product with harmonics
of its direction. The dense matrices then run once for each node instead of once for each edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import prod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from etp.e3 import o3
from etp.irreps import Layout
from etp.kernels.edge import convolution
from etp.kernels.edge_table import EdgePath, EdgeTable
from etp.kernels.tables import TableModule
from etp.maths import so3
from etp.products._frames import Harmonics

MADE = 8
"""Multiply-adds of channels, in vectors, that take as long as one with harmonics before them."""


class SharedMap(Protocol):
    """The linear map of one order, shared by all edges."""

    @property
    def order(self) -> int:
        """The order m."""
        ...

    @property
    def reads(self) -> tuple[int, ...]:
        """Blocks that are its rows."""
        ...

    @property
    def writes(self) -> tuple[int, ...]:
        """Blocks that are its columns."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its weights."""
        ...

    @property
    def scale(self) -> slice:
        """Where factors of an edge hold those of its rows."""
        ...

    @property
    def is_complex(self) -> bool:
        """Whether its weights have an imaginary part."""
        ...


class _Term(NamedTuple):
    """Rows of a map's matrix, of its real part (0) or of its imaginary one (1)."""

    map: int
    rows: slice
    part: int


class _Pair(NamedTuple):
    """A block that is read and an irrep that is written, in plain numbers.

    Attributes:
        out: Number of the irrep among those of the output.
        dim: Its components.
        mul: Channels of the block.
        paths: Number of edge products between them.
        terms: Rows of the maps that join them.
    """

    out: int
    dim: int
    mul: int
    paths: int
    terms: list[_Term]


class AtNodes(TableModule):
    """A convolution of shared maps: edge products with harmonics, added up, then mixed.

    Without factors of edges the paths are those of Clebsch-Gordan, one for each degree of the
    harmonics, and what is mixed is what the maps make of them; with factors there is one for each
    order.

    Args:
        maps: The maps.
        irreps_in: Features of a node.
        irreps_out: Output.
        ends: How many ends of an edge are read: 1 or 2.
        parity: Whether pairs (m, -m) of irreps of the parity -(-1)^l are taken times i.
        layout: Order within a block of features.
        scaled: Whether edges have factors.

    Attributes:
        edge_macs: Multiply-adds for an edge, in units of those of channels.
        node_macs: Multiply-adds for a node.
        width: Numbers of a node before they are mixed.
    """

    def __init__(
        self,
        maps: Sequence[SharedMap],
        irreps_in: o3.Irreps,
        irreps_out: o3.Irreps,
        ends: int,
        *,
        parity: bool,
        layout: Layout,
        scaled: bool,
    ) -> None:
        super().__init__()
        self._maps, self._layout = maps, layout
        irs_out = list(dict.fromkeys(ir for _, ir in irreps_out))
        # Plain numbers: the compiler cannot guard e3nn's irreps.
        self._written = [(mul, ir.dim, irs_out.index(ir)) for mul, ir in irreps_out]
        top = irreps_in.lmax + irreps_out.lmax
        self._harmonics = Harmonics(self, top)
        self.edge_macs = self._harmonics.macs
        self._pairs: list[list[_Pair]] = []
        tables = []
        for end in range(ends):
            pairs: list[_Pair] = []
            paths, start = [], 0
            for out, ir in enumerate(irs_out):
                for join in _joins(maps, irreps_in, irreps_out, ir, end, parity=parity):
                    own, shares = _by_order(join) if scaled else _by_degree(join)
                    self.register_table(f"shares_{end}_{len(pairs)}", shares)
                    pairs.append(_Pair(out, ir.dim, join.mul, len(own), join.terms))
                    for path in own:
                        paths.append(path._replace(z=start))
                        start += join.mul * ir.dim
            dims = irreps_in.dim, self._harmonics.numel, start
            tables.append(EdgeTable(paths, dims, maps[-1].scale.stop, layout))
            self._pairs.append(pairs)
            self.edge_macs += sum(map(_macs, paths))
        self.tables = torch.nn.ModuleList(tables)
        self.width = sum(table.dims[2] for table in tables)
        self._rows = [
            sum(p.paths * p.mul for pairs in self._pairs for p in pairs if p.out == out)
            for out in range(len(irs_out))
        ]
        self.node_macs = sum(mul * dim * self._rows[out] for mul, dim, out in self._written)

    def macs(self, nodes: int, edges: int) -> int:
        """Multiply-adds of one call.

        Args:
            nodes: Of the output.
            edges: Of the graph.
        """
        return edges * self.edge_macs + nodes * self.node_macs

    def forward(
        self,
        x: Tensor,
        directions: Tensor,
        weights: Tensor,
        ends: Sequence[Tensor],
        receivers: Tensor,
        num_nodes: int,
        scale: Tensor | None,
    ) -> Tensor:
        """Convolve; all has been checked.

        Args:
            x: Features of the nodes.
            directions: Vectors along the edges.
            weights: Of all maps.
            ends: Nodes that are read at each end.
            receivers: Nodes that edges are added to.
            num_nodes: Nodes of the output.
            scale: Factors of edges, if these paths are for them.
        """
        _, y = self._harmonics.of(directions, x.dtype)
        sums: list[list[Tensor]] = [[] for _ in self._rows]
        for table, end, pairs in zip(self.tables, ends, self._pairs, strict=True):
            z = convolution(table, x, y, scale, end, receivers, num_nodes)  # type: ignore[arg-type]
            sizes = [pair.mul * pair.dim for pair in pairs for _ in range(pair.paths)]
            pieces = iter(z.split(sizes, dim=1))
            for pair in pairs:
                sums[pair.out] += [
                    self._by_component(next(pieces), pair) for _ in range(pair.paths)
                ]
        rows = [torch.cat(own, dim=2).flatten(0, 1) for own in sums]
        blocks = []
        for (mul, dim, out), matrix in zip(self._written, self._matrices(weights), strict=True):
            z = (rows[out] @ matrix).reshape(num_nodes, dim, mul)
            blocks.append((z if self._layout == "ir_mul" else z.mT).flatten(1))
        return torch.cat(blocks, dim=1)

    def _by_component(self, z: Tensor, pair: _Pair) -> Tensor:
        """What a path gave, (N, mul * dim), as (N, dim, mul)."""
        if self._layout == "ir_mul":
            return z.unflatten(1, (pair.dim, pair.mul))
        return z.unflatten(1, (pair.mul, pair.dim)).mT

    def _matrices(self, weights: Tensor) -> Iterator[Tensor]:
        """For each block of the output the matrix from all rows of its irrep to its channels."""
        parts = weights.split([prod(own.shape) for own in self._maps])
        shaped = [p.view(-1, *own.shape[-2:]) for p, own in zip(parts, self._maps, strict=True)]
        for block, (mul, _, out) in enumerate(self._written):
            rows = []
            for end, pairs in enumerate(self._pairs):
                for number, pair in enumerate(pairs):
                    if pair.out != out:
                        continue
                    shares = self.table(f"shares_{end}_{number}", weights.dtype)
                    own = [self._of_term(shaped, term, block, mul) for term in pair.terms]
                    mixed = shares @ torch.stack(own).flatten(1)
                    rows.append(mixed.reshape(-1, mul))
            yield torch.cat(rows)

    def _of_term(self, shaped: Sequence[Tensor], term: _Term, block: int, mul: int) -> Tensor:
        """Weights of a term to a block of the output, (channels read, channels written)."""
        start = sum(self._written[n][0] for n in self._maps[term.map].writes if n < block)
        return shaped[term.map][term.part, term.rows, start : start + mul]


class _Join(NamedTuple):
    """A block and an output irrep: the terms of the maps, and the couplings that each is.

    Attributes:
        x: First number of the block.
        mul: Its channels.
        l1: Its degree.
        l3: That of the output.
        terms: Rows of the maps that join them.
        factors: First factor of an edge for each term.
        shares: What each degree of the harmonics has of each term, (degrees, terms).
    """

    x: int
    mul: int
    l1: int
    l3: int
    terms: list[_Term]
    factors: list[int]
    shares: Tensor


def _joins(
    maps: Sequence[SharedMap],
    irreps_in: o3.Irreps,
    irreps_out: o3.Irreps,
    ir_out: o3.Irrep,
    end: int,
    *,
    parity: bool,
) -> Iterator[_Join]:
    """Blocks of an end that maps join to an output irrep."""
    for number, ((mul, ir), part) in enumerate(zip(irreps_in, irreps_in.slices(), strict=True)):
        terms, factors, shares = [], [], []
        read = end * len(irreps_in) + number
        for of, own in enumerate(maps):
            if read not in own.reads or ir_out not in {irreps_out[n].ir for n in own.writes}:
                continue
            start = sum(irreps_in[n % len(irreps_in)].mul for n in own.reads if n < read)
            quarters = is_pseudo(ir) - is_pseudo(ir_out) if parity else 0
            for imaginary in range(2 if own.is_complex else 1):
                terms.append(_Term(of, slice(start, start + mul), imaginary))
                factors.append(own.scale.start + start)
                shares.append(_shares(own.order, ir.l, ir_out.l, quarters + imaginary))
        if terms:
            yield _Join(part.start, mul, ir.l, ir_out.l, terms, factors, torch.stack(shares, dim=1))


Paths = tuple[list[EdgePath], Tensor]
"""Edge products, where they go not told yet, and what each adds to each term: (paths, terms)."""


def _by_degree(join: _Join) -> Paths:
    """A path for each degree of the harmonics that any term needs."""
    low, paths, kept = abs(join.l1 - join.l3), [], []
    for number, values in enumerate(_couplings(join.l1, join.l3)):
        if join.shares[number].any():
            kept.append(number)
            paths.append(EdgePath(join.x, (low + number) ** 2, 0, -1, join.mul, values))
    return paths, join.shares[kept]


def _by_order(join: _Join) -> Paths:
    """A path for each term, with factors of its own."""
    start = (join.l1 - join.l3) ** 2
    paths = []
    for factor, shares in zip(join.factors, join.shares.T, strict=True):
        values = _coupled(join.l1, join.l3, shares)
        paths.append(EdgePath(join.x, start, 0, factor, join.mul, values))
    return paths, torch.eye(len(paths), dtype=torch.float64)


def _macs(path: EdgePath) -> int:
    """Multiply-adds of a path for one edge: of its coefficients, and of its channels."""
    there = path.values != 0
    return MADE * int(there.sum()) + path.mul * int(there.any(1).sum())


@cache
def _couplings(l1: int, l3: int) -> tuple[Tensor, ...]:
    """Couplings to harmonics of each degree from abs(l1 - l3) to l1 + l3, of whatever sign.

    Each has shape (2 l1 + 1, 2 l + 1, 2 l3 + 1).
    """
    low, high = sorted((l1, l3))
    pairs = (w if l1 == low else w.transpose(0, 1) for w in so3.couplings(low, high))
    return tuple(torch.where(w.abs() > so3.ZERO, w, 0.0).transpose(1, 2) for w in pairs)


def _coupled(l1: int, l3: int, shares: Tensor) -> Tensor:
    """Couplings to harmonics of every degree, a share of each: (2 l1 + 1, harmonics, 2 l3 + 1)."""
    couplings = _couplings(l1, l3)
    return torch.cat([w * share for w, share in zip(couplings, shares, strict=True)], dim=1)


def along_direction(order: int, l1: int, l3: int, quarters: int) -> Tensor:
    """A map along a direction as couplings to its harmonics, (2 l1 + 1, harmonics, 2 l3 + 1).

    Args:
        order: As of :func:`_shares`, and so are the others.
        l1: Degree that is read.
        l3: Degree that is written.
        quarters: Times i that often.
    """
    return _coupled(l1, l3, _shares(order, l1, l3, quarters))


def _shares(order: int, l1: int, l3: int, quarters: int) -> Tensor:
    """What couplings to harmonics make of a map along the direction, (degrees,).

    The map takes components m and -m of degree l1 to those of degree l3, and all others to zero.
    Harmonics are scaled to 1 along the pole, where couplings to different degrees are orthogonal,
    of square 1 / (2 l + 1).

    Args:
        order: The order m.
        l1: Degree that is read.
        l3: Degree that is written.
        quarters: Times i that often, the pair as a complex number x_m + i x_-m.
    """
    wanted = torch.zeros(2 * l1 + 1, 2 * l3 + 1, dtype=torch.float64)
    if quarters == 0:
        wanted[[l1 - order, l1 + order], [l3 - order, l3 + order]] = 1.0
    else:
        wanted[l1 - order, l3 + order], wanted[l1 + order, l3 - order] = -quarters, quarters
    shares = [w.shape[1] * (w[:, w.shape[1] // 2] * wanted).sum() for w in _couplings(l1, l3)]
    values = torch.stack(shares)
    return torch.where(values.abs() > so3.ZERO, values, 0.0)


def is_pseudo(ir: o3.Irrep) -> bool:
    """Whether an irrep has the parity -(-1)^l."""
    return bool(ir.p != (-1) ** ir.l)

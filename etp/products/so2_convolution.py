r"""SO(2) convolution that mixes channels: a dense linear map for each order along an edge.

This is the operation of eSCN (Passaro and Zitnick 2023, arXiv:2302.03655, section 3) and of UMA
(arXiv:2506.23971).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp import irreps as irreps_module
from etp.e3 import o3
from etp.irreps import LAYOUTS, Layout
from etp.kernels.modes import autocasting, plain_only, traced
from etp.kernels.operators import serves
from etp.kernels.tables import TableModule
from etp.product.graph import check_graph, check_like, check_nodes
from etp.product.inputs import promoted
from etp.product.path import Cost
from etp.product.walk import Access, Edges, Nodes, Walk, Whole
from etp.products._frames import Rows, WignerRows, along
from etp.products._so2_nodes import AtNodes, is_pseudo

CHUNK_BYTES = 4 << 20
"""Memory of the features of a chunk of edges, small enough for a cache."""

NODE_BYTES = 1 << 30
"""Most memory of what nodes keep apart where their channels are mixed after the sum."""


class OrderMap(NamedTuple):
    """The linear map of one order m: components m and -m of all irreps that have them.

    Attributes:
        order: The order, 0 or more.
        reads: Numbers of the blocks of irreps that it reads; their channels, one block after the
            other, are the rows of its matrix. With both ends those of the receiver follow.
        writes: Numbers of the blocks that it writes, columns of its matrix.
        shape: Of its weights: (rows, columns), or (2, rows, columns) for the real and imaginary
            parts of a complex map.
        weights: Where all weights hold them.
        scale: Where the factors of an edge hold those of its rows.

    Examples:
        >>> convolution = SO2Convolution("4x0e+2x1o", "3x0e+1o+2e", parity=False)
        >>> convolution.maps[1][:4]
        (1, (1,), (1, 2), (2, 2, 2))
    """

    order: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    shape: tuple[int, ...]
    weights: slice
    scale: slice

    @property
    def is_complex(self) -> bool:
        """Whether its weights have a real and an imaginary part."""
        return len(self.shape) == 3

    @property
    def macs(self) -> int:
        """Multiply-adds for one edge."""
        rows, columns = self.shape[-2:]
        return rows * columns * (1 if self.order == 0 else 4 if self.is_complex else 2)


class SO2Convolution(TableModule):
    r"""Convolution of eSCN and UMA: features seen along the edge, mixed order by order, added up.

    .. math::
        z_n = \sum_{e \to n} D(R_e)\, W\, (s_e \odot D(R_e)^T x_{\mathrm{sender}(e)})

    :math:`R_e` turns the polar axis to the direction of the edge. W is a dense matrix over
    (irreps, channels) for each order m up to ``mmax``, the same for m and -m and for all edges;
    this is all that commutes with turns about the edge. With all orders it is every equivariant
    map that is linear in the features, so by Schur's lemma it is what a fully connected
    Clebsch-Gordan product (e3nn's ``uvw``) with shared weights and *all* spherical harmonics
    :math:`Y_l(d)`, l up to the sum of both largest degrees, can compute. A smaller ``mmax`` takes
    maps and cost away.

    Maps that all edges share commute with turning back and adding up. On a CPU, where an edge takes
    fewer multiply-adds so, edges only keep apart what the maps mix, and the matrices run once for
    each node; else they run once for each edge, some edges at a time.

    Every weight is one independent map. Two irreps of degrees l1 and l3 are joined by
    ``mul_in * mul_out * (n + 1)`` maps, n = min(l1, l3, mmax), if both or none have the parity
    (-1)^l, else by ``mul_in * mul_out * n``; where parity is ignored by both.

    Args:
        irreps_in: Features of a node, any multiplicities.
        irreps_out: Output, any multiplicities.
        mmax: Largest order; None for all.
        parity: True for equivariance under rotations and inversion, as the parities of the irreps
            say; all maps are real. False for rotations alone, as in eSCN and UMA, whose features
            have no parity: maps of orders above 0 are complex.
        both_ends: Whether the features of the receiver are read beside those of the sender, as UMA
            does: twice the channels.
        layout: ``mul_ir`` (channel, component) as in e3nn, or ``ir_mul`` (component, channel).

    Attributes:
        maps: The linear maps, in the order of their weights.
        irreps_read: What an edge reads: ``irreps_in``, twice with both ends.
        weight_numel: Weights of all maps.
        scale_numel: Factors of an edge: one for each row of each map.

    Raises:
        IrrepsError: If irreps are not valid.
        ValueError: If ``mmax`` is negative, or an output is out of reach.

    Examples:
        >>> import torch
        >>> import etp
        >>> convolution = etp.SO2Convolution("8x0e+8x1o+8x2e", "8x0e+8x1o+8x2e", mmax=1)
        >>> convolution
        SO2Convolution(8x0e+8x1o+8x2e -> 8x0e+8x1o+8x2e, mmax 1)
        >>> [(part.order, part.shape) for part in convolution.maps]
        [(0, (24, 24)), (1, (16, 16))]
        >>> senders, receivers = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 2])
        >>> x, directions = torch.randn(3, 72), torch.randn(3, 3)
        >>> weights = torch.randn(convolution.weight_numel)
        >>> convolution(x, directions, weights, senders, receivers, 3).shape
        torch.Size([3, 72])
    """

    def __init__(
        self,
        irreps_in: str | o3.Irreps,
        irreps_out: str | o3.Irreps,
        *,
        mmax: int | None = None,
        parity: bool = True,
        both_ends: bool = False,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__()
        if mmax is not None and mmax < 0:
            raise ValueError(f"mmax must be at least 0, got {mmax}")
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        self.irreps_in = irreps_module.parse(irreps_in, "irreps_in")
        self.irreps_out = irreps_module.parse(irreps_out, "irreps_out")
        self.parity, self.both_ends, self.layout = parity, both_ends, layout
        self.irreps_read = self.irreps_in + self.irreps_in if both_ends else self.irreps_in
        shared = min(max(ir.l for _, ir in own) for own in (self.irreps_in, self.irreps_out))
        self.mmax = shared if mmax is None else min(mmax, shared)
        self.maps = tuple(self._laid_out())
        reached = {block for part in self.maps for block in part.writes}
        lost = {str(ir) for n, (_, ir) in enumerate(self.irreps_out) if n not in reached}
        if lost:
            raise ValueError(
                f"irreps_out must be within reach of irreps_in {self.irreps_in} with orders up to "
                f"{self.mmax}, got {', '.join(sorted(lost))}: leave them out, or give parity=False"
            )
        self.weight_numel = self.maps[-1].weights.stop
        self.scale_numel = self.maps[-1].scale.stop
        matrices: dict[Rows, int] = {}
        self._read = self._blocks(self.irreps_read, [p.reads for p in self.maps], matrices)
        self._written = self._blocks(self.irreps_out, [p.writes for p in self.maps], matrices)
        self._turns = WignerRows(self, list(matrices))
        self._plain_nodes, self._scaled_nodes = (
            AtNodes(
                self.maps, self.irreps_in, self.irreps_out, 1 + both_ends,
                parity=parity, layout=layout, scaled=scaled,
            )
            for scaled in (False, True)
        )  # fmt: skip
        turning = sum(b.mul * b.dim * sum(b.sizes) for b in (*self._read, *self._written))
        mixing = sum(part.macs for part in self.maps)
        self._edge_macs = self._turns.macs + turning + mixing + self.irreps_out.dim
        # Plain numbers: the compiler cannot guard e3nn's irreps.
        self._widths = self.irreps_in.dim, self.irreps_read.dim, self.irreps_out.dim
        self._sizes = [mul * ir.dim for mul, ir in self.irreps_read]
        self._factors = [part.shape[-2] for part in self.maps]
        self._columns = [[self.irreps_out[n].mul for n in part.writes] for part in self.maps]

    def _laid_out(self) -> Iterator[OrderMap]:
        """Maps and where their weights lie."""
        weights = scale = 0
        for order in range(self.mmax + 1):
            # Of order 0 only irreps of the same parity relative to (-1)^l are joined.
            for pseudo in (False, True) if self.parity and order == 0 else (None,):
                reads, writes = (
                    tuple(
                        number
                        for number, (_, ir) in enumerate(irreps)
                        if ir.l >= order and pseudo in (None, is_pseudo(ir))
                    )
                    for irreps in (self.irreps_read, self.irreps_out)
                )
                if not (reads and writes):
                    continue
                rows, columns = (
                    sum(irreps[n].mul for n in numbers)
                    for irreps, numbers in ((self.irreps_read, reads), (self.irreps_out, writes))
                )
                shape = (rows, columns) if order == 0 or self.parity else (2, rows, columns)
                ends = weights + prod(shape), scale + rows
                yield OrderMap(
                    order, reads, writes, shape, slice(weights, ends[0]), slice(scale, ends[1])
                )
                weights, scale = ends

    def _blocks(
        self,
        irreps: o3.Irreps,
        members: Sequence[tuple[int, ...]],
        matrices: dict[Rows, int],
    ) -> list[_OnEdges]:
        """Blocks of features as the maps have them; the matrices that turn them are numbered."""
        blocks = []
        for number, (mul, ir) in enumerate(irreps):
            maps = tuple(n for n, those in enumerate(members) if number in those)
            if not maps:  # read by no map: of no effect
                continue
            orders = [_both(self.maps[n].order) for n in maps]
            rows = Rows(ir.l, tuple(m for both in orders for m in both),
                        self.parity and is_pseudo(ir))  # fmt: skip
            matrix = matrices.setdefault(rows, len(matrices))
            blocks.append(
                _OnEdges(number, mul, ir.dim, maps, [len(both) for both in orders], matrix)
            )
        return blocks

    @override
    def forward(
        self,
        x: Tensor,
        directions: Tensor,
        weights: Tensor,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Convolve; differentiable to any order by all that is given.

        Args:
            x: Features of the nodes, (N, irreps_in.dim); N is at least 1 + the largest sender, with
                both ends also 1 + the largest receiver.
            directions: Vectors along the edges, (E, 3), of any length: one of length 0 has no
                direction, and its edge adds nothing.
            weights: All weights, (weight_numel,); see :meth:`matrices`.
            senders: Node that each edge reads, (E,), whole numbers. Edges may come in any order.
            receivers: Node that each edge is added to, (E,).
            num_nodes: Number of nodes of the output.
            scale: Factors of the rows of the maps, (E, scale_numel), such as a radial network
                gives; None for ones.

        Returns:
            Shape (num_nodes, irreps_out.dim); nodes without edges are zero.

        Raises:
            ValueError: If a shape, dtype, device or node number does not fit.
        """
        if autocasting(self.device.type):
            x, weights, _ = promoted(x, weights, None)
            directions = directions.to(x.dtype)
            scale = None if scale is None else scale.to(x.dtype)
        with torch.autocast(self.device.type, enabled=False):
            return self._convolve(x, directions, weights, senders, receivers, num_nodes, scale)

    def _convolve(
        self,
        x: Tensor,
        directions: Tensor,
        weights: Tensor,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
        scale: Tensor | None,
    ) -> Tensor:
        edges = check_graph(x, self._widths[0], senders, receivers)
        known = min(x.shape[0], num_nodes) if self.both_ends else num_nodes
        check_nodes(x, senders, receivers, known)
        self._check(x, directions, weights, scale, edges)
        ends = [senders, receivers] if self.both_ends else [senders]
        given = [directions] if scale is None else [directions, scale]
        at_nodes = self._plain_nodes if scale is None else self._scaled_nodes
        if edges and self._fewer(at_nodes, x, num_nodes, edges):
            return at_nodes(x, directions, weights, ends, receivers, num_nodes, scale)
        if edges == 0 or traced() or plain_only():
            read = torch.cat([x.index_select(0, end) for end in ends], dim=1)
            z = self._messages(read, self.matrices(weights), *given)
            return z.new_zeros(num_nodes, z.shape[1]).index_add(0, receivers, z)
        return self._walk(x, ends, self.matrices(weights), given, Nodes(receivers, num_nodes))

    def _fewer(self, at_nodes: AtNodes, x: Tensor, nodes: int, edges: int) -> bool:
        """Whether it is less work to mix channels after the sum than before, and fits."""
        if not (x.is_cpu and serves(x)):
            return False
        fits = nodes * at_nodes.width * x.element_size() <= NODE_BYTES
        return fits and at_nodes.macs(nodes, edges) < edges * self._edge_macs

    def _walk(
        self,
        x: Tensor,
        ends: Sequence[Tensor],
        matrices: Sequence[Tensor],
        given: Sequence[Tensor],
        nodes: Nodes,
    ) -> Tensor:
        """Convolve chunk by chunk, in derivatives too."""
        first, last = len(ends), len(ends) + len(matrices)

        def chunk(*parts: Tensor) -> tuple[Tensor, ...]:
            read = torch.cat(parts[:first], dim=1) if first > 1 else parts[0]
            return (self._messages(read, parts[first:last], *parts[last:]),)

        ways: list[Access] = [Nodes(end, x.shape[0]) for end in ends]
        ways += [Whole()] * len(matrices) + [Edges()] * len(given)
        numbers = sum(self._widths)
        step = max(1, CHUNK_BYTES // (numbers * x.element_size()))
        walk = Walk(chunk, ways, [nodes], len(nodes.index), step)
        (z,) = walk(*[x] * len(ends), *matrices, *given)
        return z

    def messages(
        self, x: Tensor, directions: Tensor, weights: Tensor, scale: Tensor | None = None
    ) -> Tensor:
        """What each edge adds to its receiver.

        Args:
            x: What each edge reads, (E, irreps_read.dim).
            directions: As in :meth:`forward`.
            weights: As in :meth:`forward`.
            scale: As in :meth:`forward`.

        Returns:
            Shape (E, irreps_out.dim).
        """
        check_like(x, "x", x, (x.shape[0], self._widths[1]))
        self._check(x, directions, weights, scale, x.shape[0])
        return self._messages(x, self.matrices(weights), directions, scale)

    def _messages(
        self,
        x: Tensor,
        matrices: Sequence[Tensor],
        directions: Tensor,
        scale: Tensor | None = None,
    ) -> Tensor:
        turns = self._turns(*along(directions, self._turns.top, x.dtype))
        features = x.split(self._sizes, dim=1)
        seen: list[list[Tensor]] = [[] for _ in self.maps]
        for block in self._read:
            own = self._by_component(features[block.number], block)
            rows = torch.bmm(turns[block.matrix], own)
            for number, of_order in zip(block.maps, rows.split(block.sizes, dim=1), strict=True):
                seen[number].append(of_order)
        mixed: list[list[Tensor]] = [[] for _ in self._written]
        factors = [] if scale is None else scale.unsqueeze(1).split(self._factors, dim=2)
        for number, (part, matrix) in enumerate(zip(self.maps, matrices, strict=True)):
            rows = torch.cat(seen[number], dim=2)
            if factors:
                rows = rows * factors[number]
            parts = _mixed(rows, matrix).split(self._columns[number], dim=2)
            for written, of_order in zip(part.writes, parts, strict=True):
                mixed[written].append(of_order)
        blocks = [
            self._back(torch.cat(own, dim=1), turns[block.matrix])
            for own, block in zip(mixed, self._written, strict=True)
        ]
        return torch.cat(blocks, dim=1)

    def _by_component(self, x: Tensor, block: _OnEdges) -> Tensor:
        """A block of features (E, mul * dim) as (E, dim, mul)."""
        if self.layout == "ir_mul":
            return x.unflatten(1, (block.dim, block.mul))
        return x.unflatten(1, (block.mul, block.dim)).mT

    def _back(self, rows: Tensor, turn: Tensor) -> Tensor:
        """Rows along the edges (E, rows, mul), turned back, as a block (E, mul * dim)."""
        by_channel = self.layout == "mul_ir"
        z = torch.bmm(rows.mT, turn) if by_channel else torch.bmm(turn.mT, rows)
        return z.flatten(1)

    def matrices(self, weights: Tensor) -> list[Tensor]:
        """Weights as the matrices of the maps, which multiply rows from the right.

        Components m and -m are one complex number x_m + i x_-m, that of an irrep of the parity
        -(-1)^l times i where parity is kept. A real matrix A multiplies both of its parts.

        Args:
            weights: All weights, (weight_numel,), map after map.

        Returns:
            For each map its matrix (rows, columns); of a complex one, A + iB, the matrix
            ((A, -B), (B, A)) that takes all x_-m and then all x_m to the same of the output.
        """
        matrices = []
        sizes = [prod(part.shape) for part in self.maps]
        for part, flat in zip(self.maps, weights.split(sizes), strict=True):
            own = flat.view(part.shape)
            if part.is_complex:
                real, imaginary = own
                own = torch.cat(
                    [torch.cat([real, -imaginary], dim=1), torch.cat([imaginary, real], dim=1)]
                )
            matrices.append(own)
        return matrices

    def _check(
        self, x: Tensor, directions: Tensor, weights: Tensor, scale: Tensor | None, edges: int
    ) -> None:
        check_like(x, "directions", directions, (edges, 3))
        check_like(x, "weights", weights, (self.weight_numel,))
        if scale is not None:
            check_like(x, "scale", scale, (edges, self.scale_numel))

    def cost(self, nodes: int, edges: int, itemsize: int, scaled: bool = False) -> Cost:
        """Multiply-adds and minimal bytes of one call.

        Args:
            nodes: Nodes read and written.
            edges: Edges walked.
            itemsize: Bytes of a number.
            scaled: Whether edges have factors.
        """
        at_nodes = self._scaled_nodes if scaled else self._plain_nodes
        mixing = min(edges * self._edge_macs, at_nodes.macs(nodes, edges))
        macs = mixing + edges * (self.scale_numel if scaled else 0)
        numbers = nodes * (self.irreps_in.dim + self.irreps_out.dim) + self.weight_numel
        numbers += edges * (3 + (self.scale_numel if scaled else 0))
        # Senders and receivers, 8 bytes each.
        return Cost(macs, numbers * itemsize + 16 * edges)

    @override
    def __repr__(self) -> str:
        ends = ", both ends" if self.both_ends else ""
        group = "" if self.parity else ", no parity"
        shown = f"{self.irreps_in} -> {self.irreps_out}, mmax {self.mmax}{ends}{group}"
        return f"{type(self).__name__}({shown})"


class _OnEdges(NamedTuple):
    """A block of features: which maps it is part of, with how many rows in each.

    ``matrix`` is the number of the matrix that turns it.
    """

    number: int
    mul: int
    dim: int
    maps: tuple[int, ...]
    sizes: list[int]
    matrix: int


def _mixed(rows: Tensor, matrix: Tensor) -> Tensor:
    """Rows (E, 1 or 2, in) of an order by its matrix: (E, 1 or 2, out)."""
    if rows.shape[2] == matrix.shape[0]:
        return (rows.flatten(0, 1) @ matrix).unflatten(0, rows.shape[:2])
    return (rows.flatten(1) @ matrix).unflatten(1, (2, -1))


def _both(order: int) -> tuple[int, ...]:
    return (-order, order) if order else (0,)

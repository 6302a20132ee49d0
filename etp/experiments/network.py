"""A small message-passing network in which every layer runs a registered product.

Everything but the product is as plain as it can be (linear maps within an irrep, gates, sums over
neighbours), so that what a network can and cannot learn is said of its product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp import products
from etp.e3 import o3
from etp.measure import expressivity
from etp.measure.drawing import random_weights
from etp.problem import Problem, Weights
from etp.product.base import TensorProduct
from etp.product.convolution import Convolution

SCALAR, PSEUDOSCALAR = o3.Irrep("0e"), o3.Irrep("0o")


class SpatialGraph(NamedTuple):
    """Nodes in space and the edges between them, of one or several pieces.

    Attributes:
        positions: (N, 3).
        senders: Node that each edge reads, (E,).
        receivers: Node that each edge is added to, (E,).
        piece: Which piece each node belongs to, (N,).
        pieces: Number of pieces.
    """

    positions: Tensor
    senders: Tensor
    receivers: Tensor
    piece: Tensor

    pieces: int


class Linear(nn.Module):
    """Mixes the copies of each irrep, (..., irreps_in.dim) to (..., irreps_out.dim).

    Irreps never meet each other; outputs without an input of their irrep are zero. Weights are
    drawn so that inputs of unit variance give outputs of unit variance.
    """

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.weights = nn.ParameterDict(
            {
                str(ir): torch.randn(count, irreps_out.count(ir)) * count**-0.5
                for ir in dict.fromkeys(ir for _, ir in irreps_out)
                if (count := irreps_in.count(ir))
            }
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        mixed = {
            ir: iter(self._mixed(x, ir)) for ir in dict.fromkeys(ir for _, ir in self.irreps_out)
        }
        return torch.cat([next(mixed[ir]).flatten(-2) for _, ir in self.irreps_out], dim=-1)

    def _mixed(self, x: Tensor, ir: o3.Irrep) -> tuple[Tensor, ...]:
        """Blocks of an irrep in the output, each (..., copies, ir.dim)."""
        sizes = [mul for mul, other in self.irreps_out if other == ir]
        blocks = [
            x[..., part].unflatten(-1, (mul, ir.dim))
            for (mul, other), part in zip(self.irreps_in, self.irreps_in.slices(), strict=True)
            if other == ir
        ]
        if not blocks:
            return x.new_zeros(*x.shape[:-1], sum(sizes), ir.dim).split(sizes, dim=-2)
        weights = self.weights[str(ir)]
        return torch.einsum("...ui,uv->...vi", torch.cat(blocks, dim=-2), weights).split(sizes, -2)


class Gate(nn.Module):
    """Scalars through ``silu``, pseudoscalars through ``tanh``, the rest scaled by gates.

    Args:
        channels: Copies of each irrep.
        irs: Irreps of the output, scalars among them.

    Attributes:
        irreps_in: The output's irreps, and a scalar for each copy of a higher degree behind them.
        irreps_out: The output's irreps.
    """

    def __init__(self, channels: int, irs: Iterable[o3.Irrep]) -> None:
        super().__init__()
        self.irreps_out = o3.Irreps([(channels, ir) for ir in irs])
        self.gated = [ir for _, ir in self.irreps_out if ir.l > 0]
        self.channels = channels
        gates = [(channels * len(self.gated), SCALAR)] if self.gated else []
        self.irreps_in = o3.Irreps([*self.irreps_out, *gates])

    @override
    def forward(self, x: Tensor) -> Tensor:
        width = self.irreps_out.dim
        gates = iter(torch.sigmoid(x[..., width:]).split(self.channels, dim=-1))
        blocks = []
        for (mul, ir), part in zip(self.irreps_out, self.irreps_out.slices(), strict=True):
            block = x[..., part]
            if ir == SCALAR:
                blocks.append(torch.nn.functional.silu(block))
            elif ir == PSEUDOSCALAR:
                blocks.append(torch.tanh(block))
            else:
                scaled = block.unflatten(-1, (mul, ir.dim)) * next(gates)[..., None]
                blocks.append(scaled.flatten(-2))
        return torch.cat(blocks, dim=-1)


class NetworkLayer(nn.Module):
    """Nodes read their neighbours through a product, then pass a gate.

    Args:
        product: Name of the product.
        irreps_in: What nodes hold before, the same number of copies of each irrep.
        irreps_edge: Harmonics of the edges.
        keep: Irreps that nodes may hold after; those that nothing reaches are left out.
        weights: ``none``, ``shared`` (learned) or ``balanced`` free weights of the product.
        neighbours: Typical number of edges that a node receives.

    Attributes:
        irreps_out: What nodes hold after.

    Raises:
        ValueError: If the product is unknown or does not apply, or the weights are per sample.
    """

    def __init__(
        self,
        product: str,
        irreps_in: o3.Irreps,
        irreps_edge: o3.Irreps,
        keep: o3.Irreps,
        weights: Weights,
        neighbours: float,
    ) -> None:
        super().__init__()
        tp = products.get(product)(irreps_in, irreps_edge, filter_ir_out=keep)
        self.conv = Convolution(tp)
        reached = {ir for _, ir in tp.irreps_out} | {ir for _, ir in irreps_in}
        gate = Gate(tp.channels, [ir for _, ir in keep if ir in reached])
        self.up = Linear(irreps_in, irreps_in)
        self.down = Linear(tp.irreps_out, gate.irreps_in)
        self.own = Linear(irreps_in, gate.irreps_in)
        self.gate, self.irreps_out = gate, gate.irreps_out
        self.scale = neighbours**-0.5
        self.weights = _free_weights(tp, weights)

    @override
    def forward(self, x: Tensor, y: Tensor, graph: SpatialGraph) -> Tensor:
        """Features (N, irreps_in.dim) and harmonics (E, irreps_edge.dim) to (N, irreps_out.dim)."""
        z = self.conv(self.up(x), y, self.weights, graph.senders, graph.receivers, len(x))
        return self.gate(self.own(x) + self.scale * self.down(z))


def _free_weights(tp: TensorProduct, weights: Weights) -> nn.Parameter | None:
    if weights == "none":
        return None
    if weights == "per-sample":
        raise ValueError("weights must be none, shared or balanced in a network, got 'per-sample'")
    drawn = random_weights(tp, "balanced", 1, torch.Generator()) if weights == "balanced" else None
    values = torch.ones(tp.weight_numel) if drawn is None else drawn.to(torch.get_default_dtype())
    return nn.Parameter(values, requires_grad=weights == "shared")


class Network(nn.Module):
    """Pieces to invariants and pseudoscalars: layers, a linear map, a sum over the nodes.

    Nodes start equal and hold what the product lets them reach, both parities of each degree.

    Args:
        product: Name of the product of every layer.
        outputs: Irreps of the result; those that nothing reaches are zero.
        layers: Number of layers.
        channels: Copies of each irrep in the nodes.
        lmax: Largest degree of nodes and edges.
        weights: As :class:`NetworkLayer`.
        neighbours: As :class:`NetworkLayer`.

    Raises:
        ValueError: As :class:`NetworkLayer`.
    """

    def __init__(
        self,
        product: str,
        outputs: str | o3.Irreps,
        *,
        layers: int,
        channels: int,
        lmax: int,
        weights: Weights = "none",
        neighbours: float = 1.0,
    ) -> None:
        super().__init__()
        self.irreps_edge = o3.Irreps.spherical_harmonics(lmax)
        self.irreps_out = o3.Irreps(outputs)
        keep = o3.Irreps([(1, o3.Irrep(l, p)) for l in range(lmax + 1) for p in (1, -1)])
        irreps = o3.Irreps([(channels, SCALAR)])
        self.start = nn.Parameter(torch.randn(channels))
        self.layers = nn.ModuleList()
        for _ in range(layers):
            layer = NetworkLayer(product, irreps, self.irreps_edge, keep, weights, neighbours)
            self.layers.append(layer)
            irreps = layer.irreps_out
        self.read = Linear(irreps, self.irreps_out)

    @override
    def forward(self, graph: SpatialGraph) -> Tensor:
        """Result of each piece, (pieces, irreps_out.dim)."""
        edges = graph.positions[graph.senders] - graph.positions[graph.receivers]
        y = o3.spherical_harmonics(self.irreps_edge, edges, True, "component")
        x = self.start.expand(len(graph.positions), -1)
        for layer in self.layers:
            x = layer(x, y, graph)
        nodes = self.read(x)
        return nodes.new_zeros(graph.pieces, nodes.shape[1]).index_add(0, graph.piece, nodes)


def gamma(product: str, problem: Problem) -> int:
    """Independent bilinear maps of one channel of a product: the expressivity of a layer."""
    tp = products.get(product)(problem.irreps1, problem.irreps2, filter_ir_out=problem.filter_out)
    return expressivity(tp).rank

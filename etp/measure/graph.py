"""Convolutions and powers as a measurement sees them: called like a product of two inputs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.e3 import o3
from etp.powers.base import Power
from etp.problem import Weights
from etp.product.base import Cost, Path, TensorProduct
from etp.product.convolution import Convolution

GRAPH_SEED = 0


class OnGraph(nn.Module):
    """An edge product with a graph: called with node features, edge features and weights.

    The number of edges is that of the rows of input 2; senders are drawn at random, receivers are
    sorted, as neighbour lists give them, and receive alike. What is not said here is the edge
    product's.

    Args:
        product: An edge product.
        neighbours: Edges that a node receives.

    Attributes:
        per_edge: The edge product.
        convolution: What is called.
    """

    kind = "convolution"

    def __init__(self, product: TensorProduct, neighbours: int) -> None:
        super().__init__()
        self.convolution, self.neighbours = Convolution(product), neighbours

    @property
    def per_edge(self) -> TensorProduct:
        """The edge product."""
        return self.convolution.product

    def __getattr__(self, name: str) -> Any:
        """What is not said here is the edge product's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            convolution: Any = super().__getattr__("convolution")
            return getattr(convolution.product, name)

    def nodes(self, edges: int) -> int:
        """Number of nodes of a graph."""
        return max(1, edges // self.neighbours)

    def graph(self, edges: int) -> tuple[Tensor, Tensor]:
        """Senders and receivers, (E,) each, int64 on the product's device."""
        return _graph(edges, self.nodes(edges), self.per_edge.device)

    @override
    def forward(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Convolve node features (N, dim1) with edge features (E, dim2) to (N, dim3)."""
        z: Tensor = self.convolution(x, y, weights, *self.graph(y.shape[0]), x.shape[0])
        return z

    def cost(self, batch: int, itemsize: int, weights: Weights = "none") -> Cost:
        """Multiply-adds and minimal bytes of one call on ``batch`` edges.

        Args:
            batch: Edges.
            itemsize: Bytes of a number.
            weights: Whether there are weights, and whether each edge has its own.
        """
        return self.convolution.cost(self.nodes(batch), batch, itemsize, weights)


class OnNodes(nn.Module):
    """A power of the features of nodes, called like a product whose input 2 has no numbers.

    Without weights they are all one. What is not said here is the power's.

    Args:
        power: What is called.
        elements: Sets of weights, where nodes share them: each node uses that of its element, which
            is drawn at random.

    Attributes:
        irreps_in1: Irreps of the features.
        irreps_in2: None at all.
        keeps_paths: Whether each coupling has a weight of its own.
        group: That it is equivariant under.
        weights_per: What a weight scales.
    """

    kind = "power"
    group, weights_per = "O(3)", "coupling"
    approximate = False
    paths: tuple[Path, ...] = ()

    def __init__(self, power: Power, elements: int = 1) -> None:
        super().__init__()
        self.power, self.elements = power, elements
        self.irreps_in1, self.irreps_in2 = power.irreps_in, o3.Irreps()
        self.keeps_paths = power.keeps_couplings

    @property
    def per_edge(self) -> OnNodes:
        """What has weights and irreps: itself."""
        return self

    def __getattr__(self, name: str) -> Any:
        """What is not said here is the power's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            power: Any = super().__getattr__("power")
            return getattr(power, name)

    @override
    def forward(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Raise features (N, dim1) to (N, dim3); ``y``, of shape (N, 0), is not looked at."""
        z: Tensor = self.power(x, self.given(x, weights), self.element_of(x, weights))
        return z

    def element_of(self, x: Tensor, weights: Tensor | None) -> Tensor | None:
        """Element of each node of features ``x``, (N,); None where weights are no set for each."""
        if weights is None or weights.ndim == 1 or self.elements == 1:
            return None
        return _elements(x.shape[0], self.elements, x.device)

    def given(self, x: Tensor, weights: Tensor | None) -> Tensor:
        """Weights, all one where there are none, as they go with features ``x``."""
        return x.new_ones(self.power.weight_numel) if weights is None else weights

    def cost(self, nodes: int, itemsize: int, weights: Weights = "shared") -> Cost:
        """Multiply-adds and minimal bytes of one call, the weights of every element among them.

        Args:
            nodes: Rows of the input.
            itemsize: Bytes of a number.
            weights: Whether nodes share weights or each has its own.
        """
        cost = self.power.cost(nodes, itemsize, weights)
        more = (self.elements - 1) * self.power.weight_numel * itemsize
        return cost._replace(bytes=cost.bytes + more)


Measurable = TensorProduct | OnGraph | OnNodes
"""What can be timed and checked: a product, a convolution on a graph, or a power."""


@lru_cache(maxsize=4)
def _graph(edges: int, nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(GRAPH_SEED)
    senders = torch.randint(nodes, (edges,), generator=generator)
    receivers = torch.arange(edges) * nodes // edges
    return senders.to(device), receivers.to(device)


@lru_cache(maxsize=4)
def _elements(nodes: int, elements: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(GRAPH_SEED)
    return torch.randint(elements, (nodes,), generator=generator).to(device)

"""Convolutions with a product's own algorithm: messages of some edges at a time."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from etp.e3 import o3
from etp.kernels.modes import plain_only, traced
from etp.product.walk import Access, Edges, Nodes, Walk, Whole

CHUNK_BYTES = 16 << 20
"""Memory of what one chunk of edges reads and writes; algorithms hold a few times as much."""


class PerEdge(Protocol):
    """What is called for some edges at a time."""

    irreps_out: o3.Irreps

    @property
    def weight_numel(self) -> int:
        """Weights of an edge."""
        ...

    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        """Features of senders and edges to messages.

        Args:
            x1: (E, irreps_in1.dim).
            x2: (E, irreps_in2.dim).
            weights: (E, weight_numel), (weight_numel,) or None.
        """
        ...


def in_chunks(
    product: PerEdge,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    senders: Tensor,
    receivers: Tensor,
    num_nodes: int,
) -> Tensor:
    """Convolve with a product's own algorithm, chunk by chunk.

    A compiler, a tracer or a transform meets all messages at once: the number of chunks would be
    that of the edges it is shown, and the walk's derivative is made of calls, not of operators.

    Args:
        product: An edge product.
        x: Features of the nodes, (N, irreps_in1.dim).
        y: Features of the edges, (E, irreps_in2.dim).
        weights: (E, weight_numel), (weight_numel,) or None.
        senders: Node that each edge reads, (E,).
        receivers: Node that each edge is added to, (E,).
        num_nodes: Nodes of the output.
    """
    if traced() or plain_only():
        messages = product.multiply_channels(x.index_select(0, senders), y, weights)
        out = messages.new_zeros(num_nodes, messages.shape[1])
        return out.index_add(0, receivers, messages)
    ways: list[Access] = [Nodes(senders, x.shape[0]), Edges()]
    tensors = [x, y]
    if weights is not None:
        ways.append(Whole() if weights.ndim == 1 else Edges())
        tensors.append(weights)

    def chunk(*given: Tensor) -> tuple[Tensor, ...]:
        return (product.multiply_channels(*given),)

    numbers = x.shape[1] + y.shape[1] + product.irreps_out.dim + product.weight_numel
    step = max(1, CHUNK_BYTES // (numbers * x.element_size()))
    walk = Walk(chunk, ways, [Nodes(receivers, num_nodes)], senders.shape[0], step)
    (z,) = walk(*tensors)
    return z

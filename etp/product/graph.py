"""Graphs that a convolution is given: nodes that edges read and are added to."""

from __future__ import annotations

import torch
from torch import Tensor

from etp.kernels.modes import plain_only, traced
from etp.product.inputs import check_alike, check_tensor, has_shape


def check_graph(x: Tensor, width: int, senders: Tensor, receivers: Tensor) -> int:
    """Refuse features of nodes and edges that do not fit together.

    Which nodes edges name is not looked at: see :func:`check_nodes`.

    Args:
        x: Features of the nodes.
        width: How many each node must have.
        senders: Node that each edge reads.
        receivers: Node that each edge is added to.

    Returns:
        Number of edges.

    Raises:
        ValueError: Saying what must hold.
    """
    for name, tensor in (("x", x), ("senders", senders), ("receivers", receivers)):
        check_tensor(name, tensor)
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(f"x must have shape (nodes, {width}), got {tuple(x.shape)}")
    if not x.dtype.is_floating_point:
        raise ValueError(f"x must have a floating point dtype, got {x.dtype}")
    edges = senders.numel()
    for name, index in (("senders", senders), ("receivers", receivers)):
        _check_index(name, index, edges, x.device)
    return edges


def check_nodes(x: Tensor, senders: Tensor, receivers: Tensor, num_nodes: int) -> None:
    """Refuse edges between nodes that are not there; see :func:`check_below`.

    Args:
        x: Features of the nodes that are read.
        senders: Node that each edge reads.
        receivers: Node that each edge is added to.
        num_nodes: How many of these there are.

    Raises:
        ValueError: Naming the number.
    """
    check_below("senders", senders, x.shape[0])
    check_below("receivers", receivers, num_nodes)


def check_like(x: Tensor, name: str, tensor: Tensor, *shapes: tuple[int, ...]) -> None:
    """Refuse what has none of the shapes, or not the dtype and device of the features.

    Args:
        x: Features.
        name: What is called so in the error.
        tensor: What goes with them.
        *shapes: Shapes that it may have.

    Raises:
        ValueError: Saying what must hold.
    """
    check_tensor(name, tensor)
    if not has_shape(tensor, *shapes):
        raise ValueError(
            f"{name} must have shape {' or '.join(map(str, shapes))}, got {tuple(tensor.shape)}"
        )
    check_alike(name, tensor, x, "as x is")


def _check_index(name: str, index: Tensor, edges: int, device: torch.device) -> None:
    if index.shape != (edges,) or index.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"{name} must hold {edges} whole numbers, as many as there are edges, got "
            f"{index.dtype} of shape {tuple(index.shape)}"
        )
    if index.device != device:
        raise ValueError(f"{name} must be on {device} as x is, got {index.device}")


def check_below(name: str, index: Tensor, count: int) -> None:
    """Refuse whole numbers that are not from 0 to ``count - 1``, where looking costs little.

    On a GPU it would wait for it; its own indexing checks there. A graph is for other numbers.

    Args:
        name: What they are called in the error.
        index: Whole numbers of any shape.
        count: How many there are to point at.

    Raises:
        ValueError: If one is not.
    """
    if not index.is_cpu or not index.numel() or traced() or plain_only():
        return
    low, high = (int(end) for end in index.aminmax())
    if low < 0 or high >= count:
        raise ValueError(f"{name} must be from 0 to {count - 1}, got {low if low < 0 else high}")

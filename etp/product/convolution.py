"""Convolution on a graph: the edge products of each node's neighbours, added up."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.modes import autocasting, plain_only, traced
from etp.kernels.tables import Unscripted
from etp.problem import Weights
from etp.product.base import Cost, TensorProduct
from etp.product.inputs import has_shape, nothing, promoted
from etp.product.weighting import fit


class Convolution(Unscripted):
    """``z[n] = sum over edges e with receiver n of product(x[sender(e)], y[e], weights[e])``.

    Messages are never all in memory: edges are walked in chunks, or by a kernel that writes the
    receivers' rows at once. Graphs that are compiled, exported or traced, and transforms, hold them
    unless a kernel serves.

    Args:
        product: An edge product, or a product of one channel, which is one.

    Attributes:
        product: The edge product.

    Raises:
        ValueError: If the product pairs channels, or is none of etp's.

    Examples:
        >>> import torch
        >>> from etp import Convolution, products
        >>> convolution = Convolution(products.get("cg-sparse")("8x0e+8x1o", "0e+1o"))
        >>> senders, receivers = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 2])
        >>> x, y = torch.randn(3, 32), torch.randn(3, 4)
        >>> convolution(x, y, None, senders, receivers, 3).shape
        torch.Size([3, 128])
    """

    def __init__(self, product: TensorProduct) -> None:
        super().__init__()
        if not isinstance(product, torch.nn.Module) or not hasattr(product, "kind"):
            raise ValueError(
                "product must be a product of etp, as products.get('cg-sparse')('8x0e', '0e') is, "
                f"got {product!r}"
            )
        if product.kind != "edge" and product.channels > 1:
            raise ValueError(
                f"product must be an edge product, got pairs of {product.channels} channels "
                f"({product.irreps_in1} x {product.irreps_in2}): give input 2 multiplicity 1"
            )
        self.product = product
        # Numbers of its own: compilers cannot look into irreps.
        dims = (irreps.dim for irreps in (product.irreps_in1, product.irreps_in2))
        self._widths = (*dims, product.weight_numel)

    @override
    def forward(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> Tensor:
        """Convolve.

        Args:
            x: Features of the nodes, (N, irreps_in1.dim); N is at least 1 + the largest sender.
            y: Features of the edges, (E, irreps_in2.dim).
            weights: (E, weight_numel), (weight_numel,) for all edges, or None for ones.
            senders: Node that each edge reads, (E,), whole numbers. Edges may come in any order.
            receivers: Node that each edge is added to, (E,).
            num_nodes: Number of nodes of the output.

        Returns:
            Shape (num_nodes, irreps_out.dim); nodes without edges are zero.

        Raises:
            ValueError: If a shape, dtype, device or node number does not fit.
        """
        device = self.product.device.type
        if not autocasting(device):
            return self._convolve(x, y, weights, senders, receivers, num_nodes)
        x, y, weights = promoted(x, y, weights)
        with torch.autocast(device, enabled=False):
            return self._convolve(x, y, weights, senders, receivers, num_nodes)

    def _convolve(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> Tensor:
        if not self._fit(x, y, weights, senders, receivers, num_nodes):
            self._check(x, y, weights, senders, receivers, num_nodes)
        if senders.shape[0] == 0:
            none = x.new_zeros(num_nodes, self.product.irreps_out.dim)
            return none + nothing(x, y, weights)
        return self.product.convolve(x, y, weights, senders, receivers, num_nodes)

    def _fit(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> bool:
        """Whether all is as it should be, at a glance; else :meth:`_check` says what is not."""
        if not (
            all(isinstance(t, Tensor) for t in (x, y, senders, receivers))
            and type(num_nodes) is int
        ):
            return False
        edges, wide = senders.shape, self._widths
        fits = (
            x.ndim == y.ndim == 2
            and len(edges) == 1
            and x.shape[1] == wide[0]
            and y.shape == (edges[0], wide[1])
            and receivers.shape == edges
            and x.dtype is y.dtype
            and x.dtype.is_floating_point
            and senders.dtype is receivers.dtype is torch.int64
            and x.device == y.device == senders.device == receivers.device
            and (weights is None or fit(weights, y, wide[2]))
        )
        if fits and _can_look(senders):
            _refuse_beyond("senders", senders, x.shape[0])
            _refuse_beyond("receivers", receivers, num_nodes)
        return fits

    def _check(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> None:
        wide = self._widths
        if num_nodes is None or isinstance(num_nodes, float):
            raise ValueError(f"num_nodes must be a whole number, got {num_nodes}: x.shape[0]?")
        edges = check_graph(x, wide[0], senders, receivers, (x.shape[0], num_nodes))
        check_like(x, "y", y, (edges, wide[1]))
        if weights is not None:
            check_like(x, "weights", weights, (wide[2],), (edges, wide[2]))

    def cost(self, nodes: int, edges: int, itemsize: int, weights: Weights = "none") -> Cost:
        """Multiply-adds, and minimal bytes: nodes are read and written once, not once an edge.

        Args:
            nodes: Nodes read and written.
            edges: Edges walked.
            itemsize: Bytes of a number.
            weights: Whether there are weights, and whether each edge has its own.
        """
        product = self.product
        macs = product.cost(edges, itemsize, weights).macs
        macs += edges * product.irreps_out.dim
        numbers = nodes * (product.irreps_in1.dim + product.irreps_out.dim)
        numbers += edges * product.irreps_in2.dim
        if weights != "none":
            numbers += product.weight_numel * (edges if weights == "per-sample" else 1)
        # Senders and receivers, 8 bytes each.
        return Cost(macs, numbers * itemsize + 16 * edges)


def check_graph(
    x: Tensor, width: int, senders: Tensor, receivers: Tensor, nodes: tuple[int, int]
) -> int:
    """Refuse features of nodes and edges that do not fit together.

    Args:
        x: Features of the nodes.
        width: How many each node must have.
        senders: Node that each edge reads.
        receivers: Node that each edge is added to.
        nodes: How many nodes senders and receivers can be.

    Returns:
        Number of edges.

    Raises:
        ValueError: Saying what must hold.
    """
    for name, tensor in (("x", x), ("senders", senders), ("receivers", receivers)):
        _check_tensor(name, tensor)
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(f"x must have shape (nodes, {width}), got {tuple(x.shape)}")
    if not x.dtype.is_floating_point:
        raise ValueError(f"x must have a floating point dtype, got {x.dtype}")
    edges = senders.numel()
    for name, index, count in zip(
        ("senders", "receivers"), (senders, receivers), nodes, strict=True
    ):
        _check_index(name, index, edges, count, x.device)
    return edges


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
    _check_tensor(name, tensor)
    if not has_shape(tensor, *shapes):
        raise ValueError(
            f"{name} must have shape {' or '.join(map(str, shapes))}, got {tuple(tensor.shape)}"
        )
    if tensor.dtype != x.dtype or tensor.device != x.device:
        raise ValueError(
            f"{name} must have dtype {x.dtype} and be on {x.device} as x is, got "
            f"{tensor.dtype} on {tensor.device}"
        )


def _check_tensor(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")


def _check_index(name: str, index: Tensor, edges: int, nodes: int, device: torch.device) -> None:
    if index.shape != (edges,) or index.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"{name} must hold {edges} whole numbers, as many as there are edges, got "
            f"{index.dtype} of shape {tuple(index.shape)}"
        )
    if index.device != device:
        raise ValueError(f"{name} must be on {device} as x is, got {index.device}")
    check_below(name, index, nodes)


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
    if _can_look(index):
        _refuse_beyond(name, index, count)


def _can_look(index: Tensor) -> bool:
    return index.is_cpu and bool(index.numel()) and not (traced() or plain_only())


def _refuse_beyond(name: str, index: Tensor, count: int) -> None:
    ends = index.aminmax()
    low, high = int(ends[0]), int(ends[1])
    if low < 0 or high >= count:
        raise ValueError(f"{name} must be from 0 to {count - 1}, got {low if low < 0 else high}")

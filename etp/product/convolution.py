"""Convolution on a graph: the edge products of each node's neighbours, added up."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.modes import autocasting
from etp.kernels.tables import Unscripted
from etp.problem import Weights
from etp.product.base import Cost, TensorProduct
from etp.product.graph import check_graph, check_like
from etp.product.inputs import nothing, promoted
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
        """Whether all fits, at a glance; else :meth:`_check` says what does not.

        Nobody looks at node numbers here: who adds up the messages does.
        """
        if not (
            all(isinstance(t, Tensor) for t in (x, y, senders, receivers))
            and type(num_nodes) is int
        ):
            return False
        edges, wide = senders.shape, self._widths
        return (
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
        edges = check_graph(x, wide[0], senders, receivers)
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

"""Convolutions of NequIP (package ``nequip``) in one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from etp.interop.replace import fusion_for
from etp.interop.tensor_product import ConvertedProduct


class TensorProductScatter(nn.Module):
    """Gather, product and sum over edges as one; takes the place of NequIP's class of this name.

    Args:
        theirs: A ``nequip.nn._tp_scatter_base.TensorProductScatter`` whose product is replaced.
    """

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        for name in ("feature_irreps_in", "irreps_edge_attr", "irreps_mid", "instructions"):
            setattr(self, name, getattr(theirs, name))
        self.tp: ConvertedProduct = theirs.tp
        self.train(theirs.training)

    @override
    def forward(
        self, x: Tensor, edge_attr: Tensor, edge_weight: Tensor, edge_dst: Tensor, edge_src: Tensor
    ) -> Tensor:
        """Features of nodes (N, in1.dim) to sums over edges by ``edge_dst``, (N, mid.dim)."""
        return self.tp.convolve(x, edge_attr, edge_weight, edge_src, edge_dst)


@fusion_for("nequip.nn._tp_scatter_base.TensorProductScatter")
def _scatter(module: nn.Module) -> nn.Module:
    if type(module).__qualname__ != "TensorProductScatter":
        raise ValueError("its convolution runs in kernels of another library")
    if not isinstance(module.tp, ConvertedProduct):
        raise ValueError("its tp was not replaced")
    return TensorProductScatter(module)

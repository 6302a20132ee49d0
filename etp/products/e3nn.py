"""e3nn's own tensor products (Geiger and Smidt 2022), as their users call them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from typing_extensions import override

from etp.e3 import o3
from etp.maths.signs import sign_of_e3nn
from etp.product.base import TensorProduct
from etp.product.registry import register
from etp.products._library import (
    LibraryCall,
    LibraryProduct,
    WeightedLibraryProduct,
    dense_macs,
    instructions,
)
from etp.products._library_edge import LibraryEdge


class _E3nn(LibraryProduct):
    """Blocks (channel, component), one output block per path, coefficients of ``wigner_3j``.

    ``irrep_normalization="none"`` makes every coefficient 1, so that nothing is left to scale, but
    for the signs of releases before 0.6.
    """

    reference = "Geiger and Smidt 2022, arXiv:2207.09453"

    @classmethod
    @override
    def edge_class(cls) -> type[TensorProduct]:
        return E3nnEdge

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return sign_of_e3nn(ir_in1.l, ir_in2.l, ir_out.l)

    @abstractmethod
    def module(self) -> o3.TensorProduct:
        """The library's module, in the default dtype."""

    @override
    def library_call(self, dtype: torch.dtype, device: torch.device) -> LibraryCall:
        with _float64():
            module = self.module()
        call: LibraryCall = module.to(device, dtype)
        return call

    @override
    def macs(self) -> int:
        return dense_macs(self.paths)


class E3nnEdge(LibraryEdge):
    """``o3.TensorProduct`` in mode ``uvu``: what MACE and NequIP run on the edges of a graph."""

    @override
    def library_call(
        self, dtype: torch.dtype, device: torch.device, *, weighted: bool
    ) -> LibraryCall:
        place1, place2 = (
            {ir: number for number, (_, ir) in enumerate(irreps)}
            for irreps in (self.irreps_in1, self.irreps_in2)
        )
        paths = [
            (place1[path.ir_in1], place2[path.ir_in2], number, "uvu", weighted)
            for number, path in enumerate(self.paths)
        ]
        with _float64():
            module = o3.TensorProduct(
                self.irreps_in1, self.irreps_in2, self.irreps_out, paths,
                irrep_normalization="none", path_normalization="none",
                shared_weights=False, internal_weights=False,
            )  # fmt: skip
        call: LibraryCall = module.to(device, dtype)
        return call


@register
class E3nn(_E3nn):
    """``o3.FullTensorProduct``: every path of one channel, one output copy per path.

    With several channels that class would also multiply channel u with channel v. Channel by
    channel, as compared here, e3nn writes the same paths ``uuu`` in ``o3.TensorProduct``.
    """

    name, title = "e3nn", "e3nn (full)"

    @override
    def module(self) -> o3.TensorProduct:
        if self.channels == 1:
            return o3.FullTensorProduct(
                *self.own_irreps[:2], filter_ir_out=self.keep, irrep_normalization="none"
            )
        return o3.TensorProduct(
            *self.own_irreps, instructions(self, "uuu", weighted=False), irrep_normalization="none"
        )


@register
class E3nnWeighted(_E3nn, WeightedLibraryProduct):
    """``o3.TensorProduct`` with a weight for each sample, path and channel, mode ``uuu``.

    Channel u of both inputs meet. What MACE and NequIP run on the edges of a graph, one channel in
    the second input and weights from a radial network, is the edge product, :class:`E3nnEdge`.
    """

    name, title = "e3nn-uuu", "e3nn (weighted, uuu)"

    @override
    def module(self) -> o3.TensorProduct:
        return o3.TensorProduct(
            *self.own_irreps,
            instructions(self, "uuu", weighted=True),
            irrep_normalization="none",
            shared_weights=False,
            internal_weights=False,
        )

    @override
    def macs(self) -> int:
        return super().macs() + sum(path.ir_out.dim for path in self.paths)


@contextmanager
def _float64() -> Iterator[None]:
    """Build tables in float64 whatever the user's default is: e3nn takes it from there."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

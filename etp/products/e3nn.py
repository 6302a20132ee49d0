"""e3nn's own tensor products (Geiger and Smidt 2022), as their users call them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from e3nn import o3
from typing_extensions import override

from etp.product.registry import register
from etp.products._library import (
    LibraryCall,
    LibraryProduct,
    WeightedLibraryProduct,
    dense_macs,
    instructions,
)


class _E3nn(LibraryProduct):
    """Blocks (channel, component), one output block per path, coefficients of ``wigner_3j``.

    ``irrep_normalization="none"`` makes every coefficient 1, so that nothing is left to scale.
    """

    reference = "Geiger and Smidt 2022, arXiv:2207.09453"

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


@register
class E3nn(_E3nn):
    """``o3.FullTensorProduct``: every path of one channel, one output copy per path.

    With several channels that class would also multiply channel u with channel v. Channel by
    channel, as compared here, e3nn writes the same paths ``uuu`` in ``o3.TensorProduct``.
    """

    name, title = "e3nn", "e3nn (full)"
    mimo_exponent = 6

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

    What MACE and NequIP run on the edges of a graph is ``uvu`` with one channel in the second
    input (the spherical harmonics of an edge) and weights from a radial network. With one channel
    ``uvu`` and ``uuu`` are the same operation; with more, ``uuu`` pairs channel u of both inputs,
    as every product here does, and costs the same multiplications. Paths stay apart, as there.
    """

    name, title = "e3nn-uuu", "e3nn (weighted, uuu)"
    mimo_exponent = 6

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

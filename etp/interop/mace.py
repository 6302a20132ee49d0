"""Parts of MACE (package ``mace-torch``): symmetric contractions, and convolutions in one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.interop.replace import check_heir, fusion_for, replacement_for
from etp.interop.tensor_product import ConvertedProduct
from etp.kernels.modes import real_tensors
from etp.kernels.power import one_hot_places, power
from etp.kernels.power_table import places
from etp.powers import table_power


class SymmetricContraction(nn.Module):
    """MACE's product basis as a power; weights and tables are those of the module it replaces.

    Args:
        theirs: A ``mace.modules.symmetric_contraction.SymmetricContraction``.

    Raises:
        ValueError: If it has weights or tables of another form than those of MACE.
    """

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = theirs.irreps_in, theirs.irreps_out
        # They hold weights and tables under the names that checkpoints have; nobody calls them.
        self.contractions = theirs.contractions
        tables = [
            [c.U_tensors(degree) for degree in range(1, c.correlation + 1)]
            for c in self.contractions
        ]
        self._out_dim = self.irreps_out.dim
        with real_tensors():
            given = table_power(self.irreps_in, self.irreps_out, tables)
            self.polynomials = given.polynomials
            dims = [ir.dim for ir in given.irs_out]
            # MACE gives all components of a channel together.
            lie = [*places([sum(ir.dim for ir in given.irs_in)], given.channels, False),
                   *places(dims, given.channels, False)]  # fmt: skip
            self.register_buffer("lie", torch.tensor(lie, dtype=torch.int32), persistent=False)
        self.channels = given.channels
        self.to(tables[0][0].device)
        self.train(theirs.training)

    @override
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Raise features (N, channels, components); y is (N, elements), mostly one-hot."""
        own = [w for c in self.contractions._modules.values() for w in _weights(c)]
        weights = torch.cat(own, dim=1).flatten(1)
        elements = None if y.requires_grad else one_hot_places(y)
        if elements is None:
            weights = y @ weights
        lie = self._buffers["lie"]  # get_buffer takes as long as a small kernel
        assert lie is not None
        return power(self.polynomials, x.flatten(1), weights, elements, lie, self.channels)


def _weights(contraction: Any) -> list[Tensor]:
    """Weights by degree from the first on; theirs begin with the highest."""
    highest = contraction._parameters.get("weights_max")
    rest = contraction._modules.get("weights")
    if highest is None or type(rest) is not nn.ParameterList or len(rest) != len(rest._parameters):
        return [contraction.weights_max, *contraction.weights][::-1]
    # As they are held: to go through a ParameterList takes as long as a small kernel.
    return [*reversed(rest._parameters.values()), highest]


MACE_CONTRACTION = "mace.modules.symmetric_contraction.SymmetricContraction"


@replacement_for(MACE_CONTRACTION)
def _contraction(module: nn.Module) -> nn.Module:
    check_heir(module, MACE_CONTRACTION)
    return SymmetricContraction(module)


@fusion_for("mace.modules.blocks.InteractionBlock")
def _interaction(module: nn.Module) -> nn.Module:
    """An interaction block gives its edges to ``conv_tp`` where it has this attribute."""
    if not isinstance(getattr(module, "conv_tp", None), ConvertedProduct):
        raise ValueError("its conv_tp was not replaced")
    code = getattr(type(module).forward, "__code__", None)
    if code is None or "conv_fusion" not in code.co_consts:
        raise ValueError("this version of mace-torch computes messages before it sums them")
    module.conv_fusion = "etp"  # type: ignore[assignment]
    return module

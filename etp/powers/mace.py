"""The symmetric contraction of mace-torch, as a MACE calls it."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.power_table import apart, places
from etp.powers._library import LibraryPower
from etp.powers.registry import register
from etp.products._library import missing


@register
class MacePower(LibraryPower):
    """``mace.modules.symmetric_contraction.SymmetricContraction``: dense tables, contracted.

    Its tables ``U_matrix_real`` are what it claims; elements are given one-hot, as its models do.
    """

    name, title = "mace", "MACE (mace-torch)"
    reference = "Batatia et al. 2022, arXiv:2206.07697; github.com/ACEsuit/mace"

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        if missing("mace") is not None:
            return (
                "mace-torch is not installed: pip install mace-torch, in an environment of its own "
                "(it pins e3nn 0.4.4)"
            )
        return None

    @override
    def own_tables(self) -> list[list[Tensor]]:
        self._modules_by_sets: dict[tuple[int, torch.dtype, torch.device], nn.Module] = {}
        contractions: Any = self.library_module(1, torch.float64).contractions
        dim = sum(ir.dim for ir in self.irs_in)
        lie = torch.tensor(places([ir.dim for ir in self.irs_out], self.channels, False))
        self.register_buffer("own_lie", lie, persistent=False)
        return [
            [_shaped(c.U_tensors(degree), ir.dim, dim, degree) for degree in self._degrees()]
            for ir, c in zip(self.irs_out, contractions, strict=True)
        ]

    def _degrees(self) -> range:
        return range(1, self.order + 1)

    def library_module(self, sets: int, dtype: torch.dtype) -> nn.Module:
        """The library's module for a number of elements, which it plans its contractions for.

        Args:
            sets: Elements.
            dtype: Of its tables and weights, which are as the library draws them.
        """
        key = sets, dtype, self._device
        if key not in self._modules_by_sets:
            from mace.modules.symmetric_contraction import SymmetricContraction

            before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float64)
            try:
                made = SymmetricContraction(
                    o3.Irreps(self.irreps_in), o3.Irreps(self.irreps_out), self.order,
                    num_elements=sets,
                )  # fmt: skip
            finally:
                torch.set_default_dtype(before)
            self._modules_by_sets[key] = made.to(self._device, dtype)
        return self._modules_by_sets[key]

    @override
    def own_weights(self, weights: Tensor) -> tuple[Tensor, ...]:
        ends = [*(block.start for block in self.blocks), self.weights_per_channel]
        parts = [weights[:, a:b] for a, b in pairwise(ends)]
        by_irrep = [parts[n : n + self.order] for n in range(0, len(parts), self.order)]
        # Theirs begin with the highest degree.
        return tuple(part.contiguous() for own in by_irrep for part in reversed(own))

    @override
    def own_elements(self, elements: Tensor, sets: int, dtype: torch.dtype) -> Tensor:
        return nn.functional.one_hot(elements.long(), sets).to(dtype)

    @override
    def own_features(self, a: Tensor) -> Tensor:
        return a.transpose(1, 2)

    @override
    def call_library(self, elements: Tensor, a: Tensor, *weights: Tensor) -> Tensor:
        module = self.library_module(elements.shape[1], a.dtype)
        names = ["weights_max", *(f"weights.{n}" for n in range(self.order - 1))]
        own = [f"contractions.{c}.{name}" for c in range(len(self.irs_out)) for name in names]
        given = dict(zip(own, weights, strict=True))
        z: Tensor = torch.func.functional_call(module, given, (a, elements))
        return z

    @override
    def own_output(self, z: Tensor) -> Tensor:
        return apart(z, self.index("own_lie"), self.channels)

    @property
    @override
    def macs(self) -> int:
        """Dense: weights are contracted node by node, then one factor after the other."""
        return sum(
            (table.shape[-1] + 1) * prod(table.shape[:-1]) for own in self._stated for table in own
        )


def _shaped(table: Tensor, out: int, dim: int, degree: int) -> Tensor:
    """A table with the axis of components that MACE leaves out for scalars."""
    return table.detach().cpu().reshape(out, *[dim] * degree, -1)

"""Powers that another library computes, behind the same interface and in its own layout.

What such a power claims are tables that it states itself: the order and the scale of its weights
are the library's. They are held against its calls, and what they span against all polynomials that
there are. Timed is the library's own call on inputs in its own layout.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.irreps import Ir, allowed_polynomials
from etp.kernels.power_table import apart, together
from etp.powers.base import Power


class LibraryPower(Power):
    """A power by a call of a library: features and weights of each element to features."""

    keeps_couplings = True

    @override
    def build(self) -> None:
        irs = [Ir(ir.l, ir.p) for ir in self.irs_in]
        self._refuse_unreached(
            ir for ir in self.irs_out if allowed_polynomials(irs, self.order, [Ir(ir.l, ir.p)])
        )
        self._stated = self.own_tables()
        self._count([
            (ir, degree, table.shape[-1])
            for ir, own in zip(self.irs_out, self._stated, strict=True)
            for degree, table in enumerate(own, start=1)
        ])  # fmt: skip

    @abstractmethod
    def own_tables(self) -> list[list[Tensor]]:
        """What the library says that it computes, as :meth:`tables` gives it."""

    @abstractmethod
    def own_weights(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Weights (Z, weights_per_channel, C) as the library takes them."""

    @abstractmethod
    def own_elements(self, elements: Tensor, sets: int, dtype: torch.dtype) -> Tensor:
        """Elements of nodes, (N,) below ``sets``, as the library takes them."""

    @abstractmethod
    def own_features(self, a: Tensor) -> Tensor:
        """Features (N, components, C) as the library takes them."""

    @abstractmethod
    def own_output(self, z: Tensor) -> Tensor:
        """The library's output as (N, components, C)."""

    @abstractmethod
    def call_library(self, elements: Tensor, a: Tensor, *weights: Tensor) -> Tensor:
        """The library's own call, all inputs as it takes them."""

    @override
    def tables(self) -> Sequence[Sequence[Tensor]]:
        return self._stated

    def to_library(
        self, a: Tensor, weights: Tensor, elements: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What goes into :meth:`call_library`: elements, then features and weights.

        Args:
            a: Features, as :meth:`forward` takes them.
            weights: Likewise.
            elements: Likewise.

        Raises:
            ValueError: If each node has weights of its own, which libraries do not have.
        """
        if elements is None:
            if weights.ndim > 1:
                raise ValueError(
                    f"{self.name} has weights for each element, not for each node: give weights "
                    "that nodes share, or elements"
                )
            elements = a.new_zeros(a.shape[0], dtype=torch.int64)
        sets = weights.reshape(-1, self.weights_per_channel, self.channels)
        lie = self.lies(a)[: sum(ir.dim for ir in self.irs_in)]
        features = apart(a.flatten(1), lie, self.channels)
        given = self.own_elements(elements, sets.shape[0], a.dtype)
        return given, (self.own_features(features).contiguous(), *self.own_weights(sets))

    @override
    def evaluate(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> Tensor:
        if elements is None and weights.ndim > 1:
            # To check it; nobody calls a library with an element for each node.
            elements = torch.arange(a.shape[0], device=a.device)
        given, inputs = self.to_library(a, weights, elements)
        return self.from_library(self.call_library(given, *inputs))

    def from_library(self, z: Tensor) -> Tensor:
        """Output of :meth:`call_library` as features, (N, irreps_out.dim)."""
        return together(self.own_output(z), self.index("lie"))

    @override
    def coefficient(self, left: o3.Irrep, ir: o3.Irrep, ir_out: o3.Irrep) -> float:
        raise ValueError(f"{self.name} claims no couplings: its tables say what it does")

"""The symmetric contraction of cuEquivariance (NVIDIA) by its PyTorch front end."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from etp.powers._library import LibraryPower
from etp.powers.registry import register
from etp.products.cuequivariance import method, not_installed


@register
class CuEquivariancePower(LibraryPower):
    """Its descriptor ``symmetric_contraction``: a weight for each independent polynomial.

    ``cuequivariance_torch.SymmetricContraction`` runs the same polynomial; with ``original_mace``
    it first maps weights of MACE's tables to these. On a CPU the library has ``naive`` alone, whose
    set-up takes most of a minute at lmax 3.
    """

    name, title = "cuequivariance", "cuEquivariance"
    reference = "NVIDIA, github.com/NVIDIA/cuEquivariance"

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        return not_installed()

    @override
    def own_tables(self) -> list[list[Tensor]]:
        dense, places = self._dense(), []
        tables: list[list[Tensor]] = []
        start = 0
        for ir in self.irs_out:
            rows = slice(start, start + ir.dim)
            own = []
            for table in dense:
                block = table[rows]
                used = block.flatten(0, -2).abs().amax(0).nonzero()[:, 0]
                places.append(used)
                own.append(block[..., used])
            tables.append(own)
            start += ir.dim
        # Theirs lie by degree first.
        self.register_buffer("own_order", torch.cat(places).argsort(), persistent=False)
        return tables

    def _dense(self) -> list[Tensor]:
        """Its polynomial for each degree: (outputs, dim, ..., dim, all weights)."""
        described = self._described()
        counts = [operand.num_segments for operand in (*described.inputs, *described.outputs)]
        weights, dim, out = counts
        tables = [
            torch.zeros(out, *[dim] * degree, weights, dtype=torch.float64)
            for degree in range(1, self.order + 1)
        ]
        for _, product in described.operations:
            for path in product.paths:
                weight, *factors, row = path.indices
                tables[len(factors) - 1][(row, *factors, weight)] += float(path.coefficients)
        return tables

    def _described(self) -> Any:
        return _polynomial(str(self.irreps_in), str(self.irreps_out), self.order)

    @override
    def own_weights(self, weights: Tensor) -> tuple[Tensor, ...]:
        return (weights.index_select(1, self.index("own_order")).flatten(1),)

    @override
    def own_elements(self, elements: Tensor, sets: int, dtype: torch.dtype) -> Tensor:
        return elements.int()

    @override
    def own_features(self, a: Tensor) -> Tensor:
        return a.flatten(1)

    @override
    def call_library(self, elements: Tensor, a: Tensor, *weights: Tensor) -> Tensor:
        run = _module(str(self.irreps_in), str(self.irreps_out), self.order, a.device)
        z: Tensor
        (z,) = run([*weights, a], input_indices={0: elements})
        return z

    @override
    def own_output(self, z: Tensor) -> Tensor:
        return z.unflatten(1, (-1, self.channels))

    @property
    @override
    def macs(self) -> int:
        """As many products for each path as it has factors, the weight among them."""
        operations = self._described().operations
        return sum(len(path.indices) - 1 for _, product in operations for path in product.paths)


@lru_cache(maxsize=8)
def _polynomial(irreps_in: str, irreps_out: str, order: int) -> Any:
    """The library's descriptor; weights, features and outputs are segments of C channels."""
    import cuequivariance as cue

    own, out = (cue.Irreps("O3", irreps) for irreps in (irreps_in, irreps_out))
    return cue.descriptors.symmetric_contraction(own, out, tuple(range(1, order + 1))).polynomial


@lru_cache(maxsize=4)
def _module(irreps_in: str, irreps_out: str, order: int, device: torch.device) -> Any:
    """What runs it, for any dtype: kept, since it takes long to build."""
    import cuequivariance_torch as cuet

    polynomial = _polynomial(irreps_in, irreps_out, order)
    return cuet.SegmentedPolynomial(polynomial, method=method(device)).to(device)

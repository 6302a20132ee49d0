"""The full Clebsch-Gordan tensor product: every path, kept apart or weighted and added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.on_cpu.program import Bilinear
from etp.product.registry import register
from etp.product.weighting import scaled
from etp.products._described import Described
from etp.products._executors import NumbaWalk, Tiles
from etp.products._paths import Paths, paths_of
from etp.products._plain import PlainPaths
from etp.products._programs import programs


@register
class ClebschGordanDense(Described):
    """For each pair (l1, l2) the outer product times one dense matrix of coefficients."""

    name, title = "cg-dense", "Clebsch-Gordan (dense)"
    reference = "Thomas et al. 2018, arXiv:1802.08219; Xie et al. 2025, arXiv:2506.13523, sec. 3"
    keeps_paths = True
    as_table = True

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def describe(self) -> Paths:
        return paths_of(self, dense=True)


@register
class ClebschGordanSparse(Described):
    """Only the non-zero coefficients, walked as a table over tiles of samples."""

    name, title = "cg-sparse", "Clebsch-Gordan (sparse)"
    reference = "Xie et al. 2025, arXiv:2506.13523, sec. 5"
    keeps_paths = True
    as_table = True

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def describe(self) -> Paths:
        return paths_of(self)


@register
class ClebschGordanSummed(Described):
    """``z[l3] = sum over l1, l2 of w[path] x[l1] . y[l2] . wigner_3j``: what models run.

    Every path has a free weight and they add up to one copy of each output irrep. A weight scales
    the components of one input that its path reads, so that the sum stays one table walk.
    """

    name, title = "cg-summed", "Clebsch-Gordan (weighted sum)"
    reference = "Batzner et al. 2022, arXiv:2101.03164, eq. 4; Geiger and Smidt 2022, 2207.09453"
    weights_per = "path"
    as_table = True
    plain: PlainPaths

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        # The input with fewer components to scale has a copy of its irrep for each path.
        paths = self.describe()
        read = [torch.cat(paths.read(side)) for side in (0, 1)]
        self._side = int(len(read[0]) > len(read[1]))
        self.register_buffer("source", read[self._side], persistent=False)
        dims = torch.tensor([len(part) for part in paths.read(self._side)])
        of_path = torch.repeat_interleave(torch.arange(len(dims)), dims)
        self.register_buffer("of_path", of_path, persistent=False)
        table = paths.with_copies(self._side).table(self, "weighted")
        self._weighted = Tiles(self._weighted_programs), NumbaWalk(table)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def describe(self) -> Paths:
        return paths_of(self)

    def _copied(self) -> Paths:
        """The paths with one input copied, each path its own."""
        return self.describe().with_copies(self._side)

    def _weighted_programs(self) -> Bilinear:
        return programs(self._copied())

    @override
    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        executor = next((each for each in self._weighted if each.serves(x1, x2)), None)
        if executor is None:
            return self.plain.multiply(x1, x2, weights)
        factors = weights.index_select(-1, self.index("of_path"))
        source = self.index("source")
        if self._side:
            x2 = scaled(x2.index_select(-1, source), factors)
        else:
            x1 = scaled(x1.index_select(-1, source), factors)
        return executor.multiply(x1, x2)

    @override
    def weight_macs(self) -> int:
        return self._copied().macs() - self.macs() + len(self.index("source"))

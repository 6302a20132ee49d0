"""The full Clebsch-Gordan tensor product: every path, one output copy per path."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp import so3
from etp.kernels import compose, program, tile
from etp.kernels.sparse import SparseTable, programs, sparse_bilinear
from etp.layout import slices
from etp.product import Path, TensorProduct
from etp.registry import register


class ClebschGordan(TensorProduct):
    """``z[l3] = x[l1] . y[l2] . wigner_3j(l1, l2, l3)`` for every path, kept apart."""

    keeps_paths = True

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0


@register
class ClebschGordanDense(ClebschGordan):
    """For each pair (l1, l2) the outer product times one dense matrix of coefficients."""

    name, title = "cg-dense", "Clebsch-Gordan (dense)"
    reference = "Thomas et al. 2018, arXiv:1802.08219; Xie et al. 2025, arXiv:2506.13523, sec. 3"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        parts1 = dict(zip(self.irs_in1, slices(self.irs_in1), strict=True))
        parts2 = dict(zip(self.irs_in2, slices(self.irs_in2), strict=True))
        by_pair: dict[tuple[o3.Irrep, o3.Irrep], list[Path]] = {}
        for path in self.paths:
            by_pair.setdefault((path.ir_in1, path.ir_in2), []).append(path)
        self._pairs = [(parts1[ir1], parts2[ir2]) for ir1, ir2 in by_pair]
        places: dict[Path, tuple[int, slice]] = {}
        for number, paths in enumerate(by_pair.values()):
            matrices = [so3.clebsch_gordan(*_degrees(path)).flatten(0, 1) for path in paths]
            self.register_table(f"matrix{number}", torch.cat(matrices, dim=1))
            for path, part in zip(paths, slices([p.ir_out for p in paths]), strict=True):
                places[path] = (number, part)
        self._places = [places[path] for path in self.paths]

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        if tile.applies(x1):
            return tile.bilinear(x1, x2, self.programs)
        blocks = []
        for number, (part1, part2) in enumerate(self._pairs):
            outer = (x1[:, part1, None] * x2[:, None, part2]).flatten(1)
            blocks.append(outer @ self.table(f"matrix{number}", x1.dtype))
        return torch.cat([blocks[number][:, part] for number, part in self._places], dim=1)

    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        places: list[list[Tensor]] = [[] for _ in self._pairs]
        columns: list[list[Tensor]] = [[] for _ in self._pairs]
        for (number, part), out in zip(self._places, slices(self.irs_out), strict=True):
            columns[number].append(torch.arange(part.start, part.stop))
            places[number].append(torch.arange(out.start, out.stop, dtype=torch.int32))
        blocks = [
            (part1, part2, self._tables[f"matrix{n}"].cpu()[:, torch.cat(columns[n])].numpy(),
             torch.cat(places[n]).numpy())
            for n, (part1, part2) in enumerate(self._pairs)
        ]  # fmt: skip
        return compose.of_dense(blocks, self._dims)

    @override
    def macs(self) -> int:
        outer = sum((a.stop - a.start) * (b.stop - b.start) for a, b in self._pairs)
        dense = sum(p.ir_in1.dim * p.ir_in2.dim * p.ir_out.dim for p in self.paths)
        return outer + dense


@register
class ClebschGordanSparse(ClebschGordan):
    """Only the non-zero coefficients, walked as a table over tiles of samples."""

    name, title = "cg-sparse", "Clebsch-Gordan (sparse)"
    reference = "Xie et al. 2025, arXiv:2506.13523, sec. 5"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        starts1 = {ir: s.start for ir, s in zip(self.irs_in1, slices(self.irs_in1), strict=True)}
        starts2 = {ir: s.start for ir, s in zip(self.irs_in2, slices(self.irs_in2), strict=True)}
        entries, values = [], []
        for path, part in zip(self.paths, slices(self.irs_out), strict=True):
            block = so3.clebsch_gordan(*_degrees(path))
            i, j, k = (block.abs() > so3.ZERO).nonzero(as_tuple=True)
            values.append(block[i, j, k])
            offsets = (starts1[path.ir_in1] + i, starts2[path.ir_in2] + j, part.start + k)
            entries.append(torch.stack(offsets))
        self._entries = torch.cat(entries, dim=1)
        dims = (len_of(self.irs_in1), len_of(self.irs_in2), len_of(self.irs_out))
        self._sparse = SparseTable(self, "coefficients", self._entries, torch.cat(values), dims)

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return sparse_bilinear(x1, x2, self._sparse.forms(x1.dtype))

    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        return programs(*self._sparse.forms(torch.float64).product, *self._dims[:2])

    @override
    def macs(self) -> int:
        pairs = torch.unique(self._entries[0] * len_of(self.irs_in2) + self._entries[1])
        return self._entries.shape[1] + len(pairs)


def len_of(irs: Sequence[o3.Irrep]) -> int:
    """Components of one channel."""
    return sum(ir.dim for ir in irs)


def _degrees(path: Path) -> tuple[int, int, int]:
    return path.ir_in1.l, path.ir_in2.l, path.ir_out.l

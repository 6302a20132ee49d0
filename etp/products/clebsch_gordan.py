"""The full Clebsch-Gordan tensor product: every path, kept apart or weighted and added up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp.kernels import sparse
from etp.kernels.multilinear import PRODUCT, WEIGHTED, evaluate
from etp.kernels.on_cpu import compose, program, tile
from etp.kernels.on_gpu.triton_paths import path_form
from etp.kernels.on_gpu.triton_source import serves
from etp.kernels.sparse import SparseTable, sparse_bilinear
from etp.maths import so3
from etp.product.base import Path, TensorProduct
from etp.product.layout import slices
from etp.product.registry import register
from etp.product.weighting import scaled
from etp.products._tiled import Tiled


class _Pairs:
    """Plain form: an outer product and one dense matrix for all paths of a pair (l1, l2).

    Args:
        owner: Product whose paths all have c = 1; keeps the tables.

    Attributes:
        parts: Where both irreps of each pair lie.
    """

    def __init__(self, owner: TensorProduct) -> None:
        self._owner = owner
        parts1 = dict(zip(owner.irs_in1, slices(owner.irs_in1), strict=True))
        parts2 = dict(zip(owner.irs_in2, slices(owner.irs_in2), strict=True))
        by_pair: dict[tuple[o3.Irrep, o3.Irrep], list[int]] = {}
        for number, path in enumerate(owner.paths):
            by_pair.setdefault((path.ir_in1, path.ir_in2), []).append(number)
        self.parts = [(parts1[ir1], parts2[ir2]) for ir1, ir2 in by_pair]
        outputs = slices(owner.irs_out)
        places, of_path = [], []
        for pair, numbers in enumerate(by_pair.values()):
            paths = [owner.paths[number] for number in numbers]
            matrices = [so3.clebsch_gordan(*_degrees(path)).flatten(0, 1) for path in paths]
            owner.register_table(f"matrix{pair}", torch.cat(matrices, dim=1))
            for number, path in zip(numbers, paths, strict=True):
                own = number if owner.keeps_paths else owner.irs_out.index(path.ir_out)
                places.append(torch.arange(outputs[own].start, outputs[own].stop))
                of_path.append(torch.full((path.ir_out.dim,), number))
        self._places = places
        order = torch.cat(places)
        owner.register_buffer(
            "pair_places", order.argsort() if owner.keeps_paths else order, persistent=False
        )
        owner.register_buffer("pair_path", torch.cat(of_path), persistent=False)

    def multiply(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        """(N, dim1) and (N, dim2) to (N, dim_out), with weights (G, paths) or without."""
        owner = self._owner
        blocks = []
        for pair, (part1, part2) in enumerate(self.parts):
            outer = (x1[:, part1, None] * x2[:, None, part2]).flatten(1)
            blocks.append(outer @ owner.table(f"matrix{pair}", x1.dtype))
        z = torch.cat(blocks, dim=1)
        if weights is not None:
            z = scaled(z, weights.index_select(-1, owner.index("pair_path")))
        places = owner.index("pair_places")
        if owner.keeps_paths:
            return z.index_select(1, places)
        return z.new_zeros(z.shape[0], len_of(owner.irs_out)).index_add(1, places, z)

    def blocks(self) -> list[compose.Dense]:
        """The pairs as tile programs take them: parts, matrix, places of its columns."""
        remaining = iter(self._places)
        made = []
        for pair, (part1, part2) in enumerate(self.parts):
            matrix = self._owner._tables[f"matrix{pair}"].numpy()
            places: list[Tensor] = []
            while sum(map(len, places)) < matrix.shape[1]:
                places.append(next(remaining))
            made.append((part1, part2, matrix, torch.cat(places).to(torch.int32).numpy()))
        return made


class ClebschGordan(TensorProduct):
    """``z[l3] = x[l1] . y[l2] . wigner_3j(l1, l2, l3)`` for every path, kept apart."""

    keeps_paths = True
    weights_per = "path"
    as_table = True

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0


@register
class ClebschGordanDense(Tiled, ClebschGordan):
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
        self._pairs = _Pairs(self)

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self._pairs.multiply(x1, x2)

    @override
    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        return compose.of_dense(self._pairs.blocks(), self._dims)

    @override
    def macs(self) -> int:
        outer = sum((a.stop - a.start) * (b.stop - b.start) for a, b in self._pairs.parts)
        dense = sum(p.ir_in1.dim * p.ir_in2.dim * p.ir_out.dim for p in self.paths)
        return outer + dense


class FusedPaths(TensorProduct):
    """Products whose paths one GPU kernel computes on features as they lie."""

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _fused(self, weighted: bool) -> str | None:
        return path_form(self, weighted=weighted)

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        if serves(x1.device.type) and (form := self._fused(weights is not None)) is not None:
            if weights is None:
                return evaluate(form, PRODUCT, [x1, x2])[0]
            each = weights.reshape(-1, self.weight_numel).expand(x1.shape[0], -1)
            return evaluate(form, WEIGHTED, [x1, x2, each])[0]
        return super().multiply_channels(x1, x2, weights)


@register
class ClebschGordanSparse(Tiled, FusedPaths, ClebschGordan):
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
        starts1, starts2 = _starts(self.irs_in1), _starts(self.irs_in2)
        blocks = [
            _block(path, starts1[path.ir_in1], starts2[path.ir_in2], part.start)
            for path, part in zip(self.paths, slices(self.irs_out), strict=True)
        ]
        entries = torch.cat([entries for entries, _ in blocks], dim=1)
        dims = (len_of(self.irs_in1), len_of(self.irs_in2), len_of(self.irs_out))
        values = torch.cat([values for _, values in blocks])
        self._sparse = SparseTable(self, "coefficients", entries, values, dims)
        self._pairs = _Pairs(self)

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        if sparse.applies(x1):
            return sparse_bilinear(x1, x2, self._sparse.forms(x1.dtype))
        return self._pairs.multiply(x1, x2)

    @override
    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        return self._sparse.programs

    @override
    def macs(self) -> int:
        return _table_macs(self._sparse.entries)


@register
class ClebschGordanSummed(Tiled, FusedPaths):
    """``z[l3] = sum over l1, l2 of w[path] x[l1] . y[l2] . wigner_3j``: what models run.

    Every path has a free weight and they add up to one copy of each output irrep. A weight scales
    the components of one input that its path reads, so that the sum stays one table walk.
    """

    name, title = "cg-summed", "Clebsch-Gordan (weighted sum)"
    reference = "Batzner et al. 2022, arXiv:2101.03164, eq. 4; Geiger and Smidt 2022, 2207.09453"
    weights_per = "path"
    as_table = True

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        starts1, starts2 = _starts(self.irs_in1), _starts(self.irs_in2)
        starts_out = _starts(self.irs_out)
        dims = (len_of(self.irs_in1), len_of(self.irs_in2), len_of(self.irs_out))
        blocks = [
            _block(path, starts1[path.ir_in1], starts2[path.ir_in2], starts_out[path.ir_out])
            for path in self.paths
        ]
        entries = torch.cat([entries for entries, _ in blocks], dim=1)
        values = torch.cat([values for _, values in blocks])
        self._sparse = SparseTable(self, "coefficients", entries, values, dims)
        self._pairs = _Pairs(self)
        # The input with fewer components to scale, each path its own copy.
        read = [[path.ir_in1 for path in self.paths], [path.ir_in2 for path in self.paths]]
        self._side = int(len_of(read[0]) > len_of(read[1]))
        starts = (starts1, starts2)[self._side]
        copies = slices(read[self._side])
        apart = [block.clone() for block, _ in blocks]
        for block, ir, part in zip(apart, read[self._side], copies, strict=True):
            block[self._side] += part.start - starts[ir]
        wide = copies[-1].stop
        dims = (dims[0], wide, dims[2]) if self._side else (wide, *dims[1:])
        self._weighted = SparseTable(self, "weighted", torch.cat(apart, dim=1), values, dims)
        source = [torch.arange(ir.dim) + starts[ir] for ir in read[self._side]]
        self.register_buffer("source", torch.cat(source), persistent=False)
        dims_read = torch.tensor([ir.dim for ir in read[self._side]])
        of_path = torch.repeat_interleave(torch.arange(len(self.paths)), dims_read)
        self.register_buffer("of_path", of_path, persistent=False)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        if sparse.applies(x1):
            return sparse_bilinear(x1, x2, self._sparse.forms(x1.dtype))
        return self._pairs.multiply(x1, x2)

    @override
    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        return self._sparse.programs

    @cached_property
    def weighted_programs(self) -> program.Bilinear:
        """The same, for one input with its components scaled for each path."""
        return self._weighted.programs

    @override
    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        on_tiles = tile.applies(x1)
        if not (on_tiles or sparse.applies(x1)):
            return self._pairs.multiply(x1, x2, weights)
        factors = weights.index_select(-1, self.index("of_path"))
        source = self.index("source")
        if self._side:
            x2 = scaled(x2.index_select(-1, source), factors)
        else:
            x1 = scaled(x1.index_select(-1, source), factors)
        if on_tiles:
            return self.run_programs(x1, x2, "weighted_programs")
        return sparse_bilinear(x1, x2, self._weighted.forms(x1.dtype))

    @override
    def macs(self) -> int:
        return _table_macs(self._sparse.entries)

    @override
    def weight_macs(self) -> int:
        more = _table_macs(self._weighted.entries) - _table_macs(self._sparse.entries)
        return more + len(self.index("source"))


def _table_macs(entries: Tensor) -> int:
    """One for each entry, and one for each product of two components that occurs."""
    return entries.shape[1] + torch.unique(entries[:2], dim=1).shape[1]


def _starts(irs: Sequence[o3.Irrep]) -> dict[o3.Irrep, int]:
    return {ir: part.start for ir, part in zip(irs, slices(irs), strict=True)}


def _block(path: Path, start1: int, start2: int, start_out: int) -> tuple[Tensor, Tensor]:
    """Entries (3, n) of one path, at these places, and their values."""
    block = so3.clebsch_gordan(*_degrees(path))
    i, j, k = (block.abs() > so3.ZERO).nonzero(as_tuple=True)
    return torch.stack([start1 + i, start2 + j, start_out + k]), block[i, j, k]


def len_of(irs: Sequence[o3.Irrep]) -> int:
    """Components of one channel."""
    return sum(ir.dim for ir in irs)


def _degrees(path: Path) -> tuple[int, int, int]:
    return path.ir_in1.l, path.ir_in2.l, path.ir_out.l

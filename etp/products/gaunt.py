r"""The Gaunt tensor product on a grid: the pointwise product of two scalar signals on the sphere.

c = :func:`etp.maths.so3.gaunt_coefficient`: even paths only. The smallest exact grid is used; both
forms compute the same numbers (see :mod:`etp.products._signals`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp.kernels.on_cpu import compose
from etp.maths import sphere
from etp.product.registry import register
from etp.products import _fields as fields
from etp.products._grid import FieldProduct, FieldSide, GridProduct
from etp.products._signals import (
    SignalProduct,
    SpectralProduct,
    fast_length,
    fft_dtype,
    fft_macs,
    sector_tag,
)
from etp.products._transforms import ByOrder, Sector


@register
class GauntGrid(GridProduct, SignalProduct):
    """Values on the smallest exact grid on the sphere, by matrix products.

    Args:
        resolution: (res_beta, res_alpha) instead of the smallest exact one. A smaller grid is
            wrong by percents and is there to show that.
    """

    name, title = "gaunt-grid", "Gaunt (S2 grid)"
    reference = "Xie et al. 2025, arXiv:2506.13523, sec. 4"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
        resolution: tuple[int, int] | None = None,
    ) -> None:
        if resolution is not None and min(resolution) < 1:
            raise ValueError(f"resolution must be at least (1, 1), got {resolution}")
        self._asked = resolution
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)

    @override
    def build(self) -> None:
        self.resolution = self._asked or sphere.exact_resolution(*self.degrees)
        nodes = sphere.grid(*self.resolution)
        self._to = {
            (which, s): self._transform(f"to{which}{sector_tag(s)}", part, nodes, back=False)
            for which, s, part in self.inputs()
        }
        self._from = {
            s: self._transform(f"from{sector_tag(s)}", part, nodes, back=True)
            for s, part in self.sectors_out.items()
        }

    def _transform(
        self, name: str, sector: Sector, nodes: sphere.Grid, *, back: bool
    ) -> fields.FieldTransform:
        signal = [fields.value(sector.lmax, nodes)]
        return fields.FieldTransform(self, name, sector, nodes, signal, back=back)

    @override
    def field_product(self) -> FieldProduct:
        """The signal of each sector."""
        nodes = sphere.grid(*self.resolution)
        first, second, out = (
            FieldSide.of_sectors(found, lambda lmax: [fields.value(lmax, nodes)])
            for found in (self.sectors1, self.sectors2, self.sectors_out)
        )
        places = list(self.sectors_out)
        terms = [
            compose.Term(a, b, places.index(s1 * s2))
            for a, s1 in enumerate(self.sectors1)
            for b, s2 in enumerate(self.sectors2)
            if s1 * s2 in places
        ]
        return FieldProduct(nodes, (first, second, out), terms)

    @override
    def multiply_plain(self, x1: Tensor, x2: Tensor) -> Tensor:
        return SignalProduct.multiply(self, x1, x2)

    @override
    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        return self._to[which, sector].to_grid(x)[0]

    @override
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        return self._from[sector].from_grid([signal])

    @override
    def second_macs(self) -> int:
        return sum(t.macs for (which, _), t in self._to.items() if which == 2)

    @override
    def macs(self) -> int:
        points = self.resolution[0] * self.resolution[1]
        maps = sum(t.macs for t in self._to.values()) + sum(t.macs for t in self._from.values())
        return maps + points * self.products()


@register
class GauntGridFFT(SpectralProduct):
    """The same grid, with fast Fourier transforms along longitude."""

    name, title = "gaunt-grid-fft", "Gaunt (S2 grid, FFT)"
    reference = "Xie et al. 2025, arXiv:2506.13523, sec. 4"

    @override
    def build(self) -> None:
        res_beta, res_alpha = sphere.exact_resolution(*self.degrees)
        self.resolution = res_beta, fast_length(res_alpha)
        nodes = sphere.grid(*self.resolution)
        self._maps = {
            (which, s): ByOrder(
                self, f"to{which}{sector_tag(s)}", part, self._table(part, nodes, 0.5)
            )
            for which, s, part in self.inputs()
        }
        for s, part in self.sectors_out.items():
            table = self._table(part, nodes, 2.0) * nodes.weights
            self._maps[3, s] = ByOrder(self, f"from{sector_tag(s)}", part, table)

    @staticmethod
    def _table(part: Sector, nodes: sphere.Grid, square: float) -> Tensor:
        table = sphere.legendre_by_order(part.lmax, sphere.legendre(part.lmax, nodes.beta))
        scale = torch.full((2 * part.lmax + 1, 1, 1), square, dtype=torch.float64).sqrt()
        scale[part.lmax] = 1.0
        return table * scale

    @override
    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        spectrum = self.rows_to_spectrum(self._maps[which, sector].to_rows(x))
        signal = torch.fft.irfft(spectrum, n=self.resolution[1], norm="forward")
        return signal.to(x.dtype)

    @override
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        spectrum = torch.fft.rfft(signal.to(fft_dtype(signal.dtype)))
        lmax = self.sectors_out[sector].lmax
        rows = self.spectrum_to_rows(spectrum, lmax, signal.dtype)
        return self._maps[3, sector].from_rows(rows)

    @override
    def second_macs(self) -> int:
        rows, columns = self.resolution
        maps = sum(m.macs for (which, _), m in self._maps.items() if which == 2)
        return maps + len(self.sectors2) * rows * fft_macs(columns)

    @override
    def macs(self) -> int:
        rows, columns = self.resolution
        transforms = len(self.sectors1) + len(self.sectors2) + len(self.sectors_out)
        return (
            sum(m.macs for m in self._maps.values())
            + transforms * rows * fft_macs(columns)
            + rows * columns * self.products()
        )

r"""The Gaunt tensor product on a grid: the pointwise product of two scalar signals on the sphere.

c = :func:`etp.maths.so3.gaunt_coefficient`: even paths only. The smallest exact grid is used; both
forms compute the same numbers (see :mod:`etp.products._signals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.on_cpu.compose import Pointwise
from etp.maths import so3, sphere
from etp.product.registry import register
from etp.products._described import Described
from etp.products._grid import OUT, Fields, FieldSide, top_degrees
from etp.products._plain import PlainFields
from etp.products._signals import SpectralProduct, fast_length, fft_dtype, fft_macs, sector_tag
from etp.products._transforms import ByOrder, Sector, sectors

FIXED_RESOLUTION = (100, 99)
"""(res_beta, res_alpha) of the paper's benchmarks."""


@register
class GauntGrid(Described):
    """Values on the smallest exact grid on the sphere, by matrix products.

    Args:
        resolution: (res_beta, res_alpha) instead of the smallest exact one. A smaller grid is
            wrong by percents and is there to show that.
    """

    name, title = "gaunt-grid", "Gaunt (S2 grid)"
    reference = "Xie et al. 2025, arXiv:2506.13523, sec. 4"
    broadcasts = True
    plain: PlainFields
    usual: ClassVar[tuple[int, int] | None] = None

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
        self.degrees = top_degrees(self)
        self.sectors2, self.sectors_out = sectors(self.irs_in2), sectors(self.irs_out)

    @property
    def resolution(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self._asked or self.usual or sphere.exact_resolution(*top_degrees(self))

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return so3.gaunt_coefficient(ir_in1.l, ir_in2.l, ir_out.l)

    @override
    def describe(self) -> Fields:
        """The signal of each sector; value parities multiply."""
        nodes = sphere.grid(*self.resolution)
        first, second, out = (
            FieldSide.of_values(sectors(irs), nodes)
            for irs in (self.irs_in1, self.irs_in2, self.irs_out)
        )
        places = list(out.sectors)
        terms = [
            Pointwise(a, b, places.index(s1 * s2))
            for a, s1 in enumerate(first.sectors)
            for b, s2 in enumerate(second.sectors)
            if s1 * s2 in places
        ]
        return Fields(nodes, (first, second, out), terms)

    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        """Features of an input to the signal of one sector.

        Args:
            x: (N, features).
            which: Input 1 or 2.
            sector: 1 for the natural irreps, -1 for the others.
        """
        return self.plain.transform(which - 1, sector).to_grid(x)[0]

    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        """Signal of one sector to components of the output.

        Args:
            signal: (N, points).
            sector: As for :meth:`to_signal`.
            dtype: Of the components.

        Returns:
            (N, components).
        """
        return self.plain.transform(OUT, sector).from_grid([signal])

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Components of all sectors of the output, in the order of its irreps."""
        return self.plain.join(parts)


@register
class GauntGridFixed(GauntGrid):
    """The same on 100 x 99 points whatever the degrees, as the paper timed it.

    Exact while l1 + l2 + l3 <= 98, and wasteful: 9900 points where MIMO at lmax 4 needs 153.
    """

    name, title = "gaunt-grid-fixed", "Gaunt (fixed 100 x 99 grid)"
    reference = "Xie et al. 2025, arXiv:2506.13523, benchmarks"
    usual = FIXED_RESOLUTION


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

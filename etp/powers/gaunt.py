r"""Powers of a signal on the sphere: :math:`z_L = \sum_\nu w_{L\nu} \int f^\nu Y_L`.

With :math:`f = \sum a Y` this is the nu-fold Gaunt product (Luo et al. 2024, arXiv:2401.10216): it
costs next to nothing more with every degree, and holds one coupling of the many that there are.
Forms differ in how a signal is represented, not in what they compute, and take it from the products
of two factors of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.irreps import MAX_DEGREE
from etp.kernels.on_cpu.polynomial import Polynomial
from etp.kernels.power_steps import PowerSteps
from etp.maths import so3, sphere
from etp.maths.layout import slices
from etp.powers._degreewise import DegreewisePower
from etp.powers._steps import of_signals
from etp.powers.registry import register
from etp.products._signals import SpectralProduct
from etp.products._transforms import multiply_sectors
from etp.products.gaunt import GauntGrid, GauntGridFFT
from etp.products.gaunt_fourier import GauntFourierDirect as DirectProduct
from etp.products.gaunt_fourier import GauntFourierFFT as FourierProduct
from etp.products.gaunt_fourier import convolve


class _GauntPower(DegreewisePower):
    """Skeleton of every form.

    Attributes:
        of: Product of two factors, whose signals it takes: the first factor stands for all but
            one, so that grids and series are long enough for all.
    """

    of: ClassVar[type[GauntGrid | SpectralProduct]]
    reference = "Luo et al. 2024, arXiv:2401.10216, sec. 3"

    @override
    def represent(self) -> None:
        lmax = max(ir.l for ir in self.irs_in)
        rest = max((self.order - 1) * lmax, 1)
        if rest > MAX_DEGREE:
            raise ValueError(
                f"order must keep (order - 1) * lmax at {MAX_DEGREE} or below, got order "
                f"{self.order} with lmax {lmax}"
            )
        self._refuse_unreached(ir for ir in self.irs_out if ir.l <= self.order * lmax)
        others = o3.Irreps([(1, (l, p)) for l in range(rest + 1) for p in (1, -1)])
        own = o3.Irreps([(1, ir) for ir in self.irs_in])
        self.signals = self.of(others, own, filter_ir_out=self.irs_out)
        self._out_dims = [ir.dim for ir in self.signals.irs_out]
        self._out_order = [self.signals.irs_out.index(ir) for ir in self.irs_out]
        same = [
            [part == other for ir in self.irs_out for other in _components(self.irs_in, ir)]
            for part in range(sum(ir.dim for ir in self.irs_in))
        ]
        self.register_table("same", torch.tensor(same, dtype=torch.float64))

    @override
    def coefficient(self, left: o3.Irrep, ir: o3.Irrep, ir_out: o3.Irrep) -> float:
        return so3.gaunt_coefficient(left.l, ir.l, ir_out.l)

    @property
    @override
    def macs(self) -> int:
        own = self.signals.second_macs()
        # With the factors exchanged the second one is what was the first.
        turned = self.of(
            self.signals.irreps_in2, self.signals.irreps_in1, filter_ir_out=self.irs_out
        )
        each = self.signals.macs() - own - turned.second_macs()
        return own + (self.order - 1) * each

    @override
    def degrees(self, rows: Tensor) -> Iterator[Tensor]:
        yield rows @ self.table("same", rows.dtype)
        if self.order == 1:
            return
        f = {s: self.signals.to_signal(rows, 2, s) for s in self.signals.sectors2}
        power = f
        for _ in range(1, self.order):
            power = multiply_sectors(power, f, (1, -1), self.times)
            yield self._read(power, rows)

    def _read(self, power: Mapping[int, Tensor], rows: Tensor) -> Tensor:
        parts = [
            self.read(power[s], s, rows.dtype)
            if s in power
            else rows.new_zeros(rows.shape[0], len(sector.positions))
            for s, sector in self.signals.sectors_out.items()
        ]
        blocks = self.signals.join(parts).split(self._out_dims, dim=1)
        return torch.cat([blocks[n] for n in self._out_order], dim=1)

    def times(self, power: Tensor, f: Tensor) -> Tensor:
        """Signal of the product of a power and one factor more."""
        return power * f

    def read(self, power: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        """Components of a sector of a power."""
        return self.signals.from_signal(power, sector, dtype)


def _components(irs: Sequence[o3.Irrep], wanted: o3.Irrep) -> list[int]:
    """Where irreps have the components of one; -1 where it is not among them."""
    at = dict(zip(irs, slices(irs), strict=True)).get(wanted)
    return [-1] * wanted.dim if at is None else list(range(at.start, at.stop))


@register
class GauntGridPower(_GauntPower):
    """Values on the smallest grid that is exact for all factors."""

    name, title, of = "gaunt-grid", "Gaunt (S2 grid)", GauntGrid
    fused: PowerSteps
    signals: GauntGrid

    @override
    def steps(self) -> Polynomial:
        return of_signals(self, sphere.grid(*self.signals.resolution))

    @property
    @override
    def macs(self) -> int:
        return self.fused.macs


@register
class GauntGridFFTPower(_GauntPower):
    """The same grid, with fast Fourier transforms along longitude."""

    name, title, of = "gaunt-grid-fft", "Gaunt (S2 grid, FFT)", GauntGridFFT


@register
class GauntFourierFFTPower(_GauntPower):
    """Values on the torus, by two-dimensional FFT."""

    name, title, of = "gaunt-fourier-fft", "Gaunt (2D Fourier, FFT)", FourierProduct


@register
class GauntFourierDirectPower(_GauntPower):
    """Fourier coefficients, convolved factor by factor."""

    name, title, of = "gaunt-fourier-direct", "Gaunt (2D Fourier, direct)", DirectProduct

    @property
    @override
    def macs(self) -> int:
        whole = super().macs
        # Series grow factor by factor: the product counts every one as long as the last.
        first, own, out = self.signals.degrees
        assert isinstance(self.signals, DirectProduct)
        side, pairs = 2 * own + 1, self.signals.products()
        longest = (2 * first + 1) ** 2 * (out + 1) * (self.order - 1)
        grown = sum(
            (2 * factors * own + 1) ** 2 * ((factors + 1) * own + 1)
            for factors in range(1, self.order)
        )
        return whole + 4 * side * pairs * (grown - longest)

    @override
    def times(self, power: Tensor, f: Tensor) -> Tensor:
        half = convolve(power, f, power.shape[2] // 2 + f.shape[2] // 2)
        return torch.cat([half[:, :, 1:].flip(1, 2).conj(), half], dim=2)

    @override
    def read(self, power: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        # Frequencies that a lower power does not reach are zero.
        first, second, out = self.signals.degrees
        rows = first + second - power.shape[1] // 2
        columns = max(out - power.shape[2] // 2, 0)
        half = power[:, :, power.shape[2] // 2 :]
        padded = torch.nn.functional.pad(half, (0, columns, rows, rows))
        return super().read(padded, sector, dtype)

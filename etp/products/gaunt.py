r"""The Gaunt tensor product: the pointwise product of two scalar signals on the sphere.

:math:`z_{lm} = \int f h Y_{lm}` with :math:`f = \sum x Y` and :math:`h = \sum y Y` (Luo et al.
2024, arXiv:2401.10216), so c = :func:`etp.so3.gaunt_coefficient`: even paths only. All four forms
are exact and compute the same numbers; they differ in how they reach them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import log2

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp import so3, sphere
from etp.product import TensorProduct, register
from etp.transform import Assembly, ByOrder, GridTransform, Sector, multiply_sectors, sectors


class Gaunt(TensorProduct):
    """Skeleton of every form: signals of each sector, product, coefficients of each sector."""

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        self.sectors1, self.sectors2 = sectors(self.irs_in1), sectors(self.irs_in2)
        self.sectors_out = sectors(self.irs_out)
        self.degrees = (self.lmax_in1, self.lmax_in2, max(ir.l for ir in self.irs_out))
        self._assembly = Assembly(self, "output_order", self.sectors_out)
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Register the tables."""

    @abstractmethod
    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        """(N, features) of input ``which`` (1 or 2) to the signal of one sector."""

    @abstractmethod
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        """Signal of one sector to (N, components) in ``dtype``."""

    def product(self, f: Tensor, h: Tensor) -> Tensor:
        """Signal of the product of two signals; pointwise where signals are values."""
        return f * h

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return so3.gaunt_coefficient(ir_in1.l, ir_in2.l, ir_out.l)

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        f = {s: self.to_signal(x1, 1, s) for s in self.sectors1}
        h = {s: self.to_signal(x2, 2, s) for s in self.sectors2}
        fh = multiply_sectors(f, h, tuple(self.sectors_out), self.product)
        return self._assembly.join([self.from_signal(fh[s], s, x1.dtype) for s in self.sectors_out])

    def products(self) -> int:
        """Number of pointwise products of sectors."""
        return sum(a * b in self.sectors_out for a in self.sectors1 for b in self.sectors2)

    def inputs(self) -> list[tuple[int, int, Sector]]:
        """(input, sector, components) of every signal made from an input."""
        return [(1, s, part) for s, part in self.sectors1.items()] + [
            (2, s, part) for s, part in self.sectors2.items()
        ]


@register
class GauntGrid(Gaunt):
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
            (which, s): GridTransform(self, f"to{which}{_tag(s)}", part, nodes, back=False)
            for which, s, part in self.inputs()
        }
        self._from = {
            s: GridTransform(self, f"from{_tag(s)}", part, nodes, back=True)
            for s, part in self.sectors_out.items()
        }

    @override
    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        return self._to[which, sector].to_grid(x)

    @override
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        return self._from[sector].from_grid(signal)

    @override
    def macs(self) -> int:
        points = self.resolution[0] * self.resolution[1]
        maps = sum(t.macs for t in self._to.values()) + sum(t.macs for t in self._from.values())
        return maps + points * self.products()


class _Spectral(Gaunt):
    """Forms that pass through complex Fourier coefficients."""

    def _rows_to_spectrum(self, rows: Tensor) -> Tensor:
        """(2 lmax + 1, N, rows) to complex (N, rows, lmax + 1), orders v = 0..lmax."""
        rows = rows.to(_fft_dtype(rows.dtype))
        lmax = len(rows) // 2
        sines = torch.cat([torch.zeros_like(rows[:1]), rows[:lmax].flip(0)])
        return torch.complex(rows[lmax:], -sines).permute(1, 2, 0)

    def _spectrum_to_rows(self, spectrum: Tensor, lmax: int, dtype: torch.dtype) -> Tensor:
        """Complex (N, rows, >= lmax + 1) to real (2 lmax + 1, N, rows)."""
        orders = spectrum[..., : lmax + 1].permute(2, 0, 1)
        return torch.cat([-orders.imag[1:].flip(0), orders.real]).to(dtype)


@register
class GauntGridFFT(_Spectral):
    """The same grid, with fast Fourier transforms along longitude."""

    name, title = "gaunt-grid-fft", "Gaunt (S2 grid, FFT)"
    reference = "Xie et al. 2025, arXiv:2506.13523, sec. 4"

    @override
    def build(self) -> None:
        res_beta, res_alpha = sphere.exact_resolution(*self.degrees)
        self.resolution = res_beta, fast_length(res_alpha)
        nodes = sphere.grid(*self.resolution)
        self._maps = {
            (which, s): ByOrder(self, f"to{which}{_tag(s)}", part, self._table(part, nodes, 0.5))
            for which, s, part in self.inputs()
        }
        for s, part in self.sectors_out.items():
            table = self._table(part, nodes, 2.0) * nodes.weights
            self._maps[3, s] = ByOrder(self, f"from{_tag(s)}", part, table)

    @staticmethod
    def _table(part: Sector, nodes: sphere.Grid, square: float) -> Tensor:
        table = sphere.legendre_by_order(part.lmax, sphere.legendre(part.lmax, nodes.beta))
        scale = torch.full((2 * part.lmax + 1, 1, 1), square, dtype=torch.float64).sqrt()
        scale[part.lmax] = 1.0
        return table * scale

    @override
    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        spectrum = self._rows_to_spectrum(self._maps[which, sector].to_rows(x))
        signal = torch.fft.irfft(spectrum, n=self.resolution[1], norm="forward")
        return signal.to(x.dtype)

    @override
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        spectrum = torch.fft.rfft(signal.to(_fft_dtype(signal.dtype)))
        lmax = self.sectors_out[sector].lmax
        rows = self._spectrum_to_rows(spectrum, lmax, signal.dtype)
        return self._maps[3, sector].from_rows(rows)

    @override
    def macs(self) -> int:
        rows, columns = self.resolution
        transforms = len(self.sectors1) + len(self.sectors2) + len(self.sectors_out)
        return (
            sum(m.macs for m in self._maps.values())
            + transforms * rows * fft_macs(columns)
            + rows * columns * self.products()
        )


class _GauntFourier(_Spectral):
    """Signals continued to the torus, where they are short two-dimensional Fourier series."""

    @override
    def build(self) -> None:
        l1, l2, _ = self.degrees
        self._maps = {
            (which, s): ByOrder(
                self, f"to{which}{_tag(s)}", part, self._series(self.degrees[which - 1])
            )
            for which, s, part in self.inputs()
        }
        for s, part in self.sectors_out.items():
            moments = self._moments(part.lmax, l1 + l2)
            self._maps[3, s] = ByOrder(self, f"from{_tag(s)}", part, moments)

    @staticmethod
    def _series(lmax: int) -> Tensor:
        """Amplitudes so that cos(ut) sqrt2 cos(va) is two pairs of unit exponentials."""
        table = sphere.torus_series(lmax).clone()
        table[:, :, 1:] /= 2.0
        table[torch.arange(2 * lmax + 1) != lmax] /= 2.0**0.5
        return table

    @staticmethod
    def _moments(lmax: int, max_frequency: int) -> Tensor:
        table = sphere.torus_moments(lmax, max_frequency) * (2 * torch.pi)
        table[:, :, 1:] *= 2.0
        table[torch.arange(2 * lmax + 1) != lmax] *= 2.0**0.5
        return table

    def _half_plane(self, x: Tensor, which: int, sector: int) -> Tensor:
        """Complex coefficients (N, u = 0..lmax and -lmax..-1, v = 0..lmax)."""
        rows = self._maps[which, sector].to_rows(x)
        positive = self._rows_to_spectrum(rows)
        turn = _odd_order_phase(positive.shape[-1], positive)
        # Odd orders are sine series: e^{iut} with factor -i, e^{-iut} with +i.
        upper, lower = positive * turn.conj(), positive[:, 1:].flip(1) * turn
        return torch.cat([upper, lower], dim=1)

    def _read(self, spectrum: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        """Complex (N, u = 0..l1 + l2, v = 0..) to (N, components)."""
        lmax = self.sectors_out[sector].lmax
        orders = spectrum[..., : lmax + 1]
        rows = self._spectrum_to_rows(orders * _odd_order_phase(lmax + 1, orders), lmax, dtype)
        return self._maps[3, sector].from_rows(rows)


@register
class GauntFourierFFT(_GauntFourier):
    """Product of the two series by two-dimensional FFT."""

    name, title = "gaunt-fourier-fft", "Gaunt (2D Fourier, FFT)"
    reference = "Luo et al. 2024, arXiv:2401.10216"

    @override
    def build(self) -> None:
        super().build()
        l1, l2, l3 = self.degrees
        self.resolution = fast_length(2 * (l1 + l2) + 1), fast_length(l1 + l2 + l3 + 1)

    @override
    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        half = self._half_plane(x, which, sector)
        count, lmax = self.resolution[0], half.shape[-1] - 1
        gap = half.new_zeros(len(half), count - 2 * lmax - 1, lmax + 1)
        padded = torch.cat([half[:, : lmax + 1], gap, half[:, lmax + 1 :]], dim=1)
        return torch.fft.irfft2(padded, s=self.resolution, norm="forward").to(x.dtype)

    @override
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        spectrum = torch.fft.rfft2(signal.to(_fft_dtype(signal.dtype)), norm="forward")
        frequencies = self.degrees[0] + self.degrees[1] + 1
        return self._read(spectrum[:, :frequencies], sector, signal.dtype)

    @override
    def macs(self) -> int:
        rows, columns = self.resolution
        transforms = len(self.sectors1) + len(self.sectors2) + len(self.sectors_out)
        return (
            sum(m.macs for m in self._maps.values())
            + transforms * fft_macs(rows * columns)
            + rows * columns * self.products()
        )


@register
class GauntFourierDirect(_GauntFourier):
    """Product of the two series by direct convolution of the coefficients."""

    name, title = "gaunt-fourier-direct", "Gaunt (2D Fourier, direct)"
    reference = "Xie et al. 2025, arXiv:2506.13523, app."

    @override
    def to_signal(self, x: Tensor, which: int, sector: int) -> Tensor:
        half = self._half_plane(x, which, sector)
        lmax = half.shape[-1] - 1
        half = half.roll(lmax, dims=1)
        # A real signal has c(-u, -v) = conj c(u, v): the other half of the plane is a mirror image.
        return torch.cat([half[:, :, 1:].flip(1, 2).conj(), half], dim=2)

    @override
    def product(self, f: Tensor, h: Tensor) -> Tensor:
        return _convolve(f, h, self.degrees[2])

    @override
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        middle = signal.shape[1] // 2
        frequencies = self.degrees[0] + self.degrees[1] + 1
        positive = signal[:, middle : middle + frequencies]
        return self._read(positive, sector, dtype)

    @override
    def macs(self) -> int:
        maps = sum(m.macs for m in self._maps.values())
        side1, side2 = 2 * self.degrees[0] + 1, 2 * self.degrees[1] + 1
        convolution = 4 * side1 * side1 * side2 * (self.degrees[2] + 1)
        return maps + convolution * self.products()


def _convolve(first: Tensor, second: Tensor, lmax_out: int) -> Tensor:
    """Full convolution along u, orders v = 0..lmax_out along the last axis.

    Args:
        first: Complex (N, U1, 2 l1 + 1), u and v centred.
        second: Complex (N, U2, 2 l2 + 1), u and v centred.
        lmax_out: Largest order wanted.

    Returns:
        Complex (N, U1 + U2 - 1, lmax_out + 1), u centred.
    """
    rows1, orders1 = first.shape[1:]
    rows2, orders2 = second.shape[1:]
    l1, l2 = orders1 // 2, orders2 // 2
    # shifted[v1, v] = second[v - v1]: windows of the zero-padded second series.
    left, right = max(0, l1 - l2), max(0, lmax_out + l1 - l2)
    padded = torch.nn.functional.pad(second, (left, right))
    start = l2 + left - l1
    windows = padded[:, :, start : start + orders1 + lmax_out].unfold(2, lmax_out + 1, 1)
    shifted = windows.flip(2).transpose(1, 2).flatten(2)
    product = torch.bmm(first, shifted).reshape(-1, rows1, rows2, lmax_out + 1)
    # Row u1 shifted by u1 places, then summed: reading the padded rows with stride one less.
    span = rows1 + rows2 - 1
    skewed = torch.nn.functional.pad(product, (0, 0, 0, rows1)).flatten(1, 2)
    return skewed[:, : rows1 * span].unflatten(1, (rows1, span)).sum(1)


def _odd_order_phase(orders: int, like: Tensor) -> Tensor:
    """1 for even orders, i for odd ones."""
    phase = torch.ones(orders, dtype=like.dtype, device=like.device)
    phase[1::2] = 1j
    return phase


def _tag(sector: int) -> str:
    return "_scalar" if sector == 1 else "_pseudo"


def _fft_dtype(dtype: torch.dtype) -> torch.dtype:
    # Half precision has no FFT on the CPU, and loses its 8 bits to the butterflies on a GPU.
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def fast_length(minimum: int) -> int:
    """Smallest length >= ``minimum`` whose only prime factors are 2, 3 and 5."""
    length = minimum
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def fft_macs(points: int) -> int:
    """Multiply-adds of a real FFT of ``points`` points by the usual model, 1.25 N log2 N."""
    return round(1.25 * points * log2(max(points, 2)))

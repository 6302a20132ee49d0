r"""The Gaunt tensor product by two-dimensional Fourier series on the torus (Luo et al. 2024).

The coefficients are exact: integrals over the torus are done in closed form, where the published
code is good to 1e-4. c = :func:`etp.maths.so3.gaunt_coefficient`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from etp.maths import sphere
from etp.product.registry import register
from etp.products._signals import SpectralProduct, fast_length, fft_dtype, fft_macs, sector_tag
from etp.products._transforms import ByOrder


class _GauntFourier(SpectralProduct):
    """Signals continued to the torus, where they are short two-dimensional Fourier series."""

    @override
    def build(self) -> None:
        l1, l2, _ = self.degrees
        self._maps = {
            (which, s): ByOrder(
                self, f"to{which}{sector_tag(s)}", part, self._series(self.degrees[which - 1])
            )
            for which, s, part in self.inputs()
        }
        for s, part in self.sectors_out.items():
            moments = self._moments(part.lmax, l1 + l2)
            self._maps[3, s] = ByOrder(self, f"from{sector_tag(s)}", part, moments)

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

    @override
    def second_macs(self) -> int:
        return sum(m.macs for (which, _), m in self._maps.items() if which == 2)

    def _half_plane(self, x: Tensor, which: int, sector: int) -> Tensor:
        """Complex coefficients (N, u = 0..lmax and -lmax..-1, v = 0..lmax)."""
        rows = self._maps[which, sector].to_rows(x)
        positive = self.rows_to_spectrum(rows)
        turn = _odd_order_phase(positive.shape[-1], positive)
        # Odd orders are sine series: e^{iut} with factor -i, e^{-iut} with +i.
        upper, lower = positive * turn.conj(), positive[:, 1:].flip(1) * turn
        return torch.cat([upper, lower], dim=1)

    def _read(self, spectrum: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        """Complex (N, u = 0..l1 + l2, v = 0..) to (N, components)."""
        lmax = self.sectors_out[sector].lmax
        orders = spectrum[..., : lmax + 1]
        rows = self.spectrum_to_rows(orders * _odd_order_phase(lmax + 1, orders), lmax, dtype)
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
        zero = half.real.new_zeros(half.shape[0], count - 2 * lmax - 1, lmax + 1)
        gap = torch.complex(zero, zero)  # AOTInductor cannot fill a complex tensor
        padded = torch.cat([half[:, : lmax + 1], gap, half[:, lmax + 1 :]], dim=1)
        return torch.fft.irfft2(padded, s=self.resolution, norm="forward").to(x.dtype)

    @override
    def from_signal(self, signal: Tensor, sector: int, dtype: torch.dtype) -> Tensor:
        spectrum = torch.fft.rfft2(signal.to(fft_dtype(signal.dtype)), norm="forward")
        frequencies = self.degrees[0] + self.degrees[1] + 1
        return self._read(spectrum[:, :frequencies], sector, signal.dtype)

    @override
    def second_macs(self) -> int:
        rows, columns = self.resolution
        return super().second_macs() + len(self.sectors2) * fft_macs(rows * columns)

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
        return convolve(f, h, self.degrees[2])

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


def convolve(first: Tensor, second: Tensor, lmax_out: int) -> Tensor:
    """Full convolution along u, orders v = 0..lmax_out along the last axis.

    Args:
        first: Complex (N, U1, 2 l1 + 1), u and v centred.
        second: Complex (N or a divisor of it, U2, 2 l2 + 1), u and v centred.
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
    # Where a row of the second series meets several of the first, they are rows of one matrix.
    runs = first.reshape(second.shape[0], -1, orders1)
    product = torch.bmm(runs, shifted).reshape(-1, rows1, rows2, lmax_out + 1)
    # Row u1 shifted by u1 places, then summed: reading the padded rows with stride one less.
    span = rows1 + rows2 - 1
    skewed = torch.nn.functional.pad(product, (0, 0, 0, rows1)).flatten(1, 2)
    return skewed[:, : rows1 * span].unflatten(1, (rows1, span)).sum(1)


def _odd_order_phase(orders: int, like: Tensor) -> Tensor:
    """1 for even orders, i for odd ones."""
    odd = (torch.arange(orders, device=like.device) % 2).to(like.real.dtype)
    return torch.complex(1 - odd, odd)

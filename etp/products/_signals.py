r"""Products of signals on the sphere: the skeleton that every form of the Gaunt product shares.

:math:`z_{lm} = \int f h Y_{lm}` with :math:`f = \sum x Y` and :math:`h = \sum y Y` (Luo et al.
2024, arXiv:2401.10216), so c = :func:`etp.maths.so3.gaunt_coefficient`: even paths only. Forms
differ in how a signal is represented, not in what they compute.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.maths import so3
from etp.product.base import TensorProduct
from etp.product.weighting import met
from etp.products._transforms import Assembly, Sector, multiply_sectors, sectors


class SpectralProduct(TensorProduct):
    """Forms that pass through complex Fourier coefficients: signals of each sector, product, read.

    Attributes:
        sectors1: Components of input 1, by sector.
        sectors2: Of input 2.
        sectors_out: Of the output.
        degrees: Largest degrees of both inputs and the output.
    """

    broadcasts = True

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
        return met(f, h)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return so3.gaunt_coefficient(ir_in1.l, ir_in2.l, ir_out.l)

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        f = {s: self.to_signal(x1, 1, s) for s in self.sectors1}
        h = {s: self.to_signal(x2, 2, s) for s in self.sectors2}
        fh = multiply_sectors(f, h, tuple(self.sectors_out), self.product)
        return self.join([self.from_signal(fh[s], s, x1.dtype) for s in self.sectors_out])

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Components of all sectors of the output, in the order of its irreps."""
        return self._assembly.join(parts)

    def products(self) -> int:
        """Number of pointwise products of sectors."""
        return sum(a * b in self.sectors_out for a in self.sectors1 for b in self.sectors2)

    def inputs(self) -> list[tuple[int, int, Sector]]:
        """(input, sector, components) of every signal made from an input."""
        return [(1, s, part) for s, part in self.sectors1.items()] + [
            (2, s, part) for s, part in self.sectors2.items()
        ]

    def rows_to_spectrum(self, rows: Tensor) -> Tensor:
        """(2 lmax + 1, N, rows) to complex (N, rows, lmax + 1), orders v = 0..lmax."""
        rows = rows.to(fft_dtype(rows.dtype))
        lmax = len(rows) // 2
        sines = torch.cat([torch.zeros_like(rows[:1]), rows[:lmax].flip(0)])
        return torch.complex(rows[lmax:], -sines).permute(1, 2, 0)

    def spectrum_to_rows(self, spectrum: Tensor, lmax: int, dtype: torch.dtype) -> Tensor:
        """Complex (N, rows, >= lmax + 1) to real (2 lmax + 1, N, rows)."""
        orders = spectrum[..., : lmax + 1].permute(2, 0, 1)
        return torch.cat([-orders.imag[1:].flip(0), orders.real]).to(dtype)


def sector_tag(sector: int) -> str:
    """Name of a value parity in the names of tables."""
    return "_scalar" if sector == 1 else "_pseudo"


def fft_dtype(dtype: torch.dtype) -> torch.dtype:
    """Precision of Fourier transforms for inputs of ``dtype``."""
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

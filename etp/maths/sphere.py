r"""Signals on the sphere: exact grids, Legendre tables, spherical harmonics, torus Fourier tables.

Conventions, those of e3nn: the polar axis is y, a point is
``n = (sin b sin a, cos b, sin b cos a)`` with colatitude b and longitude a, and

.. math:: Y_{lm}(b, a) = \bar P_l^{|m|}(b) \{\sqrt2 \sin |m| a,\; 1,\; \sqrt2 \cos m a\}

for m < 0, m = 0, m > 0, with m = -l..l and :math:`\int Y Y' d\Omega = \delta`. There is no
Condon-Shortley sign. Everything here is float64: products cast tables last.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Grid(NamedTuple):
    """Product grid on the sphere: Gauss-Legendre in cos(beta), equally spaced in alpha.

    Attributes:
        beta: Colatitudes, shape (res_beta,).
        alpha: Longitudes, shape (res_alpha,).
        weights: Quadrature weight of each point of a row, shape (res_beta,); they add up to
            4 pi over the whole grid.

    Examples:
        >>> round(float(grid(3, 5).weights.sum() * 5) / torch.pi, 12)
        4.0
    """

    beta: Tensor
    alpha: Tensor
    weights: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(res_beta, res_alpha)."""
        return len(self.beta), len(self.alpha)


@cache
def grid(res_beta: int, res_alpha: int) -> Grid:
    """Grid with the given numbers of rows and columns. Cached: read-only.

    Examples:
        >>> grid(3, 5).shape
        (3, 5)
    """
    cos_beta, weights = np.polynomial.legendre.leggauss(res_beta)
    beta = torch.from_numpy(np.arccos(cos_beta))
    alpha = 2 * torch.pi * torch.arange(res_alpha, dtype=torch.float64) / res_alpha
    return Grid(beta, alpha, torch.from_numpy(weights) * (2 * torch.pi / res_alpha))


def exact_resolution(l1: int, l2: int, l3: int) -> tuple[int, int]:
    """Smallest (res_beta, res_alpha) that integrates f h Y exactly for degrees <= l1, l2, l3.

    The integral over alpha needs l1 + l2 + l3 + 1 columns so that frequency |m1| + |m2| does not
    alias into |m3| <= l3. What is left is a polynomial of degree l1 + l2 + l3 in cos(beta), whose
    odd powers vanish by symmetry of the nodes. One row or column less is wrong by percents.

    Args:
        l1: Largest degree of f.
        l2: Largest degree of h.
        l3: Largest degree that is read.

    Examples:
        >>> exact_resolution(2, 2, 4)
        (5, 9)
    """
    total = l1 + l2 + l3
    return total // 2 + 1, total + 1


def legendre(lmax: int, beta: Tensor) -> Tensor:
    """Normalised associated Legendre functions P[l, m] at colatitudes ``beta``.

    Returns:
        Float64 tensor of shape (lmax + 1, lmax + 1, len(beta)), zero where m > l.

    Examples:
        >>> legendre(2, grid(3, 1).beta).shape
        torch.Size([3, 3, 3])
    """
    cos, sin = torch.cos(beta), torch.sin(beta)
    return _legendre(lmax, cos, sin)


def _legendre(lmax: int, cos: Tensor, sin: Tensor) -> Tensor:
    table = torch.zeros(lmax + 1, lmax + 1, *cos.shape, dtype=torch.float64)
    table[0, 0] = (4 * torch.pi) ** -0.5
    for m in range(1, lmax + 1):
        table[m, m] = ((2 * m + 1) / (2 * m)) ** 0.5 * sin * table[m - 1, m - 1]
    for l in range(1, lmax + 1):
        orders = torch.arange(l, dtype=torch.float64).reshape(-1, *[1] * cos.ndim)
        a = ((4 * l * l - 1) / (l * l - orders * orders)).sqrt()
        table[l, :l] = a * cos * table[l - 1, :l]
        if l > 1:
            b = (((l - 1) ** 2 - orders * orders) / (4 * (l - 1) ** 2 - 1)).clamp(min=0).sqrt()
            table[l, :l] -= a * b * table[l - 2, :l]
    return table


def legendre_derivative(lmax: int, beta: Tensor) -> Tensor:
    """Derivatives dP[l, m] / d beta, shape as :func:`legendre`; ``beta`` must avoid the poles.

    Examples:
        >>> legendre_derivative(1, torch.tensor([0.5], dtype=torch.float64))[0].tolist()
        [[0.0], [0.0]]
    """
    table = legendre(lmax, beta)
    out = torch.zeros_like(table)
    m = torch.arange(lmax + 1, dtype=torch.float64).reshape(-1, 1)
    for l in range(1, lmax + 1):
        below = ((2 * l + 1) * (l * l - m * m).clamp(min=0) / (2 * l - 1)).sqrt()
        out[l] = (l * torch.cos(beta) * table[l] - below * table[l - 1]) / torch.sin(beta)
    return out


def azimuth(lmax: int, alpha: Tensor) -> Tensor:
    """Rows m = -lmax..lmax of sqrt2 sin|m|a, 1, sqrt2 cos ma; shape (2 lmax + 1, *alpha.shape).

    Examples:
        >>> azimuth(1, torch.zeros(1, dtype=torch.float64)).flatten().tolist()
        [0.0, 1.0, 1.414...]
    """
    m = torch.arange(1, lmax + 1, dtype=torch.float64).reshape(-1, *[1] * alpha.ndim)
    sines = 2**0.5 * torch.sin(m * alpha)
    return torch.cat([sines.flip(0), torch.ones(1, *alpha.shape, dtype=torch.float64),
                      2**0.5 * torch.cos(m * alpha)])  # fmt: skip


def azimuth_derivative(lmax: int, alpha: Tensor) -> Tensor:
    """Derivatives of :func:`azimuth` by alpha, same shape.

    Examples:
        >>> azimuth_derivative(1, torch.zeros(1, dtype=torch.float64)).abs().flatten().tolist()
        [1.414..., 0.0, 0.0]
    """
    m = torch.arange(-lmax, lmax + 1, dtype=torch.float64).reshape(-1, *[1] * alpha.ndim)
    # d/da sin|m|a = |m| cos|m|a and d/da cos ma = -m sin ma: each row is -m times its mirror.
    return -m * azimuth(lmax, alpha).flip(0)


def degrees_orders(lmax: int) -> tuple[Tensor, Tensor]:
    """Degree l and order m of each component of 0..lmax, in the order of e3nn.

    Examples:
        >>> [x.tolist() for x in degrees_orders(1)]
        [[0, 1, 1, 1], [0, -1, 0, 1]]
    """
    l = torch.cat([torch.full((2 * l + 1,), l) for l in range(lmax + 1)])
    m = torch.cat([torch.arange(-l, l + 1) for l in range(lmax + 1)])
    return l, m


def spherical_harmonics(lmax: int, points: Tensor) -> Tensor:
    """Orthonormal real spherical harmonics of degrees 0..lmax.

    Args:
        lmax: Largest degree.
        points: Unit vectors (x, y, z), float64, shape (..., 3).

    Returns:
        Float64 tensor of shape (..., (lmax + 1)^2).

    Examples:
        >>> north = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)  # the polar axis is y
        >>> (spherical_harmonics(1, north) ** 2 * 4 * torch.pi).round(decimals=9).tolist()
        [1.0, 0.0, 3.0, 0.0]
    """
    x, y, z = points.unbind(-1)
    table = _legendre(lmax, y, torch.sqrt(x * x + z * z))
    waves = azimuth(lmax, torch.atan2(x, z))
    l, m = degrees_orders(lmax)
    return (table[l, m.abs()] * waves[m + lmax]).movedim(0, -1)


def grid_points(nodes: Grid) -> Tensor:
    """Unit vectors of all grid points, shape (res_beta, res_alpha, 3).

    Examples:
        >>> grid_points(grid(2, 3)).shape
        torch.Size([2, 3, 3])
    """
    beta, alpha = torch.meshgrid(nodes.beta, nodes.alpha, indexing="ij")
    return torch.stack(
        [torch.sin(beta) * torch.sin(alpha), torch.cos(beta), torch.sin(beta) * torch.cos(alpha)],
        dim=-1,
    )


def legendre_by_order(lmax: int, table: Tensor) -> Tensor:
    """Rearrange a table (l, m >= 0, n) into rows (m = -lmax..lmax, l, n), zero where |m| > l.

    Examples:
        >>> legendre_by_order(2, legendre(2, grid(3, 1).beta)).shape
        torch.Size([5, 3, 3])
    """
    return table[:, torch.arange(-lmax, lmax + 1).abs()].transpose(0, 1).contiguous()


@cache
def torus_series(lmax: int) -> Tensor:
    """Fourier series in beta of the Legendre functions, continued to the whole circle.

    ``P[l, |m|](t)`` is a cosine series where m is even and a sine series where it is odd, and holds
    only frequencies u with u = l mod 2.

    Returns:
        Float64 tensor of shape (2 lmax + 1, lmax + 1, lmax + 1): coefficient of cos(ut) or sin(ut),
        indexed (m, l, u). Cached: read-only.

    Examples:
        >>> torus_series(2).shape
        torch.Size([5, 3, 3])
    """
    points = 2 * lmax + 2
    t = 2 * torch.pi * (torch.arange(points, dtype=torch.float64) + 0.5) / points
    table = legendre_by_order(lmax, legendre(lmax, t))
    u = torch.arange(lmax + 1, dtype=torch.float64)
    norm = (2.0 - (u == 0).to(torch.float64)) / points
    odd = (torch.arange(-lmax, lmax + 1) % 2 == 1).reshape(-1, 1, 1)
    cosines = torch.cos(t[:, None] * u) * norm
    sines = torch.sin(t[:, None] * u) * norm
    series = torch.where(odd, table @ sines, table @ cosines)
    l = torch.arange(lmax + 1).reshape(-1, 1)
    return torch.where((l - u) % 2 == 0, series, 0.0)


@cache
def torus_moments(lmax: int, max_frequency: int) -> Tensor:
    """Integrals that read spherical harmonic coefficients off a torus Fourier series.

    Returns:
        Float64 tensor of shape (2 lmax + 1, lmax + 1, max_frequency + 1), indexed (m, l, u):
        the integral over t in 0..pi of ``P[l, |m|](t) cos(ut) sin(t)`` for m even, with sin(ut)
        for m odd. Cached: read-only.

    Examples:
        >>> torus_moments(2, 4).shape
        torch.Size([5, 3, 5])
    """
    # The integrand is a polynomial of degree <= lmax + max_frequency in cos t.
    nodes = grid((lmax + max_frequency) // 2 + 2, 1)
    weights = nodes.weights / (2 * torch.pi)
    table = legendre_by_order(lmax, legendre(lmax, nodes.beta)) * weights
    u = torch.arange(max_frequency + 1, dtype=torch.float64)
    odd = (torch.arange(-lmax, lmax + 1) % 2 == 1).reshape(-1, 1, 1)
    phase = nodes.beta[:, None] * u
    return torch.where(odd, table @ torch.sin(phase), table @ torch.cos(phase))

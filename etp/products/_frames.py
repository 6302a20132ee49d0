"""Frames that look along directions: the polar axis turned to each, and Wigner matrices of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from etp.kernels.tables import TableModule
from etp.maths import so3

Angle = tuple[Tensor, Tensor]
"""Cosine and sine."""

AXES = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
"""Rotation Q with Q y = x, Q z = y, Q x = z: turns about y become turns about x."""
NEAR_POLE = 0.8
"""Cosine from which derivatives are taken in turned axes: the azimuth has none at the pole."""


class Frame(NamedTuple):
    """Directions as turns: multiples of both angles for each order, (E, 2 top + 1).

    ``near`` says which directions are near the pole and given in turned axes, None for none.
    """

    alpha: Angle
    beta: Angle
    near: Tensor | None


def along(given: Tensor, top: int, dtype: torch.dtype) -> tuple[Tensor, Frame]:
    """Sizes s, (E, 1), and frames of vectors s Y_1(d), (E, 3).

    Args:
        given: The vectors; one of size 0 looks along the pole.
        top: Largest multiple of the angles.
        dtype: Of the frame; angles are computed in float32 at least.
    """
    size, unit = _polar(given.to(torch.promote_types(given.dtype, torch.float32)))
    near = unit[:, 1:2].abs() > NEAR_POLE if given.requires_grad else None
    if near is not None:
        unit = torch.where(near, unit.roll(1, dims=1), unit)
    alpha, beta = (_multiples(angle, top, dtype) for angle in _angles(unit))
    return size, Frame(alpha, beta, near)


@cache
def turned_axes(lmax: int) -> tuple[Tensor, ...]:
    """Wigner matrices of :data:`AXES`, (2 l + 1, 2 l + 1) for each degree. Cached: read-only."""
    axes = torch.tensor(AXES, dtype=torch.float64)[None]
    return tuple(matrices[0] for matrices in so3.wigner_d(lmax, axes))


def times_i(matrix: Tensor) -> Tensor:
    """Rows -l..l of a matrix, (2 l + 1, n), as complex numbers m + i (-m), times i.

    What couples a natural irrep to a pseudo one along a direction is so made real.
    """
    rows = matrix.flip(0)
    rows[len(rows) // 2 + 1 :] *= -1.0
    return rows


class Rows(NamedTuple):
    """Rows of a Wigner matrix.

    Attributes:
        l: Degree.
        orders: Order of each row.
        turned: Whether they are rows of the matrix :func:`times_i`.
    """

    l: int
    orders: tuple[int, ...]
    turned: bool


class WignerRows:
    r"""Rows of Wigner matrices that turn directions to the polar axis, as trigonometric series.

    :math:`D_{kb}(\alpha, \beta) = P_{kb}(\beta) \cos b\alpha - P_{k,-b}(\beta) \sin b\alpha`, where
    P is linear in the cosines and sines of multiples of :math:`\beta`: two matrix products for all
    directions, degrees and rows.

    Args:
        owner: Keeps the tables.
        matrices: Rows of each matrix.

    Attributes:
        top: Largest degree.
        macs: Multiply-adds for one direction.
    """

    def __init__(self, owner: TableModule, matrices: Sequence[Rows]) -> None:
        self._owner = owner
        self.top = max(rows.l for rows in matrices)
        degrees = turned_axes(self.top)
        self._shapes = [(len(orders), 2 * l + 1) for l, orders, _ in matrices]
        tables, columns = [], []
        for number, (l, orders, turned) in enumerate(matrices):
            axes = degrees[l]
            rows = (times_i(axes) if turned else axes)[[l + m for m in orders]]
            tables.append(self._series(rows, axes))
            columns.append((self.top - l + torch.arange(2 * l + 1)).repeat(len(orders)))
            owner.register_table(f"axes_{number}", axes.mT)
        for name, table in zip(("even", "odd"), zip(*tables, strict=True), strict=True):
            owner.register_table(f"rows_{name}", torch.cat(table, dim=1))
        order = torch.cat(columns)
        owner.register_buffer("rows_order", order, persistent=False)
        self.macs = len(order) * (4 * (2 * self.top + 1) + 2)

    def _series(self, rows: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of P_kb and of -P_k,-b, (2 (2 top + 1), rows x columns)."""
        cosines = torch.einsum("ka,ba->akb", rows, axes)
        sines = torch.einsum("ka,ba->akb", rows, axes.flip(1))
        missing = self.top - (len(axes) // 2)
        whole = torch.cat(
            [torch.nn.functional.pad(t, (0, 0, 0, 0, missing, missing)) for t in (cosines, sines)]
        )
        return whole.flatten(1), -whole.flip(2).flatten(1)

    def __call__(self, size: Tensor, frame: Frame) -> list[Tensor]:
        """Rows of each matrix for some directions.

        Args:
            size: Of the vectors, (E, 1): where it is 0 there is no direction, and rows are 0.
            frame: Frames along them.

        Returns:
            For each matrix (E, rows, 2 l + 1).
        """
        owner = self._owner
        series = torch.cat(frame.beta, dim=1) * (size > 0)
        order = owner.index("rows_order")
        even, odd = (series @ owner.table(f"rows_{n}", series.dtype) for n in ("even", "odd"))
        cosines, sines = (t.index_select(1, order) for t in frame.alpha)
        whole = torch.addcmul(even * cosines, odd, sines)
        sizes = [rows * columns for rows, columns in self._shapes]
        parts = whole.split(sizes, dim=1)
        matrices = [p.unflatten(1, shape) for p, shape in zip(parts, self._shapes, strict=True)]
        near = frame.near
        if near is None:
            return matrices
        return [
            torch.where(near[:, :, None], m @ owner.table(f"axes_{number}", m.dtype), m)
            for number, m in enumerate(matrices)
        ]


class Harmonics(WignerRows):
    """Rows of order 0 of every degree: spherical harmonics that are 1 along the pole.

    Args:
        owner: Keeps the tables.
        top: Largest degree.

    Attributes:
        numel: Harmonics of all degrees.
    """

    def __init__(self, owner: TableModule, top: int) -> None:
        super().__init__(owner, [Rows(l, (0,), False) for l in range(top + 1)])
        self.numel = (top + 1) ** 2

    def of(self, given: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Sizes s, (E, 1), and harmonics, (E, numel), of vectors s Y_1(d), (E, 3)."""
        size, frame = along(given, self.top, dtype)
        return size, torch.cat(self(size, frame), dim=2).flatten(1)


def _polar(given: Tensor) -> tuple[Tensor, Tensor]:
    """Size s and direction of s Y_1(d), (N, 1) and (N, 3); zero has the direction of the pole."""
    square = given.square().sum(dim=1, keepdim=True)
    there = square > 0
    length = torch.where(there, square, 1.0).sqrt()
    pole = given.new_tensor([0.0, 1.0, 0.0])
    unit = torch.where(there, given / length, pole)
    return torch.where(there, length, 0.0) / sqrt(3 / (4 * pi)), unit


def _angles(unit: Tensor) -> tuple[Angle, Angle]:
    """Azimuth and colatitude of directions (N, 3); at a pole the azimuth is 0."""
    x, y, z = unit.unbind(1)
    square = x * x + z * z
    away = square > torch.finfo(unit.dtype).eps ** 2
    sine = torch.where(away, square, 1.0).sqrt()
    azimuth = torch.where(away, z / sine, 1.0), torch.where(away, x / sine, 0.0)
    return azimuth, (y, torch.where(away, sine, 0.0))


def _multiples(angle: Angle, top: int, dtype: torch.dtype) -> Angle:
    """Cosine and sine of m times an angle for m = -top..top, each (N, 2 top + 1)."""
    cosine, sine = angle
    cosines, sines = [torch.ones_like(cosine)], [torch.zeros_like(sine)]
    for _ in range(top):
        c, s = cosines[-1], sines[-1]
        cosines.append(cosine * c - sine * s)
        sines.append(sine * c + cosine * s)
    return (
        torch.stack(cosines[:0:-1] + cosines, dim=1).to(dtype),
        torch.stack([-s for s in sines[:0:-1]] + sines, dim=1).to(dtype),
    )

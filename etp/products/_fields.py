r"""Values and derivatives of signals on the grid: what brackets and vector signals are made of.

A signal :math:`f = \sum x Y` has the surface gradient :math:`(\partial_\beta f,\;
\partial_\alpha f / \sin\beta)` in the local frame of the two angles. That frame turns from point to
point, but products of vectors do not depend on it, and Gauss-Legendre nodes avoid its poles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etp.kernels.on_cpu.compose import FieldMap
from etp.kernels.on_cpu.program import DensePart, LinearMap, Rows
from etp.maths import sphere
from etp.product.base import TensorProduct
from etp.products._transforms import DENSE_POINTS, ByOrder, Sector

SEPARABLE_GAIN = 0.7
"""Share of the multiply-adds below which two stages in a tile beat one matrix (measured)."""


class Field(NamedTuple):
    """A linear image of a signal on a grid, separable for each component (l, m).

    Attributes:
        table: Float64, shape (lmax + 1, lmax + 1, res_beta), indexed (l, |m|, row).
        waves: Float64, shape (2 lmax + 1, res_alpha), indexed (m, column).
    """

    table: Tensor
    waves: Tensor

    def times(self, factors: Tensor) -> Field:
        """The field with each degree l multiplied by ``factors[l]``."""
        return self._replace(table=self.table * factors[:, None, None])

    def negative(self) -> Field:
        """The field with the other sign."""
        return self._replace(table=-self.table)

    def weighted(self, nodes: sphere.Grid) -> Field:
        """The field times the quadrature weights of the grid."""
        return self._replace(table=self.table * nodes.weights)

    def matrix(self, sector: Sector) -> Tensor:
        """Values of a sector's components at the points: (components, res_beta * res_alpha)."""
        rows = self.table[sector.degrees, sector.orders.abs()]
        waves = self.waves[sector.orders + len(self.waves) // 2]
        return torch.einsum("cb,ca->cba", rows, waves).flatten(1)


def value(lmax: int, nodes: sphere.Grid) -> Field:
    """The signal itself."""
    return Field(sphere.legendre(lmax, nodes.beta), sphere.azimuth(lmax, nodes.alpha))


def gradient(lmax: int, nodes: sphere.Grid) -> tuple[Field, Field]:
    """Derivative by beta, and by alpha over sin beta."""
    return (
        Field(sphere.legendre_derivative(lmax, nodes.beta), sphere.azimuth(lmax, nodes.alpha)),
        Field(
            sphere.legendre(lmax, nodes.beta) / torch.sin(nodes.beta),
            sphere.azimuth_derivative(lmax, nodes.alpha),
        ),
    )


class Feed(NamedTuple):
    """What the components of one sector give to a field.

    Attributes:
        sector: The components.
        field: What each of them makes.
        target: Number of the field that all this is added to.
        factors: Of each component of the sector, None for ones.
    """

    sector: Sector
    field: Field
    target: int
    factors: Tensor | None = None

    def matrix(self) -> Tensor:
        """Values at the points, (points, components)."""
        values = self.field.matrix(self.sector)
        return (values if self.factors is None else self.factors[:, None] * values).T


def field_map(feeds: Sequence[Feed], nodes: sphere.Grid, features: int) -> FieldMap:
    """Features to fields for tile programs, the cheaper of one matrix and two stages.

    Args:
        feeds: What makes the fields.
        nodes: The grid.
        features: Number of all components.
    """
    parts = [_Part(feed) for feed in feeds]
    points = nodes.shape[0] * nodes.shape[1]
    dense = _one_stage(parts, points, features)
    separable = _two_stages(parts, nodes.shape, features)
    cheaper = separable.macs < SEPARABLE_GAIN * dense.macs
    return FieldMap(separable if cheaper else dense, points)


class _Part:
    """A feed as arrays.

    Attributes:
        table: (components, res_beta), factors included.
        waves: (components, res_alpha).
    """

    def __init__(self, feed: Feed) -> None:
        sector, field = feed.sector, feed.field
        factors = torch.ones(len(sector.degrees)) if feed.factors is None else feed.factors
        table = field.table[sector.degrees, sector.orders.abs()] * factors[:, None]
        kept = table.abs().amax(dim=1) > 0
        # A field that is zero, as the gradient of a constant, is written all the same.
        kept[0] |= not kept.any()
        self.target = feed.target
        self.positions = sector.positions[kept].numpy().astype(np.int32)
        self.orders = sector.orders[kept].numpy()
        self.table = table[kept].numpy()
        self.waves = field.waves[sector.orders[kept] + len(field.waves) // 2].numpy()


def _one_stage(parts: Sequence[_Part], points: int, features: int) -> LinearMap:
    """One matrix for each field, of all components that give to it."""
    blocks = []
    for target in range(1 + max(part.target for part in parts)):
        mine = [part for part in parts if part.target == target]
        positions, place = np.unique(
            np.concatenate([part.positions for part in mine]), return_inverse=True
        )
        matrix = np.zeros((len(positions), points))
        values = [part.table[:, :, None] * part.waves[:, None, :] for part in mine]
        np.add.at(matrix, place, np.concatenate(values).reshape(-1, points))
        blocks.append(DensePart(positions, _rows(target, points), matrix))
    return LinearMap((features, points * len(blocks)), (tuple(blocks),))


def _two_stages(parts: Sequence[_Part], shape: tuple[int, int], features: int) -> LinearMap:
    """Legendre functions order by order, then Fourier series row by row."""
    res_beta, res_alpha = shape
    legendre: list[DensePart] = []
    waves: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
    for part in parts:
        for m in np.unique(part.orders):
            here = part.orders == m
            waves.setdefault(part.target, []).append((len(legendre), part.waves[here][0]))
            rows = _rows(len(legendre), res_beta)
            legendre.append(DensePart(part.positions[here], rows, part.table[here]))
    fourier = [
        DensePart(
            np.array([place * res_beta + b for place, _ in placed], dtype=np.int32),
            _rows(target * res_beta + b, res_alpha),
            np.stack([wave for _, wave in placed]),
        )
        for target, placed in sorted(waves.items())
        for b in range(res_beta)
    ]
    widths = (features, len(legendre) * res_beta, len(waves) * res_beta * res_alpha)
    return LinearMap(widths, (tuple(legendre), tuple(fourier)))


def _rows(number: int, count: int) -> Rows:
    """The ``number``-th run of ``count`` rows."""
    return np.arange(number * count, (number + 1) * count, dtype=np.int32)


class FieldTransform:
    """Components of one sector to several fields on a grid, or the adjoint with quadrature.

    One dense matrix on a small grid, Legendre functions order by order and then a Fourier matrix
    for each field on a larger one.

    Args:
        owner: Product that keeps the tables.
        name: Prefix of the names of the tables.
        sector: Components on the features' side.
        nodes: The grid.
        fields: Of degrees up to those of the sector.
        back: From fields to components, with the weights of the grid.
        dense_points: Largest grid for which one dense matrix is used.
    """

    def __init__(
        self,
        owner: TensorProduct,
        name: str,
        sector: Sector,
        nodes: sphere.Grid,
        fields: Sequence[Field],
        *,
        back: bool,
        dense_points: int = DENSE_POINTS,
    ) -> None:
        self._owner, self._name, self._back = owner, name, back
        self._shape, self._count = nodes.shape, len(fields)
        points = nodes.shape[0] * nodes.shape[1]
        fields = [field.weighted(nodes) for field in fields] if back else fields
        self._by_order: ByOrder | None = None
        if points <= dense_points:
            matrix = torch.cat([field.matrix(sector) for field in fields], dim=1)
            owner.register_table(f"{name}_dense", matrix.T if back else matrix)
            index = None if back or sector.alone else sector.positions
            owner.register_buffer(f"{name}_positions", index, persistent=False)
            self.macs = matrix.numel()
        else:
            tables = [sphere.legendre_by_order(sector.lmax, f.table) for f in fields]
            self._by_order = ByOrder(owner, name, sector, torch.cat(tables, dim=2))
            for number, field in enumerate(fields):
                owner.register_table(f"{name}_waves{number}", field.waves)
            fourier = len(fields) * (2 * sector.lmax + 1) * points
            self.macs = self._by_order.macs + fourier

    def to_grid(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, features) to one (N, res_beta * res_alpha) for each field."""
        if self._by_order is None:
            index = self._owner.optional_index(f"{self._name}_positions")
            columns = x if index is None else x.index_select(-1, index)
            values = columns @ self._owner.table(f"{self._name}_dense", x.dtype)
            if self._count == 1:
                return (values,)
            # Not "chunk", whose derivative torch.jit gets wrong where a part is not used.
            return values.unflatten(1, (self._count, -1)).unbind(1)
        rows = self._by_order.to_rows(x).permute(1, 2, 0).chunk(self._count, dim=1)
        return tuple((part @ self._waves(i, x.dtype)).flatten(1) for i, part in enumerate(rows))

    def from_grid(self, fields: Sequence[Tensor]) -> Tensor:
        """One (N, res_beta * res_alpha) for each field to (N, components), the fields added up."""
        dtype = fields[0].dtype
        if self._by_order is None:
            values = fields[0] if self._count == 1 else torch.cat(list(fields), dim=1)
            return values @ self._owner.table(f"{self._name}_dense", dtype)
        rows = [
            field.unflatten(1, self._shape) @ self._waves(i, dtype).T
            for i, field in enumerate(fields)
        ]
        whole = rows[0] if self._count == 1 else torch.cat(rows, dim=1)
        return self._by_order.from_rows(whole.permute(2, 0, 1))

    def _waves(self, number: int, dtype: torch.dtype) -> Tensor:
        return self._owner.table(f"{self._name}_waves{number}", dtype)

"""Irreps features to signals and back: the linear maps that signal-based products share.

Features of one channel split into two *sectors* by the parity of the signal's value, p (-1)^l:
true scalar fields (+1, natural irreps) and pseudoscalar fields (-1). Within a sector each (l, m)
occurs at most once, so a sector is an ordinary signal on the sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from etp.e3 import o3
from etp.maths.layout import slices
from etp.product.base import TensorProduct

DENSE_POINTS = 400
"""Up to this many grid points one dense matrix product beats two separable ones (measured)."""


class Sector(NamedTuple):
    """Components of one value parity: their degrees, orders and positions in the features.

    Attributes:
        degrees: l of each component.
        orders: m of each component.
        positions: Places in the features.
        alone: Whether the features hold nothing else, in this order.
        lmax: Largest degree present; a number, which compilers need not compute.
    """

    degrees: Tensor
    orders: Tensor
    positions: Tensor
    alone: bool
    lmax: int


def sector_of(ir: o3.Irrep) -> int:
    """Parity of the value of an irrep's signal, p (-1)^l."""
    return int(ir.p * (-1) ** ir.l)


def sectors(irs: Sequence[o3.Irrep]) -> dict[int, Sector]:
    """Split one channel's irreps by value parity p (-1)^l, +1 first."""
    by_parity: dict[int, list[Tensor]] = {}
    for ir, part in zip(irs, slices(irs), strict=True):
        m = torch.arange(-ir.l, ir.l + 1)
        rows = torch.stack([torch.full_like(m, ir.l), m, torch.arange(part.start, part.stop)])
        by_parity.setdefault(sector_of(ir), []).append(rows)
    alone = len(by_parity) == 1
    merged = {s: torch.cat(by_parity[s], dim=1).unbind(0) for s in sorted(by_parity, reverse=True)}
    return {
        s: Sector(degrees, orders, positions, alone, int(degrees.max()))
        for s, (degrees, orders, positions) in merged.items()
    }


def multiply_sectors(
    f: Mapping[int, Tensor],
    h: Mapping[int, Tensor],
    wanted: Sequence[int],
    product: Callable[[Tensor, Tensor], Tensor] = torch.mul,
) -> dict[int, Tensor]:
    """Product of two signals by sector: value parities multiply."""
    out: dict[int, Tensor] = {}
    for a, first in f.items():
        for b, second in h.items():
            if a * b in wanted:
                fh = product(first, second)
                out[a * b] = out[a * b] + fh if a * b in out else fh
    return out


class ByOrder:
    """Linear map between components (l, m) and rows, one small matrix for each order m.

    Args:
        owner: Product that keeps the tables.
        name: Prefix of the names of the tables.
        sector: Components on the features' side.
        table: Float64, shape (2 lmax + 1, lmax + 1, rows), indexed (m, l, row), zero for |m| > l.
    """

    def __init__(self, owner: TensorProduct, name: str, sector: Sector, table: Tensor) -> None:
        self._owner, self._name = owner, name
        orders, degrees, self.rows = table.shape
        self.orders, self._degrees = orders, degrees
        place = (sector.orders + orders // 2) * degrees + sector.degrees
        source = torch.zeros(orders * degrees, dtype=torch.int64)
        source[place] = sector.positions
        present = torch.zeros(orders * degrees, dtype=torch.bool)
        present[place] = True
        # Absent components read some present one through a row of zeros.
        source[~present] = sector.positions[0]
        masked = torch.where(present.reshape(orders, degrees, 1), table, 0.0)
        owner.register_table(f"{name}_table", masked)
        owner.register_buffer(f"{name}_source", source, persistent=False)
        owner.register_buffer(f"{name}_place", place, persistent=False)
        self.macs = int((masked != 0).any(dim=2).sum()) * self.rows

    def to_rows(self, x: Tensor) -> Tensor:
        """(N, features) to (2 lmax + 1, N, rows)."""
        source = self._owner.index(f"{self._name}_source")
        table = self._owner.table(f"{self._name}_table", x.dtype)
        by_order = x.index_select(-1, source).reshape(-1, self.orders, self._degrees)
        return torch.bmm(by_order.transpose(0, 1), table)

    def from_rows(self, rows: Tensor) -> Tensor:
        """(2 lmax + 1, N, rows) to (N, components), in the order of the sector."""
        place = self._owner.index(f"{self._name}_place")
        table = self._owner.table(f"{self._name}_table", rows.dtype)
        by_order = torch.bmm(rows, table.transpose(1, 2)).transpose(0, 1)
        return by_order.reshape(by_order.shape[0], -1).index_select(-1, place)


class Assembly:
    """Put the sectors' outputs together in the order of the output irreps."""

    def __init__(self, owner: TensorProduct, name: str, parts: Mapping[int, Sector]) -> None:
        self._owner, self._name = owner, name
        order = torch.argsort(torch.cat([sector.positions for sector in parts.values()]))
        in_order = torch.equal(order, torch.arange(len(order)))
        owner.register_buffer(name, None if in_order else order, persistent=False)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """(N, components) of each sector to (N, dim_out)."""
        whole = parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)
        order = self._owner.optional_index(self._name)
        return whole if order is None else whole.index_select(-1, order)

r"""Pointwise products of fields on one grid, as a description that executors run.

.. math:: T(x, y, z) = \sum_t \pm \sum_p (A_t x)_p (B_t y)_p (C_t z)_p

Every side has *slots*: copies of its components that have weights of their own. Without weights
their shares are added up before anything is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from etp.kernels.on_cpu.compose import Pointwise
from etp.maths import sphere
from etp.product.base import TensorProduct
from etp.products._fields import Feed, Field, value
from etp.products._transforms import Sector

OUT = 2
"""Number of the output's side."""


WHOLE: Mapping[int, Tensor | None] = {0: None}
"""Shares where there is one slot, all of which enters."""


class SectorFields(NamedTuple):
    """Fields made from one sector of an input, or read into one of the output.

    Attributes:
        sector: Key of the sector.
        name: Of the map; sources of a side with one name and sector share it.
        fields: What is made.
        targets: Numbers of the fields that each is added to, or that the sector is read from.
        shares: For each slot how much of every component of the side enters; None is all.
    """

    sector: int
    name: str
    fields: Sequence[Field]
    targets: Sequence[int]
    shares: Mapping[int, Tensor | None]


class FieldSide(NamedTuple):
    """Components of one side and the fields that they make.

    Attributes:
        sectors: All components, by sector.
        sources: What is made of them.
        slots: Numbers of the slots, in the order of the copies.
    """

    sectors: Mapping[int, Sector]
    sources: Sequence[SectorFields]
    slots: Sequence[int] = (0,)

    @classmethod
    def of_values(cls, sectors: Mapping[int, Sector], nodes: sphere.Grid) -> FieldSide:
        """The value of each sector's signal as a field of its own, in their order."""
        sources = [
            SectorFields(key, "value", (value(sector.lmax, nodes),), (number,), WHOLE)
            for number, (key, sector) in enumerate(sectors.items())
        ]
        return cls(sectors, sources)

    @property
    def dim(self) -> int:
        """Components of one slot."""
        return sum(len(sector.positions) for sector in self.sectors.values())

    @property
    def wide(self) -> int:
        """Components of all slots."""
        return self.dim * len(self.slots)

    def parts(self) -> list[Sector]:
        """Every sector of every slot, where it lies among all copies."""
        return [
            sector._replace(positions=sector.positions + copy * self.dim, alone=False)
            for copy in range(len(self.slots))
            for sector in self.sectors.values()
        ]

    def feeds(self) -> list[tuple[int, Feed]]:
        """What each part, by its number, gives to each field."""
        parts, keys = self.parts(), list(self.sectors)
        made = []
        for source in self.sources:
            for slot, share in source.shares.items():
                number = list(self.slots).index(slot) * len(keys) + keys.index(source.sector)
                own = None if share is None else share[self.sectors[source.sector].positions]
                made += [
                    (number, Feed(parts[number], field, target, own))
                    for field, target in zip(source.fields, source.targets, strict=True)
                ]
        return made

    def weighted(self, nodes: sphere.Grid) -> FieldSide:
        """With the weights of the grid: the transposed maps are then the quadrature."""
        sources = [
            source._replace(fields=[field.weighted(nodes) for field in source.fields])
            for source in self.sources
        ]
        return self._replace(sources=sources)


class Drawing:
    """A side of which fields are added one after the other.

    Args:
        sectors: All components, by sector.
        slots: Numbers of the slots.
    """

    def __init__(self, sectors: Mapping[int, Sector], slots: Sequence[int]) -> None:
        self.sectors, self._slots = sectors, slots
        self._sources: dict[tuple[int, str, int], SectorFields] = {}
        self._count = 0

    def add(self, sector: int, name: str, fields: Sequence[Field], slot: int = 0) -> Sequence[int]:
        """Fields that one slot of a sector makes, unless they are there; their numbers.

        Args:
            sector: Key of the sector.
            name: Of the map.
            fields: What it makes.
            slot: Of the components.
        """
        key = sector, name, slot
        if key not in self._sources:
            targets = range(self._count, self._count + len(fields))
            self._count += len(fields)
            self._sources[key] = SectorFields(sector, name, fields, targets, {slot: None})
        return self._sources[key].targets

    def side(self) -> FieldSide:
        """What was drawn."""
        return FieldSide(self.sectors, list(self._sources.values()), self._slots)


class Fields(NamedTuple):
    """Pointwise products of fields on a grid.

    Attributes:
        nodes: The grid.
        sides: Both inputs and the output.
        terms: Which fields are multiplied, and what the products are added to.
    """

    nodes: sphere.Grid
    sides: tuple[FieldSide, FieldSide, FieldSide]
    terms: Sequence[Pointwise]

    @property
    def slots(self) -> Sequence[Sequence[int]]:
        """Of each side."""
        return [side.slots for side in self.sides]

    def to_be_read(self) -> tuple[FieldSide, FieldSide, FieldSide]:
        """The sides, the output's with the weights of the grid."""
        first, second, out = self.sides
        return first, second, out.weighted(self.nodes)


def top_degrees(product: TensorProduct) -> tuple[int, int, int]:
    """Largest degrees of both inputs and the output, which a grid must resolve together."""
    return product.lmax_in1, product.lmax_in2, max(ir.l for ir in product.irs_out)

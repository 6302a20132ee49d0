"""Products of fields on one grid: described once, run as tile programs or as one GPU kernel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

from typing_extensions import override

from etp.kernels.multilinear import Form
from etp.kernels.on_cpu import compose, program
from etp.kernels.on_gpu.triton_grid import Signal, Stage, Term, feature_places, grid_form
from etp.maths import sphere
from etp.products._fields import Feed, Field, field_map
from etp.products._fused import Fused
from etp.products._tiled import Tiled
from etp.products._transforms import Sector


class FieldSide(NamedTuple):
    """Features of one side and the fields that they make.

    Attributes:
        sectors: All components, by sector.
        feeds: What they give to the fields.
    """

    sectors: Mapping[int, Sector]
    feeds: Sequence[Feed]

    @classmethod
    def of_sectors(
        cls, sectors: Mapping[int, Sector], made: Callable[[int], Sequence[Field]]
    ) -> FieldSide:
        """Fields of all sectors, for each one after the other what ``made`` makes of its lmax."""
        found = [(sector, field) for sector in sectors.values() for field in made(sector.lmax)]
        return cls(sectors, [Feed(*one, number) for number, one in enumerate(found)])

    def weighted(self, nodes: sphere.Grid) -> FieldSide:
        """With the weights of the grid: the transposed maps are then the quadrature."""
        feeds = [feed._replace(field=feed.field.weighted(nodes)) for feed in self.feeds]
        return self._replace(feeds=feeds)

    def signals(self) -> list[Signal]:
        """Every feed as a signal of its sector, by the sector's number."""
        parts = [id(sector) for sector in self.sectors.values()]
        return [Signal(parts.index(id(feed.sector)), feed.matrix()) for feed in self.feeds]

    def feeding(self, target: int) -> list[int]:
        """Numbers of the feeds that give to a field."""
        return [number for number, feed in enumerate(self.feeds) if feed.target == target]


class FieldProduct(NamedTuple):
    """Pointwise products of fields on a grid.

    Attributes:
        nodes: The grid.
        sides: Both inputs and the output.
        terms: Which fields are multiplied, and what the products are added to.
    """

    nodes: sphere.Grid
    sides: tuple[FieldSide, FieldSide, FieldSide]
    terms: Sequence[compose.Term]

    def weighted(self) -> tuple[FieldSide, FieldSide, FieldSide]:
        """The sides, the output's with the weights of the grid: it is read off."""
        first, second, out = self.sides
        return first, second, out.weighted(self.nodes)


class GridProduct(Tiled, Fused):
    """A product of fields on one grid."""

    broadcasts = True

    @abstractmethod
    def field_product(self) -> FieldProduct:
        """What is multiplied."""

    @override
    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        found = self.field_product()
        first, second, out = (
            field_map(side.feeds, found.nodes, dim)
            for side, dim in zip(found.weighted(), self._dims, strict=True)
        )
        return compose.of_fields((first, second, out), found.terms)

    @override
    def fused_form(self) -> Form | None:
        found = self.field_product()
        sides = found.weighted()
        parts = [
            [index[:, sector.positions] for sector in side.sectors.values()]
            for index, side in zip(feature_places(self), sides, strict=True)
        ]
        first, second, out = sides
        terms = [
            Term(met, term.sign)
            for term in found.terms
            for met in product(
                first.feeding(term.first), second.feeding(term.second), out.feeding(term.out)
            )
        ]
        signals = first.signals(), second.signals(), out.signals()
        return grid_form(parts, [Stage(signals, terms)], self.device)

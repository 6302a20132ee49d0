"""Products of fields on one grid: described once, run as tile programs or as one GPU kernel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

from typing_extensions import override

from etp import sphere
from etp.fields import Feed, Field, field_map
from etp.fused import Fused
from etp.kernels import compose, program
from etp.kernels.multilinear import Form
from etp.kernels.triton_grid import Signal, Stage, Term, feature_places, grid_form
from etp.tiled import Tiled
from etp.transform import Sector


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

    def part(self, feed: Feed) -> int:
        """Number of a feed's sector."""
        return next(n for n, sector in enumerate(self.sectors.values()) if sector is feed.sector)


class FieldProduct(NamedTuple):
    """Pointwise products of fields on a grid.

    Attributes:
        nodes: The grid.
        sides: Both inputs and the output, which is read off with the weights of the grid.
        terms: Which fields are multiplied, and what the products are added to.
    """

    nodes: sphere.Grid
    sides: tuple[FieldSide, FieldSide, FieldSide]
    terms: Sequence[compose.Term]


class GridProduct(Tiled, Fused):
    """A product of fields on one grid."""

    @abstractmethod
    def field_product(self) -> FieldProduct:
        """What is multiplied."""

    @override
    @cached_property
    def programs(self) -> program.Bilinear:
        """Tile programs of this product on the CPU."""
        nodes, sides, terms = self.field_product()
        first, second, out = (
            field_map(side.feeds, nodes, dim, weighted=number == 2)
            for number, (side, dim) in enumerate(zip(sides, self._dims, strict=True))
        )
        return compose.of_fields((first, second, out), terms)

    @override
    def fused_form(self) -> Form | None:
        nodes, sides, terms = self.field_product()
        parts = [
            [index[:, sector.positions] for sector in side.sectors.values()]
            for index, side in zip(feature_places(self), sides, strict=True)
        ]
        first, second, out = (
            [Signal(side.part(feed), feed.matrix(nodes if number == 2 else None))
             for feed in side.feeds]
            for number, side in enumerate(sides)
        )  # fmt: skip
        met = [
            Term((a, b, c), term.sign)
            for term in terms
            for a, b, c in product(
                *(
                    [n for n, feed in enumerate(side.feeds) if feed.target == target]
                    for side, target in zip(sides, (term.first, term.second, term.out), strict=True)
                )
            )
        ]
        return grid_form(parts, [Stage((first, second, out), met)])

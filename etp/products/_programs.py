"""Descriptions as tile programs for the CPU."""

from __future__ import annotations

from functools import singledispatch

from etp.kernels.on_cpu import compose
from etp.kernels.on_cpu.program import Bilinear
from etp.products._description import Description
from etp.products._fields import field_map
from etp.products._grid import Fields
from etp.products._paths import Paths
from etp.products._square import Matrices


@singledispatch
def programs(description: Description) -> Bilinear:
    """Tile programs of what is described."""
    raise TypeError(f"{type(description).__name__} has no tile program")


def has_programs(description: Description) -> bool:
    """Whether there are tile programs of it."""
    return programs.dispatch(type(description)) is not programs.dispatch(object)


@programs.register
def _(fields: Fields) -> Bilinear:
    first, second, out = (
        field_map([feed for _, feed in side.feeds()], fields.nodes, side.wide)
        for side in fields.to_be_read()
    )
    return compose.of_fields((first, second, out), fields.terms)


@programs.register
def _(matrices: Matrices) -> Bilinear:
    grades = [compose.Graded(*(table.numpy() for table in grade)) for grade in matrices.grades]
    return compose.of_matrices(grades, matrices.side)


@programs.register
def _(paths: Paths) -> Bilinear:
    if paths.dense:
        return compose.of_dense([pair.dense() for pair in paths.pairs()], paths.dims)
    entries, values = paths.entries()
    return compose.of_entries(entries.numpy(), values.numpy(), paths.dims)

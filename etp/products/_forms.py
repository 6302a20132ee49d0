"""Descriptions as forms that Triton kernels evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from itertools import product

import torch

from etp.kernels.multilinear import Form
from etp.kernels.on_gpu.grid_data import Signal, Stage, Triple
from etp.kernels.on_gpu.lying import Lying
from etp.kernels.on_gpu.path_data import BlockPath
from etp.kernels.on_gpu.triton_grid import grid_form
from etp.kernels.on_gpu.triton_matrix import grade_of, matrix_form
from etp.kernels.on_gpu.triton_paths import path_form
from etp.maths.layout import slices
from etp.products._description import Description
from etp.products._fields import Feed
from etp.products._grid import Fields
from etp.products._paths import Paths
from etp.products._square import Matrices


@singledispatch
def form(
    description: Description, lies: Lying, device: torch.device, dtype: torch.dtype
) -> Form | None:
    """The form of what is described, None if its kernel would not fit the device.

    Args:
        description: What is computed.
        lies: Where the components of each channel lie.
        device: Where it runs.
        dtype: Of its inputs.
    """
    raise TypeError(f"{type(description).__name__} has no form")


@singledispatch
def weighted_form(
    description: Description, lies: Lying, device: torch.device, dtype: torch.dtype
) -> Form | None:
    """The same with a weight for each path and channel as a fourth side; None if there is none."""
    return None


@form.register
def _(fields: Fields, lies: Lying, device: torch.device, dtype: torch.dtype) -> Form | None:
    sides = fields.to_be_read()
    # Copies of the components for several weights lie one after the other, in rows.
    places = [
        index if len(side.slots) == 1 else torch.arange(side.wide)[None]
        for index, side in zip(lies.places(), sides, strict=True)
    ]
    parts = [
        [index[:, part.positions] for part in side.parts()]
        for index, side in zip(places, sides, strict=True)
    ]
    feeds = [side.feeds() for side in sides]
    triples = [
        Triple((a, b, c), term.sign)
        for term in fields.terms
        for a, b, c in product(*map(_feeding, feeds, term[:3]))
    ]
    first, second, out = ([Signal(part, feed.matrix()) for part, feed in side] for side in feeds)
    return grid_form(parts, [Stage((first, second, out), triples)], device, dtype)


def _feeding(feeds: Sequence[tuple[int, Feed]], field: int) -> list[int]:
    """Numbers of the feeds that give to a field."""
    return [number for number, (_, feed) in enumerate(feeds) if feed.target == field]


@form.register
def _(matrices: Matrices, lies: Lying, device: torch.device, dtype: torch.dtype) -> Form | None:
    return matrix_form(lies, [grade_of(grade, matrices.side) for grade in matrices.grades])


@form.register
def _(paths: Paths, lies: Lying, device: torch.device, dtype: torch.dtype) -> Form | None:
    return None if paths.dense else path_form(lies, _couplings(paths, lies))


@weighted_form.register
def _(paths: Paths, lies: Lying, device: torch.device, dtype: torch.dtype) -> Form | None:
    return None if paths.dense else path_form(lies, _couplings(paths, lies), weighted=True)


def _couplings(paths: Paths, lies: Lying) -> list[BlockPath]:
    """The paths between irreps by their numbers."""
    numbers = [
        {part.start: number for number, part in enumerate(slices(irs))}
        for irs in (lies.irs_in1, lies.irs_in2, lies.irs_out)
    ]
    return [
        BlockPath(
            tuple(side[part.start] for side, part in zip(numbers, path.places, strict=True)),
            path.matrix,
        )
        for path in paths.paths
    ]

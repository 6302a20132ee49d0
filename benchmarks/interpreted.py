"""Which GPU kernels run for which product, kind and derivative, in Triton's interpreter.

``TRITON_INTERPRET=1 python -m benchmarks.interpreted`` runs every product as on a card, holds all
derivatives that a kernel takes part in to the float64 oracle, and writes the table of
``docs/kernels.md``. A test does the same, and fails where the page says something else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.gpu.correct import called, derivatives
from benchmarks.marked import Marks
from benchmarks.predicted import PAGE
from etp import powers, products
from etp.kernels import sparse
from etp.kernels.on_cpu import tile
from etp.measure.drawing import random_inputs, random_weights
from etp.measure.oracle import evaluate, relative
from etp.problem import DType, Kind, Problem
from etp.run import case as cases

MARKS = Marks(
    "<!-- interpreted: python -m benchmarks.interpreted -->", "<!-- end of interpreted -->"
)
SHAPES: dict[Kind, tuple[str, str | None]] = {
    "pair": ("2x0e+2x1o", "2x0e+2x1o"),
    "edge": ("2x0e+2x1o", "0e+1o"),
    "convolution": ("2x0e+2x1o", "0e+1o"),
    "power": ("2x0e+2x1o", None),
}
GATES: dict[DType, float] = {"float64": 1e-12, "float32": 1e-5}
ORDERS = ("forward", "first", "second", "third")
BATCH: dict[Kind, int] = {"pair": 2, "edge": 1, "convolution": 1, "power": 1}
"""A program each, one after the other: sums over several are tested by themselves."""
SLOW = {"gaunt-grid-fixed": "gaunt-grid"}
"""Whose kernel takes minutes in the interpreter, and which has the same on fewer points."""


class Cell(NamedTuple):
    """A product in one kind of problem."""

    product: str
    kind: Kind


def cells() -> list[Cell]:
    """Every product in each of its kinds, and every power; not what other libraries compute."""
    pairs = [Cell(name, kind) for name in products.own() for kind in products.get(name).kinds]
    return [*pairs, *(Cell(name, "power") for name in powers.own())]


@contextmanager
def heard() -> Iterator[list[str]]:
    """Names of the kernels that run meanwhile, where those of the CPU do not take their place."""
    from triton.runtime.interpreter import GridExecutor

    names: list[str] = []
    launch = GridExecutor.__call__

    def noted(self: GridExecutor, *args: object, **options: object) -> object:
        names.append(self.fn.__name__)
        return launch(self, *args, **options)

    with (
        patch.object(GridExecutor, "__call__", noted),
        patch.object(tile, "applies", lambda _: False),
        patch.object(sparse, "applies", lambda _: False),
    ):
        yield names


def kernels(cell: Cell, dtype: DType) -> list[str]:
    """The kernel that runs in each order of derivatives, or ``plain``.

    Raises:
        AssertionError: If one that a kernel takes part in is not that of the oracle.
    """
    if cell.kind == "pair" and cell.product in SLOW:
        return kernels(cell._replace(product=SLOW[cell.product]), dtype)
    batch = BATCH[cell.kind]
    problem = Problem.of_irreps(
        *SHAPES[cell.kind], kind=cell.kind, dtype=dtype, batch=batch, neighbours=1, order=2
    )
    tp = cases.build(problem, cell.product)
    generator = torch.Generator().manual_seed(0)
    x, y = random_inputs(tp, batch, generator)
    weights = None
    if cell.kind != "pair" and tp.per_edge.weight_numel:
        weights = random_weights(tp, "shared", batch, generator)
    bilinear = cell.kind != "power" and tp.per_edge.bilinear
    inputs = [t for t in (x, y if bilinear else None, weights) if t is not None]
    number = getattr(torch, dtype)
    inputs = [t.to(number).double() for t in inputs]
    ran = []

    def following(names: list[str]) -> Iterator[list[Tensor]]:
        own = [t.to(number) for t in inputs]
        steps = derivatives(partial(called, tp, bilinear, y.to(number)), own, len(ORDERS) - 1)
        for order in steps:
            ran.append("+".join(dict.fromkeys(names)) or "plain")
            names.clear()
            yield order

    with heard() as names:
        steps = following(names)
        found = [next(steps)]
        if ran == ["plain"]:
            return ["plain"] * len(ORDERS)
        found += steps
    oracle = partial(called, partial(evaluate, tp), bilinear, y)
    wanted = derivatives(oracle, inputs, len(ORDERS) - 1)
    for name, mine, theirs in zip(ORDERS, found, wanted, strict=True):
        pairs = [(a.detach(), b.detach()) for a, b in zip(mine, theirs, strict=True)]
        error = max(relative(a.double() - b, b) for a, b in pairs if b.any())
        assert error < GATES[dtype], f"{cell} {dtype} {name}: {error:.1e}"
    return ran


def line(cell: Cell) -> str | None:
    """A row of the table, the same in both number types; None where no kernel takes part."""
    single, double = (kernels(cell, dtype) for dtype in ("float32", "float64"))
    assert single == double, (cell, single, double)
    if set(single) == {"plain"}:
        return None
    return f"| `{cell.product}` | {cell.kind} | {' | '.join(single)} |"


def table(text: str) -> list[str]:
    """Rows of the table on a page."""
    return MARKS.rows(text)


def main() -> int:
    """Write the table."""
    lines = [f"| product | kind | {' | '.join(ORDERS)} |", "|" + "---|" * (2 + len(ORDERS))]
    for cell in cells():
        row = line(cell)
        if row is not None:
            lines.append(row)
        print(row or f"{cell}: plain", flush=True)
    MARKS.put(PAGE, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())

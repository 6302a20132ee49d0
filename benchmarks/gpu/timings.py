"""Parts three and four: paired timings of every product and peer, beside the limits of the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from benchmarks.gpu import power_timings
from benchmarks.gpu.steps import Step
from etp import presets, products
from etp.irreps import Setting
from etp.problem import Direction, Kind, Problem
from etp.results.rows import Row
from etp.run import case as cases

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "double-backward")
LAYERS = ("mace-medium", "mace-large", "nequip-toluene", "sevennet-main", "nequix-main")
KINDS: tuple[Kind, ...] = ("convolution", "edge")
SETTINGS: tuple[Setting, ...] = ("MIMO", "SIMO", "SISO")
DEGREES = range(1, 5)
CHANNELS = 128
REFERENCE = "cg-sparse"
NEIGHBOURS = 20
"""Edges of a node: as many nodes have powers."""


def layers(device: str, edges: int, seconds: float) -> Iterator[Step]:
    """Layers of published models, powers among them; the first step measures the device's limits.

    Args:
        device: Where.
        edges: Of a call.
        seconds: Of the rounds of each problem.
    """
    nodes = max(1, edges // NEIGHBOURS)
    found = [_layers(names, device, edges, seconds) for names in (LAYERS[:2], LAYERS[2:])]
    yield from found[0]
    yield from power_timings.steps(device, nodes, seconds)
    yield from found[1]


def _layers(names: Sequence[str], device: str, edges: int, seconds: float) -> Iterator[Step]:
    yield from _steps(
        {
            f"layers {name} {kind} {direction} {edges}": presets.layer(name).problem(
                kind, batch=edges, device=device, direction=direction
            )
            for name in names
            for kind in KINDS
            for direction in DIRECTIONS
        },
        seconds,
    )


def settings(device: str, batch: int, seconds: float) -> Iterator[Step]:
    """Settings of the paper, as it timed them and with derivatives; the limits likewise.

    Args:
        device: Where.
        batch: Samples of a call.
        seconds: Of the rounds of each problem.
    """
    yield from _steps(
        {
            f"settings {setting} {lmax} {direction} {batch}": Problem.of_setting(
                setting, lmax, batch=batch, channels=CHANNELS, device=device, direction=direction
            )
            for setting in SETTINGS
            for lmax in DEGREES
            for direction in DIRECTIONS
        },
        seconds,
    )


def _steps(problems: Mapping[str, Problem], seconds: float) -> Iterator[Step]:
    for number, (label, problem) in enumerate(problems.items()):
        timed = partial(_timed, problem, seconds, roofs=number == 0)
        yield Step(label, problem, REFERENCE, "runtime", timed)


def _timed(problem: Problem, seconds: float, *, roofs: bool) -> Iterator[Row]:
    names = [n for n in products.available() if problem.kind in products.get(n).kinds]
    case = cases.Case(
        problem, tuple(names), reference=REFERENCE, rounds=30, budget_s=seconds,
        questions=("agreement", "equivariance", "cost"), memory=False, roofs=roofs,
    )  # fmt: skip
    yield from (row for row in cases.run(case.as_dict()) if isinstance(row, Row))

"""Parts three and four: paired timings of every product and peer, beside the limits of the card."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

import torch

from benchmarks.gpu import plan, power_timings
from benchmarks.gpu.plan import FREE, Turn
from benchmarks.gpu.steps import Step
from etp import measure, presets, products
from etp.irreps import Setting
from etp.measure.runtime import draw, make_call
from etp.problem import Direction, Kind, Problem
from etp.results.rows import Row
from etp.run import case as cases
from etp.run.case.questions import make_row

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
    steps = [_layers(names, device, edges, seconds) for names in (LAYERS[:2], LAYERS[2:])]
    yield from steps[0]
    yield from power_timings.steps(device, nodes, seconds)
    yield from steps[1]


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
        if number == 0:
            yield Step(f"limits of the device, {label}", problem, "device", "roofline",
                       partial(_limits, problem))  # fmt: skip
        timed = partial(_timed, problem, seconds)
        yield Step(label, problem, REFERENCE, "runtime", timed, planned=True)


def _limits(problem: Problem) -> Iterator[Row]:
    limits = measure.roofline(problem.device, ("float32",))
    yield make_row(problem, "device", "roofline", asdict(limits))


def _timed(problem: Problem, seconds: float, turn: Turn = FREE) -> Iterator[Row]:
    """Rows of every product that there is time for; of the others why not."""
    names = [n for n in products.available() if problem.kind in products.get(n).kinds]
    left, pilots = plan.lost(names, turn), dict[str, plan.Pilot]()
    for name in sorted(names, key=lambda name: name != REFERENCE):
        if name in left:
            continue
        turn.trying(name)
        try:
            pilots[name] = plan.piloted(partial(_call, problem, name), problem.batch)
        except Exception as error:  # Whatever a product, a peer or a driver raises.
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            status = "invalid" if isinstance(error, ValueError) else "failed"
            yield make_row(problem, name, "runtime", None, status=status, reason=reason)
    if pilots:
        chosen = plan.planned(pilots, problem.batch, turn.seconds, REFERENCE)
        left |= chosen.left
        yield from _compared(problem.at(batch=chosen.size), chosen.names, seconds, turn)
    for name, reason in left.items():
        yield make_row(problem, name, "runtime", None, status="cancelled", reason=reason)


def _compared(problem: Problem, names: Sequence[str], seconds: float, turn: Turn) -> Iterator[Row]:
    """Check products and time those that are right, until the turn ends."""
    # Pilots compile: what they take is not of the turn, but is kept for later runs.
    end = time.perf_counter() + turn.seconds
    case = cases.Case(
        problem, tuple(names), reference=names[0], rounds=30,
        budget_s=min(seconds, plan.OF_ROUNDS * turn.seconds), elements=4,
        questions=("agreement", "equivariance", "cost"), memory=False,
    )  # fmt: skip
    for row in cases.run(case.as_dict(), lambda: time.perf_counter() > end):
        if isinstance(row, Row):
            turn.trying(row.product)
            late = row.status == "cancelled"
            yield replace(row, reason=plan.over(turn)) if late else row


def _call(problem: Problem, name: str, size: int) -> Callable[[], object]:
    """A call of a product on so many samples, which waits until the device has finished."""
    tp = cases.build(problem, name)
    dtype = getattr(torch, problem.dtype)
    x1, x2, weights = draw(tp, size, dtype, problem.device, problem.weights, problem.seed)
    call = make_call(tp, x1, x2, problem.direction, weights=weights)

    def run() -> None:
        call.run()
        call.sync()

    return run

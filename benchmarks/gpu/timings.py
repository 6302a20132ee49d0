"""Parts three and four: paired timings of every product and peer, beside the limits of the card."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu.steps import Step
from etp import presets, products
from etp.problem import Direction, Problem
from etp.results.rows import Row
from etp.run import case as cases

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "double-backward")
LAYERS = ("mace-medium", "mace-large", "nequip-toluene", "sevennet-main", "nequix-main")
KINDS = ("convolution", "edge")
DEGREES = range(1, 5)
CHANNELS = 128
REFERENCE = "cg-sparse"


def layers(device: str, edges: int, seconds: float) -> Iterator[Step]:
    """Layers of published models; the first step measures the limits of the device too.

    Args:
        device: Where.
        edges: Of a call.
        seconds: Of the rounds of each problem.
    """
    for name in LAYERS:
        for kind in KINDS:
            for direction in DIRECTIONS:
                problem = presets.layer(name).problem(
                    kind, batch=edges, device=device, direction=direction
                )
                yield _step(f"layers {name} {kind} {direction} {edges}", problem, seconds)


def settings(device: str, batch: int, seconds: float) -> Iterator[Step]:
    """Settings of the paper, as it timed them and with derivatives.

    Args:
        device: Where.
        batch: Samples of a call.
        seconds: Of the rounds of each problem.
    """
    for setting in ("MIMO", "SIMO", "SISO"):
        for lmax in DEGREES:
            for direction in DIRECTIONS:
                problem = Problem.of_setting(
                    setting, lmax, batch=batch, channels=CHANNELS, device=device,
                    direction=direction,
                )  # fmt: skip
                label = f"settings {setting} {lmax} {direction} {batch}"
                yield _step(label, problem, seconds)


def _step(label: str, problem: Problem, seconds: float) -> Step:
    return Step(label, problem, REFERENCE, "runtime", partial(_timed, problem, seconds))


def _timed(problem: Problem, seconds: float) -> Iterator[Row]:
    names = [n for n in products.available() if problem.kind in products.get(n).kinds]
    case = cases.Case(
        problem, tuple(names), reference=REFERENCE, rounds=30, budget_s=seconds,
        questions=("agreement", "equivariance", "cost"), memory=False, roofs=True,
    )  # fmt: skip
    yield from (row for row in cases.run(case.as_dict()) if isinstance(row, Row))

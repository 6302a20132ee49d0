"""What a training step costs with each power: rounds of steps, interleaved and paired.

Each round takes one step with every power, in a fresh random order, beside a twin of the first
that shows the noise floor, and beside the same network whose powers cost nothing: what a step
takes longer than that is the share of its powers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import exp, isfinite
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.experiments.potential import PotentialTraining
from etp.experiments.settings import PotentialSettings
from etp.experiments.structures import Structure
from etp.measure.verdict import Board
from etp.powers import Power

WARM_UP = 2
"""Steps of each network before the first round: compilers and plans run in them."""
REST = "rest"
"""The network whose powers cost nothing."""


class Idle(nn.Module):
    """In the place of a power: passes on what it is given, so that all else of a step is done.

    Args:
        power: The power that it stands for.
    """

    def __init__(self, power: Power) -> None:
        super().__init__()
        self.dim = power.irreps_out.dim

    @override
    def forward(self, a: Tensor, weights: Tensor, elements: Tensor) -> Tensor:
        """As :meth:`etp.powers.Power.forward`, with gradients of all that has one."""
        passed = nn.functional.pad(a, (0, self.dim - a.shape[1]))
        return passed * (1.0 + weights.mean())


@dataclass
class NetworkSlot:
    """One network and what was timed of it.

    Attributes:
        power: Name of its power, or :data:`REST`.
        training: Its training, which goes on from step to step.
        steps_s: Seconds of a step, one for each round.
    """

    power: str
    training: PotentialTraining
    steps_s: list[float] = field(default_factory=list)


def rounds(
    product: str,
    powers: Sequence[str],
    settings: PotentialSettings,
    structures: Sequence[Structure],
) -> Iterator[list[NetworkSlot]]:
    """Time ``settings.steps`` rounds; yield all slots after each.

    After those of the powers comes that of the rest of a step, and last the twin of the first.

    Raises:
        ValueError: As :class:`etp.experiments.potential.PotentialTraining`.
    """
    # A few more steps than rounds, for warming up; none of them validates.
    long = replace(settings, steps=settings.steps + WARM_UP, check_every=100_000)
    slots = [
        NetworkSlot(power, PotentialTraining(product, replace(long, power=power), structures))
        for power in [*powers, powers[0], powers[0]]
    ]
    slots[-2].power = REST
    for layer in slots[-2].training.network.layers:
        layer.power = Idle(layer.power)  # type: ignore[arg-type]
    running = [slot.training.steps() for slot in slots]
    for steps in running:
        for _ in range(WARM_UP):
            next(steps)
    rng = random.Random(settings.seed)
    for _ in range(settings.steps):
        for number in rng.sample(range(len(slots)), len(slots)):
            slots[number].steps_s.append(next(running[number]).seconds)
        yield slots


def results(slots: Sequence[NetworkSlot]) -> list[dict[str, Any]]:
    """What a row says of each power: time, ratio to the first and share, each with its interval.

    The share is what would be saved of a step if its powers cost nothing. The rest and the twin
    have no row; how far the twin lies from the first is the ``floor`` of every row.
    """
    *own, _, twin = slots
    count = len(own)
    pairs = [(0, n) for n in range(1, count)] + [(n, count) for n in range(count)]
    board = Board(count + 1, (0, count + 1), pairs)
    times = torch.tensor([slot.steps_s for slot in slots], dtype=torch.float64).T.numpy()
    verdicts = {(verdict.a, verdict.b): verdict for verdict in board.look(times)}
    floor = median(b / a for a, b in zip(own[0].steps_s, twin.steps_s, strict=True))
    rows = []
    for n, slot in enumerate(own):
        ratio, rest = verdicts.get((0, n)), verdicts[n, count]
        low, high = _ratio(rest.low), _ratio(rest.high)
        rows.append(
            {
                "power": slot.power,
                "median_s": median(slot.steps_s),
                "samples_s": slot.steps_s,
                # Of powers that cost next to nothing the noise may say less.
                "share": max(0.0, 1 - exp(rest.estimate)),
                "share_low": None if high is None else 1 - high,
                "share_high": None if low is None else 1 - low,
                "reference": own[0].power,
                "ratio": exp(ratio.estimate) if ratio else 1.0,
                "low": _ratio(ratio.low) if ratio else 1.0,
                "high": _ratio(ratio.high) if ratio else 1.0,
                "word": ratio.word if ratio else "reference",
                "floor": floor,
                "rounds": len(slot.steps_s),
            }
        )
    return rows


def _ratio(log: float) -> float | None:
    """End of an interval; None where it is not bounded yet."""
    return exp(log) if isfinite(log) else None

"""What a training step costs with each power: rounds of steps, interleaved and paired.

Each round takes one step with every power, in a fresh random order, beside a twin of the first
that shows the noise floor. Between them each network's powers run alone on what they met in the
step (forward, gradient and the gradient's derivative), which gives their share of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import exp, isfinite
from statistics import median
from typing import Any

import torch
from torch import Tensor

from etp.experiments.potential import Training
from etp.experiments.settings import Potential
from etp.experiments.structures import Structure
from etp.measure.verdict import Board
from etp.powers import Power

WARM_UP = 2
"""Steps of each network before the first round: compilers and plans run in them."""


@dataclass
class Slot:
    """One network and what was timed of it.

    Attributes:
        power: Name of its power.
        training: Its training, which goes on from step to step.
        steps_s: Seconds of a step, one for each round.
        alone_s: Seconds of its powers alone, one for each round.
    """

    power: str
    training: Training
    steps_s: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)


def rounds(
    product: str, powers: Sequence[str], settings: Potential, structures: Sequence[Structure]
) -> Iterator[list[Slot]]:
    """Time ``settings.steps`` rounds; yield all slots after each, the twin of the first last.

    Raises:
        ValueError: As :class:`etp.experiments.potential.Training`.
    """
    # A few more steps than rounds, for warming up; none of them validates.
    long = replace(settings, steps=settings.steps + 10 * WARM_UP, check_every=100_000)
    slots = [
        Slot(power, Training(product, replace(long, power=power), structures))
        for power in [*powers, powers[0]]
    ]
    running = [slot.training.steps() for slot in slots]
    for steps in running:
        for _ in range(WARM_UP):
            next(steps)
    alone = [_alone(slot.training) for slot in slots]
    for call in alone:
        call()
    rng = random.Random(settings.seed)
    for _ in range(settings.steps):
        for number in rng.sample(range(len(slots)), len(slots)):
            slots[number].steps_s.append(next(running[number]).seconds)
            begun = time.perf_counter()
            alone[number]()
            slots[number].alone_s.append(time.perf_counter() - begun)
        yield slots


def _alone(training: Training) -> Callable[[], None]:
    """What a step asks of the powers of a network, and nothing else."""
    met: list[tuple[Power, tuple[Tensor, ...]]] = []
    powers = [module for module in training.network.modules() if isinstance(module, Power)]
    hooks = [
        power.register_forward_pre_hook(lambda power, given: met.append((power, given)))
        for power in powers
    ]
    next(training.steps())
    for hook in hooks:
        hook.remove()
    inputs = [
        (power, a.detach().requires_grad_(), weights.detach().requires_grad_(), elements)
        for power, (a, weights, elements) in met
    ]
    device = torch.device(training.settings.device)

    def call() -> None:
        for power, a, weights, elements in inputs:
            z = power(a, weights, elements)
            (slope,) = torch.autograd.grad(z.square().sum(), a, create_graph=True)
            torch.autograd.grad(slope.square().sum(), (a, weights))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def results(slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """What a row says of each power: time, ratio to the first with its interval, share.

    The twin has no row; how far it lies from the first is the ``floor`` of every row.
    """
    *own, twin = slots
    board = Board(len(own), (0, len(own)), [(0, n) for n in range(1, len(own))])
    times = torch.tensor([slot.steps_s for slot in slots], dtype=torch.float64).T.numpy()
    verdicts = {verdict.b: verdict for verdict in board.look(times)}
    floor = median(b / a for a, b in zip(own[0].steps_s, twin.steps_s, strict=True))
    return [
        {
            "power": slot.power,
            "median_s": median(slot.steps_s),
            "samples_s": slot.steps_s,
            "share": median(a / s for a, s in zip(slot.alone_s, slot.steps_s, strict=True)),
            "reference": own[0].power,
            "ratio": exp(verdicts[n].estimate) if n else 1.0,
            "low": _ratio(verdicts[n].low) if n else 1.0,
            "high": _ratio(verdicts[n].high) if n else 1.0,
            "word": verdicts[n].word if n else "reference",
            "floor": floor,
            "rounds": len(slot.steps_s),
        }
        for n, slot in enumerate(own)
    ]


def _ratio(log: float) -> float | None:
    """End of an interval; None where it is not bounded yet."""
    return exp(log) if isfinite(log) else None

"""Trainings as cases: one row for each product, progress after steps, cancelled between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from etp.experiments.settings import Experiment, Potential, Tetris
from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.case import use_numbers
from etp.run.case.questions import make_row
from etp.run.case.rounds import PROGRESS_EVERY_S, Event
from etp.run.devices import check_device

STOPPED = "cancelled before it was trained"


class Step(Protocol):
    """A step of any training."""

    @property
    def number(self) -> int:
        """Steps done."""

    @property
    def loss(self) -> float:
        """Loss before the step."""


class Trained(Protocol):
    """One training: its steps, and what came out after the last."""

    def steps(self) -> Iterator[Step]:
        """Take the steps that are left."""

    def outcome(self) -> dict[str, Any]:
        """Result of a row."""


Start = Callable[[str], Trained]


def run_tetris(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """One row of measure ``tetris`` for each product.

    Args:
        case: As :meth:`etp.experiments.settings.Experiment.case`.
        cancelled: Asked after each step.

    Raises:
        ValueError: If the settings are not valid.
    """
    settings = Tetris.from_dict(case["settings"])

    def start(product: str) -> Trained:
        from etp.experiments import tetris

        return tetris.Training(product, settings)

    yield from _each(case["products"], settings, start, cancelled)


def run_potential(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """One row of measure ``potential`` for each product.

    Args:
        case: As :meth:`etp.experiments.settings.Experiment.case`; ``structures`` names a file of
            extended XYZ, ``checkpoints`` a folder.
        cancelled: Asked after each step.

    Raises:
        ValueError: If the settings or the structures are not valid.
    """
    from etp.experiments import potential, structures

    settings = Potential.from_dict(case["settings"])
    given, kept = case.get("structures"), case.get("checkpoints")
    frames = structures.bundled() if given is None else structures.read(Path(given))

    def start(product: str) -> Trained:
        training = potential.Training(product, settings, frames)
        if kept is not None:
            training.keep(Path(kept) / f"{product}-{settings.seed}.pt")
        return training

    yield from _each(case["products"], settings, start, cancelled)


def run_step_time(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """One row of measure ``step-time`` for each power.

    Args:
        case: Settings of a :class:`etp.experiments.settings.Potential`, whose steps are the rounds;
            ``products`` are powers, ``product`` is that of every convolution.
        cancelled: Asked after each round; what was timed until then is kept.

    Raises:
        ValueError: If the settings are not valid, or a product or power does not apply.
    """
    from etp.experiments import step_time, structures

    settings = Potential.from_dict(case["settings"])
    problem = settings.problem()
    check_device(problem.device)
    slots: list[step_time.Slot] = []
    with _as_before():
        use_numbers(problem)
        yield {"event": "progress", "stage": "warming up", "product": ", ".join(case["products"])}
        taken = step_time.rounds(case["product"], case["products"], settings, structures.bundled())
        for number, timed in enumerate(taken, 1):
            slots = timed
            yield {
                "event": "progress", "stage": "timing", "product": case["product"],
                "round": number, "rounds": settings.steps,
            }  # fmt: skip
            if cancelled():
                break
    for result in step_time.results(slots):
        yield make_row(problem, result["power"], "step-time", result)


def _each(
    products: Sequence[str], settings: Experiment, start: Start, cancelled: Callable[[], bool]
) -> Iterator[Row | Event]:
    problem = settings.problem()
    check_device(problem.device)
    with _as_before():
        use_numbers(problem)
        for product in products:
            if cancelled():
                yield _without(problem, settings.kind, product, "cancelled", STOPPED)
                continue
            try:
                yield from _one(product, settings, start, cancelled)
            except ValueError as error:
                reason = str(error)
                yield _without(problem, settings.kind, product, "invalid", reason, "does not apply")
            except (
                Exception
            ) as error:  # It may be the user's own product, which may raise anything.
                reason = f"{type(error).__name__}: {error}"
                yield _without(problem, settings.kind, product, "failed", reason, "failed")


def _one(
    product: str, settings: Experiment, start: Start, cancelled: Callable[[], bool]
) -> Iterator[Row | Event]:
    problem = settings.problem()
    yield {"event": "progress", "stage": "building a network of", "product": product}
    training = start(product)
    told = time.monotonic()
    for step in training.steps():
        if cancelled():
            reason = f"cancelled after {step.number} steps"
            yield _without(problem, settings.kind, product, "cancelled", reason)
            return
        if time.monotonic() - told > PROGRESS_EVERY_S or step.number == settings.steps:
            told = time.monotonic()
            yield {
                "event": "progress", "stage": "training", "product": product,
                "step": step.number, "steps": settings.steps, "loss": step.loss,
            }  # fmt: skip
    yield make_row(problem, product, settings.kind, training.outcome())


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave the number of threads as it was: the next case of this process may want all."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _without(
    problem: Problem, measure: str, product: str, status: str, reason: str, *badges: str
) -> Row:
    return make_row(problem, product, measure, None, status=status, reason=reason, badges=badges)

"""Trainings as cases: one row for each product, progress after steps, cancelled between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from etp.experiments.settings import Tetris
from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.case import use_numbers
from etp.run.case.questions import make_row
from etp.run.case.rounds import PROGRESS_EVERY_S, Event
from etp.run.devices import check_device

STOPPED = "cancelled before it was trained"


def run_tetris(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """One row of measure ``tetris`` for each product.

    Args:
        case: As :meth:`etp.experiments.settings.Tetris.case`.
        cancelled: Asked after each step.

    Raises:
        ValueError: If the settings are not valid.
    """
    settings = Tetris.from_dict(case["settings"])
    problem = settings.problem()
    check_device(problem.device)
    with as_before():
        use_numbers(problem)
        yield from _each(case["products"], settings, cancelled)


def _each(
    products: Sequence[str], settings: Tetris, cancelled: Callable[[], bool]
) -> Iterator[Row | Event]:
    problem = settings.problem()
    for product in products:
        if cancelled():
            yield _without(problem, product, "cancelled", STOPPED)
            continue
        try:
            yield from _tetris(product, settings, cancelled)
        except ValueError as error:
            yield _without(problem, product, "invalid", str(error), "does not apply")
        except Exception as error:  # It may be the user's own product, which may raise anything.
            reason = f"{type(error).__name__}: {error}"
            yield _without(problem, product, "failed", reason, "failed")


def _tetris(product: str, settings: Tetris, cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    from etp.experiments import tetris

    problem = settings.problem()
    yield {"event": "progress", "stage": "building a network of", "product": product}
    training = tetris.Training(product, settings)
    told = time.monotonic()
    for step in training.steps():
        if cancelled():
            yield _without(problem, product, "cancelled", f"cancelled after {step.number} steps")
            return
        if time.monotonic() - told > PROGRESS_EVERY_S or step.number == settings.steps:
            told = time.monotonic()
            yield {
                "event": "progress", "stage": "training", "product": product,
                "step": step.number, "steps": settings.steps, "loss": step.loss,
            }  # fmt: skip
    yield make_row(problem, product, "tetris", tetris.result(training, product))


@contextmanager
def as_before() -> Iterator[None]:
    """Leave the number of threads as it was: the next case of this process may want all."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _without(problem: Problem, product: str, status: str, reason: str, *badges: str) -> Row:
    return make_row(problem, product, "tetris", None, status=status, reason=reason, badges=badges)

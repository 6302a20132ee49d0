"""Trainings as cases: one row for each product, progress after steps, cancelled between them."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from etp.experiments.settings import Experiment, PotentialSettings, TetrisSettings
from etp.problem import Problem
from etp.results.rows import Row
from etp.results.store import default_path
from etp.run.case.case import use_numbers
from etp.run.case.questions import make_row
from etp.run.case.rounds import PROGRESS_EVERY_S, Event
from etp.run.devices import check_device

STOPPED = "cancelled before it was trained"
TURN = 5
"""Steps of one product before the next has its turn."""
KEPT = 20
"""Settings whose unfinished trainings are kept; the oldest go first."""


class TrainingStep(Protocol):
    """A step of any training."""

    @property
    def number(self) -> int:
        """Steps done."""

    @property
    def loss(self) -> float:
        """Loss before the step."""


class Trained(Protocol):
    """One training: its steps, and what came out after the last."""

    def steps(self) -> Iterator[TrainingStep]:
        """Take the steps that are left."""

    def outcome(self) -> dict[str, Any]:
        """Result of a row."""

    def keep(self, path: Path) -> None:
        """Go on from a checkpoint if it is there, and keep it from now on."""

    def save(self) -> None:
        """Write the checkpoint, if one is kept."""


Starter = Callable[[str], Trained]


def run_tetris(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """One row of measure ``tetris`` for each product.

    Args:
        case: As :meth:`etp.experiments.settings.Experiment.case`; with ``keep`` a case that was
            cancelled goes on where it was when it is run again.
        cancelled: Asked after each step.

    Raises:
        ValueError: If the settings are not valid.
    """
    settings = TetrisSettings.from_dict(case["settings"])

    def start(product: str) -> Trained:
        from etp.experiments import tetris

        return tetris.TetrisTraining(product, settings)

    yield from _side_by_side(case, settings, start, cancelled)


def run_potential(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """One row of measure ``potential`` for each product.

    Args:
        case: As :meth:`etp.experiments.settings.Experiment.case`; ``structures`` names a file of
            extended XYZ, ``checkpoints`` a folder, ``keep`` is as for :func:`run_tetris`.
        cancelled: Asked after each step.

    Raises:
        ValueError: If the settings or the structures are not valid.
    """
    from etp.experiments import potential, structures

    settings = PotentialSettings.from_dict(case["settings"])
    given = case.get("structures")
    frames = structures.bundled() if given is None else structures.read(Path(given))

    def start(product: str) -> Trained:
        return potential.PotentialTraining(product, settings, frames)

    yield from _side_by_side(case, settings, start, cancelled)


def run_step_time(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """One row of measure ``step-time`` for each power.

    Args:
        case: Settings as :class:`etp.experiments.settings.PotentialSettings`, whose steps are the
            rounds; ``products`` are powers, ``product`` is that of every convolution.
        cancelled: Asked after each round; what was timed until then is kept.

    Raises:
        ValueError: If the settings are not valid, or a product or power does not apply.
    """
    from etp.experiments import step_time, structures

    settings = PotentialSettings.from_dict(case["settings"])
    problem = settings.problem()
    check_device(problem.device)
    slots: list[step_time.NetworkSlot] = []
    with _as_before():
        use_numbers(problem)
        before = _device_state(problem)
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
    states = {"state_before": before, "state_after": _device_state(problem)}
    for result in step_time.results(slots):
        yield make_row(problem, result["power"], "step-time", result | states)


class _Place(NamedTuple):
    """Where the checkpoints of a case are.

    Attributes:
        folder: Their folder.
        seed: Of the trainings.
        named: Whether the case names the folder; otherwise it is beside the store.
    """

    folder: Path
    seed: int
    named: bool

    def of(self, product: str) -> Path:
        """File of a product."""
        return self.folder / f"{product}-{self.seed}.pt"


class _Trainee:
    """One product's training beside those of the others.

    Attributes:
        product: Its name.
        done: Steps taken here and before.
        over: Whether it has nothing left to do.
        row: Its row, once it is known.
    """

    def __init__(self, product: str, settings: Experiment) -> None:
        self.product, self._settings = product, settings
        self.done, self.over = 0, False
        self.row: Row | None = None
        self._before = _device_state(settings.problem())
        self._training: Trained | None = None
        self._steps: Iterator[TrainingStep] = iter(())

    def begin(self, start: Starter, place: _Place | None) -> None:
        """Build the network, or go on from its checkpoint."""
        with self._refusing():
            self._training = start(self.product)
            if place is not None:
                path = place.of(self.product)
                try:
                    self._training.keep(path)
                except ValueError:
                    if place.named:
                        raise
                    # Nobody asked for it: what cannot be read is begun anew.
                    path.unlink()
                    self._training = start(self.product)
                    self._training.keep(path)
            self._steps = self._training.steps()

    def turn(self) -> Iterator[TrainingStep]:
        """Take some steps."""
        with self._refusing():
            for _ in range(TURN):
                step = next(self._steps, None)
                if step is None:
                    self.over = True
                    return
                self.done = step.number
                yield step

    def finish(self) -> Row:
        """The row of what came out."""
        with self._refusing():
            if self.row is None and self._training is not None:
                result = self._training.outcome()
                after = _device_state(self._settings.problem())
                states = {"state_before": self._before, "state_after": after}
                self.row = self._made(result | states)
        assert self.row is not None
        return self.row

    def stop(self) -> Row:
        """The row of a training that was cancelled, whose state is kept if it should be."""
        if self.row is None:
            if self._training is not None:
                self._training.save()
            reason = f"cancelled after {self.done} steps" if self.done else STOPPED
            self.row = self._made(None, status="cancelled", reason=reason)
        return self.row

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn errors into the row that says them."""
        try:
            yield
        except ValueError as error:
            self.row = self._made(
                None, status="invalid", reason=str(error), badges=("does not apply",)
            )
            self.over = True
        except Exception as error:  # It may be the user's own product, which may raise anything.
            reason = f"{type(error).__name__}: {error}"
            self.row = self._made(None, status="failed", reason=reason, badges=("failed",))
            self.over = True

    def _made(self, result: dict[str, Any] | None, **how: Any) -> Row:
        kind = self._settings.kind
        return make_row(self._settings.problem(), self.product, kind, result, **how)


def _side_by_side(
    case: dict[str, Any], settings: Experiment, start: Starter, cancelled: Callable[[], bool]
) -> Iterator[Row | Event]:
    """Train every product, a few steps of each in turn: what disturbs one disturbs all."""
    problem = settings.problem()
    check_device(problem.device)
    place = _place(case, settings)
    with _as_before():
        use_numbers(problem)
        trainees = [_Trainee(product, settings) for product in case["products"]]
        for trainee in trainees:
            if cancelled():
                break
            yield {
                "event": "progress", "stage": "building a network of", "product": trainee.product
            }  # fmt: skip
            trainee.begin(start, place)
        stopped = yield from _steps(trainees, settings, cancelled)
        for trainee in trainees:
            stopped = stopped or cancelled()
            yield trainee.stop() if stopped else trainee.finish()
    if place is not None and not place.named and not stopped:
        for trainee in trainees:
            place.of(trainee.product).unlink(missing_ok=True)


def _steps(
    trainees: Sequence[_Trainee], settings: Experiment, cancelled: Callable[[], bool]
) -> Generator[Event, None, bool]:
    """Take all steps; whether they were cancelled."""
    told = time.monotonic()
    while going := [trainee for trainee in trainees if not trainee.over]:
        for trainee in going:
            for step in trainee.turn():
                if cancelled():
                    return True
                if time.monotonic() - told > PROGRESS_EVERY_S or step.number == settings.steps:
                    told = time.monotonic()
                    yield {
                        "event": "progress", "stage": "training", "product": trainee.product,
                        "step": step.number, "steps": settings.steps, "loss": step.loss,
                    }  # fmt: skip
    return cancelled()


def _place(case: Mapping[str, Any], settings: Experiment) -> _Place | None:
    """Where a case says, or beside the store; None if nothing is kept."""
    if (given := case.get("checkpoints")) is not None:
        return _Place(Path(given), settings.seed, named=True)
    if not case.get("keep"):
        return None
    # The same settings go on from the same files, whoever asks; the seed is in their names.
    text = json.dumps(asdict(settings) | {"seed": None, "kind": settings.kind}, sort_keys=True)
    kept = default_path().with_name("trainings")
    folder = kept / hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # A worker that may write nowhere trains all the same.
    for old in sorted(kept.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return _Place(folder, settings.seed, named=False)


def _device_state(problem: Problem) -> dict[str, Any]:
    # Pages read what cases are and know no torch.
    from etp.measure.card import device_state

    return device_state(problem.device).as_dict()


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave the number of threads as it was: the next case of this process may want all."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)

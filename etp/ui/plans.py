"""Cases of each page's run: what "Run here" measures, and roughly how long that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

from etp import presets
from etp.analysis.effort import Efforts
from etp.experiments.settings import PotentialSettings, TetrisSettings
from etp.measure.statement import fewest_rounds
from etp.options import flag
from etp.presets import Layer
from etp.problem import DType, Problem, Size
from etp.run.case.grids import BROKEN
from etp.ui import effort, jobs
from etp.ui.kept import kept
from etp.ui.settings import CUSTOM, Settings, degrees_text, sweep_command

Cases = list[dict[str, Any]]
ROUNDS = 30
BUDGET_S = 2.5
MOST_S = 60.0
"""Seconds of rounds of a case: what a verdict needs, from the first to the second."""
ELEMENTS = 100
SPHERE_LMAX = 2
COUNTED = ("expressivity", "interactions")


class Takes(NamedTuple):
    """What a run takes.

    Attributes:
        seconds: Rough time.
        rounds: Fewest that the time of a case affords; None where nothing is timed.
        few: Whether those are too few for a verdict.
    """

    seconds: float
    rounds: int | None = None
    few: bool = False


class PagePlan(NamedTuple):
    """What a page runs.

    Attributes:
        title: Name of the run.
        field: Setting that holds the job of the run that is shown.
        cases: From settings to cases; raises ``ValueError`` naming the field and the mend.
        seconds_of: Rough time of those cases; None where it follows from the cases.
        timed: Whether time is measured, so that batch, channels and device matter.
        batch: Setting that holds the batch.
        products: Whether it runs the products chosen.
        page: Address of its page; its title in small letters where it has none.
        view: What else the address needs to show it.
    """

    title: str
    field: str
    cases: Callable[[Settings], Cases]
    seconds_of: Callable[[Settings], float] | None
    timed: bool
    batch: str = "batch"
    products: bool = True
    page: str = ""
    view: tuple[tuple[str, str], ...] = ()

    def checked(self, settings: Settings) -> Cases:
        """Cases that can be run here.

        Raises:
            ValueError: As :attr:`cases`.
            TooLargeError: If one does not fit into memory or takes longer than allowed.
        """
        cases = self.cases(settings)
        jobs.runner().check(cases)
        effort.check_time(cases)
        return cases

    def seconds(self, settings: Settings) -> float:
        """Rough time of a run.

        Raises:
            ValueError: As :attr:`cases`.
        """
        return self.takes(settings).seconds

    def takes(self, settings: Settings) -> Takes:
        """Rough time of a run, and what that affords.

        Raises:
            ValueError: As :attr:`cases`.
        """
        if self.seconds_of is not None:
            return Takes(self.seconds_of(settings))
        cases = self.cases(settings)
        efforts = effort.of_cases(cases)
        seconds = sum(estimate.seconds for estimate in efforts)
        if not self.timed or not efforts:
            return Takes(seconds)
        rounds = min(estimate.rounds for estimate in efforts)
        return Takes(seconds, rounds, rounds < fewest_rounds(len(cases[0]["products"])))

    def smaller(self, settings: Settings, batch: int) -> dict[str, Any]:
        """Changes of the settings after which no problem has more samples than ``batch``."""
        if self is SCALING and settings.axis == "batch":
            return {"batches": tuple(size for size in settings.batches if size <= batch)}
        return {self.batch: batch}

    def size(self, settings: Settings) -> Size:
        """Size of the largest problem.

        Raises:
            ValueError: As :attr:`cases`.
        """
        return max((_size(case) for case in self.cases(settings)), key=lambda size: size.bytes)


@kept(500)
def _size(case: dict[str, Any]) -> Size:
    return Problem.from_dict(case["problem"]).size()


def shown_problem(settings: Settings) -> Problem:
    """The one problem of a page that shows a single lmax.

    Raises:
        ValueError: As :meth:`Settings.problems`.
    """
    problems = settings.problems("cpu")
    usual = [p for p in problems if p.lmax <= 4] or problems[:1]
    return next((p for p in problems if p.lmax == settings.at), usual[-1])


def _some(products: Sequence[str]) -> list[str]:
    if not products:
        raise ValueError("products: choose at least one")
    return list(products)


def _compare(settings: Settings) -> Cases:
    return _timed(settings, settings.problems())


def _timed(settings: Settings, problems: Sequence[Problem]) -> Cases:
    products = _some(settings.names())
    # The limits of a device are measured once, last: first results come first.
    last = {problem.device: number for number, problem in enumerate(problems)}
    known = {device: effort.efforts(device) for device in last}
    limit = jobs.runner().limits.case_seconds
    return [
        _case(
            problem, tuple(products), settings.baseline, known[problem.device], limit,
            roofs=last[problem.device] == number,
        )
        for number, problem in enumerate(problems)
    ]  # fmt: skip


@kept(500)
def _case(
    problem: Problem,
    products: tuple[str, ...],
    reference: str | None,
    efforts: Efforts,
    limit: int | None,
    *,
    roofs: bool,
) -> dict[str, Any]:
    """A case whose budget is what a first verdict needs, if that is not too much."""
    first = reference if reference is not None and reference in products else products[0]
    most = MOST_S if limit is None else min(MOST_S, limit / 4)
    needed = fewest_rounds(len(products)) * efforts.round_s(problem, products, first)
    return {
        "problem": problem.as_dict(),
        "products": list(products),
        "reference": reference,
        "rounds": ROUNDS,
        "budget_s": round(min(max(BUDGET_S, SPARE * needed), most), 1),
        "roofs": roofs,
    }


SPARE = 1.3
"""Rounds may take that much longer than estimated and still be all."""


def sizes(settings: Settings) -> tuple[int, ...]:
    """Sizes along the axis of the scaling page, smallest first.

    Raises:
        ValueError: If they make no line.
    """
    if settings.axis == "lmax":
        if settings.setting == CUSTOM:
            raise ValueError(
                "axis: typed irreps have one lmax only; choose batch or channels as the axis, or "
                "one of SISO, SIMO and MIMO"
            )
        field, values = "lmax", tuple(settings.degrees())
    elif settings.axis == "batch":
        field, values = "batches", tuple(sorted(set(settings.batches)))
    else:
        field, values = "channel_counts", tuple(sorted(set(settings.channel_counts)))
    if len(values) < 2:
        raise ValueError(f"{field}: choose at least two sizes to see growth, got {len(values)}")
    return values


def scaling_problems(settings: Settings) -> list[Problem]:
    """Problems of the scaling page, smallest first.

    Raises:
        ValueError: Naming the field that is wrong and the mend.
    """
    along = sizes(settings)
    if settings.axis == "lmax":
        problems = settings.problems()
    elif not settings.devices:
        raise ValueError("devices: choose at least one")
    else:
        problems = [
            shown_problem(settings.with_(**{settings.axis: size})).at(device=device)
            for size in along
            for device in settings.devices
        ]
    return problems


def scaling_command(settings: Settings) -> str:
    """Command line that measures what the scaling page does.

    Raises:
        ValueError: As :func:`scaling_problems`.
    """
    problems = scaling_problems(settings)
    first = problems[0]
    along = list(dict.fromkeys(getattr(problem, settings.axis) for problem in problems))
    if settings.axis == "lmax":
        words = first.words(lmax=degrees_text(along))
    else:
        plain = first.at(**{settings.axis: getattr(Problem, settings.axis)})
        words = [*plain.words(), flag(settings.axis), *map(str, along)]
    return sweep_command(settings.names(), [*words, "--roofs"], settings.baseline)


def _scaling(settings: Settings) -> Cases:
    return _timed(settings, scaling_problems(settings))


def _checks(settings: Settings) -> Cases:
    products, problem = _some(settings.products), shown_problem(settings).at(batch=16)
    cases: Cases = [
        {
            "problem": problem.at(dtype=dtype).as_dict(),
            "products": products,
            "elements": ELEMENTS,
            "questions": ["equivariance"],
            "timed": False,
            "memory": False,
        }
        for dtype in get_args(DType)
    ]
    signal = problem
    if settings.setting != CUSTOM:
        signal = Problem.of_setting("MIMO", min(SPHERE_LMAX, problem.lmax) or 1)
    plain = {"batch": 16, "dtype": "float64", "channels": 1}
    return [
        *cases,
        {"kind": "grids", "problem": problem.at(**plain).as_dict(), "products": ["gaunt-grid"]},
        {
            "kind": "spheres",
            "problem": signal.at(**plain | {"dtype": "float32"}).as_dict(),
            "products": [*products, BROKEN],
        },
    ]


def _checks_seconds(settings: Settings) -> float:
    return 4 + len(settings.products) * (0.5 + 0.02 * shown_problem(settings).lmax ** 2)


def _counts(settings: Settings) -> Cases:
    products = _some(settings.products)
    return [
        {
            "problem": problem.at(batch=1, dtype="float64").as_dict(),
            "products": products,
            "questions": list(COUNTED),
            "timed": False,
            "memory": False,
        }
        for problem in settings.problems("cpu")
    ]


def _counts_seconds(settings: Settings) -> float:
    product_s = sum(0.1 + 0.003 * problem.lmax**3 for problem in settings.problems("cpu"))
    return 1 + len(settings.products) * product_s


def tetris_settings(settings: Settings) -> list[TetrisSettings]:
    """Trainings of the applications page, one for each seed.

    Raises:
        ValueError: Naming the field that is wrong and the mend.
    """
    if not settings.seeds:
        raise ValueError("seeds: choose at least one")
    return [
        TetrisSettings(
            layers=settings.layers,
            channels=settings.width,
            weights=settings.learning_weights,  # type: ignore[arg-type]
            seed=seed,
        )
        for seed in settings.seeds
    ]


def _tetris(settings: Settings) -> Cases:
    products = _some(settings.products)
    return [training.case(products) | {"keep": True} for training in tetris_settings(settings)]


TETRIS_STEP_S = 0.008
"""A step of a layer (a rough measurement)."""


def _tetris_seconds(settings: Settings) -> float:
    product_s = sum(2 + TETRIS_STEP_S * t.steps * t.layers for t in tetris_settings(settings))
    return len(settings.products) * product_s


def potential_settings(settings: Settings) -> list[PotentialSettings]:
    """Trainings of a potential, one for each seed; the sizes are those of the reference results.

    Raises:
        ValueError: Naming the field that is wrong and the mend.
    """
    if not settings.seeds:
        raise ValueError("seeds: choose at least one")
    steps = settings.training_steps
    return [
        PotentialSettings(
            channels=8, batch=4, steps=steps, check_every=max(1, steps // 12), patience=100,
            threads=1, power=settings.power, seed=seed,
        )
        for seed in settings.seeds
    ]  # fmt: skip


def _potential(settings: Settings) -> Cases:
    products = _some(settings.products)
    return [training.case(products) | {"keep": True} for training in potential_settings(settings)]


POTENTIAL_STEP_S = 0.12
"""A step with a checkpoint's share of validation (a rough measurement)."""


def _potential_seconds(settings: Settings) -> float:
    product_s = sum(3 + POTENTIAL_STEP_S * p.steps for p in potential_settings(settings))
    return len(settings.products) * product_s


TIMED_POWERS = ("gaunt-fourier-fft", "gaunt-fourier-direct", "gaunt-grid", "cg")
"""The paper's Gaunt forms, and the exact contraction beside them."""
TIMED_LMAX, TIMED_ROUNDS = 3, 15


def _step_time(settings: Settings) -> Cases:
    product = _some(settings.products)[0]
    potential = PotentialSettings(
        channels=settings.step_channels, lmax=TIMED_LMAX, steps=TIMED_ROUNDS, batch=2, threads=1
    )
    return [potential.case(TIMED_POWERS) | {"kind": "step-time", "product": product}]


def _step_seconds(settings: Settings) -> float:
    # Five networks; a step takes that much for each channel (a rough measurement).
    return 5 * (TIMED_ROUNDS + 3) * (0.3 + 0.03 * settings.step_channels)


def layer_problem(settings: Settings) -> Problem:
    """The layer of the layers page.

    Raises:
        ValueError: Naming the field that is wrong and the mend.
    """
    if not settings.devices:
        raise ValueError("devices: choose one")
    layer = (
        Layer("typed", settings.irreps1, settings.irreps2, settings.keep.strip())
        if settings.layer == CUSTOM
        else presets.layer(settings.layer)
    )
    return layer.problem(
        settings.layer_kind,  # type: ignore[arg-type]
        batch=settings.edges, dtype=settings.dtype, direction=settings.direction,
        threads=settings.threads, device=settings.devices[0],
        neighbours=settings.neighbours, weights=settings.layer_weights, elements=settings.elements,
    )  # fmt: skip


def _layers(settings: Settings) -> Cases:
    problem = layer_problem(settings)
    there = effort.available(presets.advised(problem.kind, presets.named(problem)))
    efforts, limit = effort.efforts(problem.device), jobs.runner().limits.case_seconds
    return [_case(problem, there, there[0], efforts, limit, roofs=False)]


COMPARE = PagePlan("Compare", "job", _compare, None, timed=True)
SCALING = PagePlan("Scaling", "scaling", _scaling, None, timed=True)
CHECKS = PagePlan("Equivariance", "checks", _checks, _checks_seconds, timed=False)
COUNTS = PagePlan("Expressivity", "counts", _counts, _counts_seconds, timed=False)
TETRIS = PagePlan("Applications", "tetris", _tetris, _tetris_seconds, timed=False)
LAYERS = PagePlan("Layers", "layer_run", _layers, None, timed=True, batch="edges", products=False)
POTENTIAL = PagePlan(
    "Potential", "potential", _potential, _potential_seconds, timed=False,
    page="applications", view=(("study", "potential"),),
)  # fmt: skip
STEP_TIME = PagePlan(
    "Step time", "steps_run", _step_time, _step_seconds, timed=False,
    page="applications", view=(("study", "step-time"),),
)  # fmt: skip
PLANS = (COMPARE, SCALING, CHECKS, COUNTS, TETRIS, LAYERS, POTENTIAL, STEP_TIME)
"""Of every page that runs something."""

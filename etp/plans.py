"""Cases of each page's run: what "Run here" measures, and roughly how long that takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from etp.problem import DType, Problem
from etp.settings import CUSTOM, Settings
from etp.sweep.grids import BROKEN

Cases = list[dict[str, Any]]
ROUNDS = 30
BUDGET_S = 2.5
ELEMENTS = 100
SPHERE_LMAX = 2
COUNTED = ("expressivity", "interactions")


class Plan(NamedTuple):
    """What a page runs.

    Attributes:
        title: Name of the run.
        field: Setting that holds the job of the run that is shown.
        cases: From settings to cases; raises ``ValueError`` naming the field and the mend.
        seconds: Rough time of those cases.
        timed: Whether time is measured, so that batch, channels and device matter.
    """

    title: str
    field: str
    cases: Callable[[Settings], Cases]
    seconds: Callable[[Settings], float]
    timed: bool


def shown_problem(settings: Settings) -> Problem:
    """The one problem of a page that shows a single lmax.

    Raises:
        ValueError: As :meth:`Settings.problems`.
    """
    problems = settings.problems("cpu")
    usual = [p for p in problems if p.lmax <= 4] or problems[:1]
    return next((p for p in problems if p.lmax == settings.at), usual[-1])


def _products(settings: Settings) -> list[str]:
    if not settings.products:
        raise ValueError("products: choose at least one")
    return list(settings.products)


def _compare(settings: Settings) -> Cases:
    products, problems = _products(settings), settings.problems()
    # The limits of a device are measured once, last: first results come first.
    last = {problem.device: number for number, problem in enumerate(problems)}
    return [
        {
            "problem": problem.as_dict(),
            "products": products,
            "reference": settings.baseline,
            "rounds": ROUNDS,
            "budget_s": BUDGET_S,
            "roofs": last[problem.device] == number,
        }
        for number, problem in enumerate(problems)
    ]


def _compare_seconds(settings: Settings) -> float:
    count = len(settings.products)
    return sum(
        min(BUDGET_S, 0.15 * ROUNDS * count) + count * (0.15 + 0.002 * problem.lmax**3)
        for problem in settings.problems()
    )


def _checks(settings: Settings) -> Cases:
    products, problem = _products(settings), shown_problem(settings).at(batch=16)
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
    products = _products(settings)
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
    each = sum(0.1 + 0.003 * problem.lmax**3 for problem in settings.problems("cpu"))
    return 1 + len(settings.products) * each


COMPARE = Plan("Compare", "job", _compare, _compare_seconds, timed=True)
CHECKS = Plan("Equivariance", "checks", _checks, _checks_seconds, timed=False)
COUNTS = Plan("Expressivity", "counts", _counts, _counts_seconds, timed=False)

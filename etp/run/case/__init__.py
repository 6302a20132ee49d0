"""What one case does where the measuring happens: build, check, then time in interleaved rounds.

:func:`run` is a generator of rows and progress events, so that what is done is kept whatever
happens next; it runs inside a worker of :mod:`etp.run.runner` or straight from the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from etp.kernels import torch_compile
from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.case import ELEMENTS, Case, build, check_fits, needed_bytes, use_numbers
from etp.run.case.checks import checked, started
from etp.run.case.grids import run_grids
from etp.run.case.questions import QUESTIONS, make_row
from etp.run.case.rounds import Event, Slot, lost, timed, unmeasured
from etp.run.case.spheres import run_spheres
from etp.run.case.training import run_potential, run_step_time, run_tetris
from etp.run.devices import check_device

__all__ = ["Case", "build", "check_fits", "measure_one", "needed_bytes", "run", "warm"]


def run(
    case: dict[str, Any], cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Row | Event]:
    """Do what one case asks for.

    Args:
        case: As :meth:`Case.as_dict`; a key ``kind`` names another kind of case than comparing.
        cancelled: Asked between samples; rows measured until then are still yielded.

    Yields:
        Rows (with a key "measure") and progress events (with a key "event").

    Raises:
        ValueError: If the case is not valid or cannot fit into memory.
    """
    rest = dict(case)
    kind = rest.pop("kind", "compare")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    yield from KINDS[kind](rest, cancelled)


def run_comparison(values: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """Check every product of a case, then time the right ones."""
    case = Case.from_dict(values)
    check_device(case.problem.device)
    check_fits(case.problem)
    use_numbers(case.problem)
    if any(map(torch_compile.asked, case.products)):
        torch_compile.forget()
    slots: list[Slot] = []
    for number, product in enumerate(case.products):
        if cancelled():
            # Those that are checked are not timed either.
            names = [*(slot.name for slot in slots), *case.products[number:]]
            yield from unmeasured(case, names, "cancelled before it was measured")
            return
        yield {"event": "progress", "product": product, "stage": "checking"}
        yield from checked(case, product, slots)
    if not case.timed or not slots:
        return
    if cancelled():
        names = [slot.name for slot in slots]
        yield from unmeasured(case, names, "cancelled before it was measured")
        return
    try:
        yield from timed(case, slots, cancelled)
    except RuntimeError as error:
        # A device that is full, or does not answer any more: what was checked is kept.
        yield from lost(case, [slot.name for slot in slots], error)
        return
    if case.roofs and not cancelled():
        yield {"event": "progress", "product": "device", "stage": "measuring the limits of"}
        try:
            yield _roofs(case.problem)
        except RuntimeError as error:
            # The times are there already; only their roofs are not.
            yield from lost(case, ["device"], error, "roofline")


def measure_one(problem: Problem, product: str, measure: str) -> Row:
    """Answer one question about one product; a runtime only if the product is right.

    Args:
        problem: What is multiplied.
        product: Name of the product.
        measure: What is asked.

    Raises:
        ValueError: If the problem cannot fit, or the product cannot be built for it.
    """
    import torch

    from etp import measure as measures

    check_device(problem.device)
    check_fits(problem)
    use_numbers(problem)
    from etp.measure.timed import as_timed

    tp, start = started(problem, product, called=measure == "runtime")
    if measure != "runtime":
        return make_row(problem, product, measure, QUESTIONS[measure](tp, problem, ELEMENTS))
    agreement = measures.agreement(
        tp, dtype=getattr(torch, problem.dtype), weights=problem.weights, seed=problem.seed
    )
    only_near = not agreement.passed and tp.per_edge.approximate
    if not (agreement.passed or only_near):
        reason = f"{product} is off by {agreement.max:.1e} from the oracle: not timed"
        return make_row(problem, product, measure, None, status="invalid", reason=reason)
    runtime = measures.measure_runtime(
        tp, batch=problem.batch, dtype=getattr(torch, problem.dtype), device=problem.device,
        direction=problem.direction, cache=problem.cache, weights=problem.weights,
        seed=problem.seed,
    )  # fmt: skip
    extra = {"cache": problem.cache, "role": "product", "own_layout": as_timed(tp).own_layout}
    result = runtime.as_result() | start._asdict() | extra
    badges = ["approximate"] if only_near else []
    return make_row(problem, product, measure, result, badges=badges)


def _roofs(problem: Problem) -> Row:
    from etp import measure

    dtypes = tuple(dict.fromkeys(("float32", problem.dtype)))
    return make_row(problem, "device", "roofline", asdict(measure.roofline(problem.device, dtypes)))


def warm() -> None:
    """Import what every case needs and run a tiny one, so that the first case does not wait."""
    case = Case(Problem.of_setting("MIMO", 1, batch=8), ("cg-sparse",), rounds=1, budget_s=0.0)
    for _ in run(case.as_dict()):
        pass


CaseRun = Callable[[dict[str, Any], Callable[[], bool]], Iterator[Row | Event]]
KINDS: dict[str, CaseRun] = {
    "compare": run_comparison,
    "grids": run_grids,
    "spheres": run_spheres,
    "tetris": run_tetris,
    "potential": run_potential,
    "step-time": run_step_time,
}
"""What a case can be."""

"""What one case does where the measuring happens: build, check, then time in interleaved rounds.

:func:`run` is a generator of rows and progress events, so that what is done is kept whatever
happens next; it runs inside a worker of :mod:`etp.runner` or straight from the command line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from etp.problem import Problem
from etp.rows import Row
from etp.sweep.case import Case, build, check_fits, needed_bytes
from etp.sweep.questions import QUESTIONS, interaction_result, make_row, plain
from etp.sweep.rounds import Event, Slot, timed, unmeasured

if TYPE_CHECKING:
    from etp.product import TensorProduct

__all__ = ["Case", "build", "check_fits", "measure_one", "needed_bytes", "run", "warm"]


def run(
    case: dict[str, Any], cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Row | Event]:
    """Measure one case.

    Args:
        case: As :meth:`Case.as_dict`.
        cancelled: Asked between samples; rows measured until then are still yielded.

    Yields:
        Rows (with a key "measure") and progress events (with a key "event").

    Raises:
        ValueError: If the case is not valid or cannot fit into memory.
    """
    import torch

    plan = Case.from_dict(case)
    check_fits(plan.problem)
    if plan.problem.threads is not None:
        torch.set_num_threads(plan.problem.threads)
    slots: list[Slot] = []
    for number, product in enumerate(plan.products):
        if cancelled():
            yield from unmeasured(plan, plan.products[number:], "cancelled before it was measured")
            return
        yield {"event": "progress", "product": product, "stage": "checking"}
        yield from _checked(plan, product, slots)
    if not plan.timed or not slots:
        return
    if cancelled():
        names = [slot.name for slot in slots]
        yield from unmeasured(plan, names, "cancelled before it was measured")
        return
    yield from timed(plan, slots, cancelled)
    if plan.roofs and not cancelled():
        yield {"event": "progress", "product": "device", "stage": "measuring the limits of"}
        yield _roofs(plan.problem)


def _checked(plan: Case, product: str, slots: list[Slot]) -> Iterator[Row]:
    """Build and check one product; only what is right may be timed."""
    import torch

    from etp import measure

    problem = plan.problem
    start = time.perf_counter()
    try:
        tp = build(problem, product)
    except ValueError as error:
        yield make_row(
            problem, product, "runtime", None,
            status="invalid", reason=str(error), badges=[_why_not(str(error))],
        )  # fmt: skip
        return
    setup_s = time.perf_counter() - start
    dtype = getattr(torch, problem.dtype)
    # Before any check has compiled or planned anything.
    first_call_s = _first_call(problem, tp)
    agreement = measure.agreement(tp, dtype=dtype, seed=problem.seed)
    yield make_row(problem, product, "agreement", plain(agreement))
    drift = measure.equivariance_error(tp, dtype=dtype, elements=plan.elements, seed=problem.seed)
    yield make_row(problem, product, "equivariance", plain(drift) | {"dtype": problem.dtype})
    expressivity = measure.expressivity(tp, seed=problem.seed)
    yield make_row(problem, product, "expressivity", plain(expressivity))
    yield make_row(problem, product, "interactions", interaction_result(tp))
    cost = tp.cost(problem.batch, dtype.itemsize)
    yield make_row(problem, product, "cost", cost._asdict() | {"flops": cost.flops})
    if not (agreement.passed and drift.passed):
        worst, gate = (
            (agreement.max, agreement.gate) if not agreement.passed else (drift.max, drift.gate)
        )
        yield make_row(
            problem, product, "runtime", None, status="invalid", badges=["wrong answer"],
            reason=f"relative error {worst:.1e} against the float64 oracle or under rotation is "
            f"above the gate {gate:.0e} of {problem.dtype}: it does not compute what it claims",
        )  # fmt: skip
        return
    if plan.memory:
        found = measure.peak_memory(
            tp, batch=problem.batch, dtype=dtype, device=problem.device, direction=problem.direction
        )
        yield make_row(problem, product, "memory", asdict(found))
    slots.append(
        Slot(
            product,
            tp,
            setup_s,
            first_call_s,
            _badges(tp, expressivity.paths, expressivity.allowed),
        )
    )


def _first_call(problem: Problem, tp: TensorProduct) -> float:
    from etp.measure.runtime import make_call
    from etp.sweep.rounds import inputs

    call = make_call(tp, *inputs(problem, tp), problem.direction)
    call.sync()
    start = time.perf_counter()
    call.run()
    call.sync()
    return time.perf_counter() - start


def _badges(tp: TensorProduct, paths: int, allowed: int) -> list[str]:
    found = {
        "missing paths": paths < allowed,
        "sums paths": not tp.keeps_paths,
        f"{tp.group} only": tp.group != "O(3)",
    }
    return [badge for badge, worn in found.items() if worn]


def measure_one(problem: Problem, product: str, measure: str) -> Row:
    """Answer one question about one product; a runtime only if the product is right.

    Raises:
        ValueError: If the problem cannot fit, or the product cannot be built for it.
    """
    import torch

    from etp import measure as measures

    check_fits(problem)
    if problem.threads is not None:
        torch.set_num_threads(problem.threads)
    start = time.perf_counter()
    tp = build(problem, product)
    setup_s = time.perf_counter() - start
    if measure != "runtime":
        return make_row(problem, product, measure, QUESTIONS[measure](tp, problem))
    agreement = measures.agreement(tp, dtype=getattr(torch, problem.dtype), seed=problem.seed)
    if not agreement.passed:
        reason = f"{product} is off by {agreement.max:.1e} from the oracle: not timed"
        return make_row(problem, product, measure, None, status="invalid", reason=reason)
    runtime = measures.measure_runtime(
        tp, batch=problem.batch, dtype=getattr(torch, problem.dtype), device=problem.device,
        direction=problem.direction, cache=problem.cache, seed=problem.seed,
    )  # fmt: skip
    extra = {"setup_s": setup_s, "compile_s": None, "cache": problem.cache, "role": "product"}
    return make_row(problem, product, measure, runtime.as_result() | extra)


def _roofs(problem: Problem) -> Row:
    from etp import measure

    dtypes = tuple(dict.fromkeys(("float32", problem.dtype)))
    return make_row(problem, "device", "roofline", asdict(measure.roofline(problem.device, dtypes)))


def _why_not(message: str) -> str:
    if "not available" in message:
        return "unavailable"
    return "empty output" if "path" in message else "does not apply"


def warm() -> None:
    """Import what every case needs and run a tiny one, so that the first case does not wait."""
    case = Case(Problem.of_setting("MIMO", 1, batch=8), ("cg-sparse",), rounds=1, budget_s=0.0)
    for _ in run(case.as_dict()):
        pass

"""Build a product and check it: only what is right may be timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from etp.kernels import compile_times as compiling
from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.case import Case, build
from etp.run.case.questions import QUESTIONS, make_row
from etp.run.case.rounds import Slot, Start, inputs

if TYPE_CHECKING:
    from etp.product.base import TensorProduct

GATED = ("agreement", "equivariance")
"""Questions that a product must pass before it is timed, unless it says that it approximates."""
OF_PATHS = ("expressivity", "interactions")
"""Questions about paths: what does not pass the gates has none."""


def checked(case: Case, product: str, slots: list[Slot]) -> Iterator[Row]:
    """Build one product, ask what the case wants to know; if it is right, add it to the slots.

    A product that refuses a call, or breaks in it, has a row that says so; the others go on.

    Args:
        case: The case.
        product: Name of the product.
        slots: What will be timed; a product that is right is added.
    """
    try:
        yield from _checked(case, product, slots)
    except ValueError as error:
        yield make_row(
            case.problem, product, "runtime", None,
            status="invalid", reason=str(error), badges=["does not apply"],
        )  # fmt: skip
    except Exception as error:  # It may be the user's own code, which may raise anything.
        yield make_row(
            case.problem, product, "runtime", None,
            status="failed", reason=f"{type(error).__name__}: {error}", badges=["failed"],
        )  # fmt: skip


def _checked(case: Case, product: str, slots: list[Slot]) -> Iterator[Row]:
    problem = case.problem
    try:
        tp, start = started(problem, product, called=case.timed)
    except ValueError as error:
        yield make_row(
            problem, product, "runtime", None,
            status="invalid", reason=str(error), badges=[_why_not(str(error))],
        )  # fmt: skip
        return
    results: dict[str, dict[str, Any]] = {}
    only_near = False
    # The gates first: what does not pass them has no meaningful answer to the other questions.
    for question in sorted(case.questions, key=lambda asked: asked not in GATED):
        if only_near and question in OF_PATHS:
            continue
        results[question] = QUESTIONS[question](tp, problem, case.elements)
        yield make_row(problem, product, question, results[question])
        reason = _wrong(results, problem)
        only_near = reason is not None and tp.per_edge.approximate
        if case.timed and reason is not None and not only_near:
            yield make_row(
                problem, product, "runtime", None,
                status="invalid", badges=["wrong answer"], reason=reason,
            )  # fmt: skip
            return
    if not case.timed:
        return
    if case.memory:
        yield make_row(problem, product, "memory", _memory(tp, problem))
    slots.append(Slot(product, tp, start, _badges(tp, results, only_near)))


def _wrong(results: dict[str, dict[str, Any]], problem: Problem) -> str | None:
    for question in GATED:
        if question not in results:
            continue
        worst, gate = results[question]["max"], results[question]["gate"]
        if worst > gate:
            against = "the float64 oracle" if question == "agreement" else "its rotated self"
            return (
                f"its relative error against {against} is {worst:.1e}, above the gate {gate:.0e} "
                f"of {problem.dtype}: it does not compute what it claims"
            )
    return None


def _memory(tp: TensorProduct, problem: Problem) -> dict[str, Any]:
    import torch

    from etp import measure

    return asdict(
        measure.peak_memory(
            tp,
            batch=problem.batch,
            dtype=getattr(torch, problem.dtype),
            device=problem.device,
            direction=problem.direction,
            weights=problem.weights,
        )
    )


def started(problem: Problem, product: str, *, called: bool) -> tuple[TensorProduct, Start]:
    """Build a product and, if asked, call it once, before any check has planned anything.

    Args:
        problem: What is multiplied.
        product: Name of the product.
        called: Whether it is called once.

    Raises:
        ValueError: As :func:`etp.run.case.case.build`.
    """
    from etp import products  # noqa: F401  (loading it is no part of setting a product up)

    with compiling.recording() as record:
        begun = time.perf_counter()
        tp = build(problem, product)
        setup_s = time.perf_counter() - begun - record.spent_s
        first_call_s = _first_call(problem, tp, record) if called else 0.0
    return tp, Start(setup_s, first_call_s, record.seconds, record.artifacts)


def _first_call(problem: Problem, tp: TensorProduct, record: compiling.Record) -> float:
    from etp.measure.runtime import make_call

    x1, x2, weights = inputs(problem, tp)
    call = make_call(tp, x1, x2, problem.direction, weights=weights)
    call.sync()
    begun, before = time.perf_counter(), record.spent_s
    call.run()
    call.sync()
    return time.perf_counter() - begun - (record.spent_s - before)


def _badges(tp: TensorProduct, results: dict[str, dict[str, Any]], only_near: bool) -> list[str]:
    from etp.measure.timed import as_timed

    reached = results.get("interactions")
    badges = {
        "approximate": only_near,
        "missing paths": reached is not None and reached["count"] < reached["allowed"],
        "sums paths": not tp.keeps_paths,
        "own layout": as_timed(tp).own_layout,
        f"{tp.group} only": tp.group != "O(3)",
    }
    return [badge for badge, worn in badges.items() if worn]


def _why_not(message: str) -> str:
    if "not available" in message:
        return "unavailable"
    return "empty output" if "no path" in message else "does not apply"

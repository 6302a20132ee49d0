"""Where a stored run is opened: its page, with the question that it answered in the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from etp import presets
from etp.kernels.torch_compile import asked, plain_name
from etp.options import declared
from etp.problem import Options, Problem
from etp.results.rows import Row
from etp.ui.plans import CHECKS, COMPARE, COUNTS, LAYERS, PLANS, SCALING, PagePlan
from etp.ui.settings import CUSTOM, Settings

_COMPARED = (COMPARE, SCALING, CHECKS, COUNTS)


def address(title: str, job: str, rows: Sequence[Row], names: Sequence[str] = ()) -> str:
    """Page and query of a run, without the base path.

    Without the question in it, a page would set its usual one against what it shows.

    Args:
        title: What the run was called; of an import, rows say which page shows them.
        job: Its id.
        rows: Of the run.
        names: Products that can be asked for here; any where nobody knows.

    Examples:
        >>> from etp.results.reference import reference_rows
        >>> siso = [row for row in reference_rows() if row.problem["setting"] == "SISO"]
        >>> address("Expressivity", "1234", siso, ["cg-sparse"])
        '/expressivity?counts=1234&setting=SISO&lmax=1%3A6&products=cg-sparse'
    """
    plan = next((plan for plan in PLANS if plan.title == title), None) or _plan_of(rows)
    page = "" if plan is COMPARE else plan.page or plan.title.lower()
    query = {plan.field: job, **dict(plan.view), **_question(plan, rows, names).to_query()}
    return f"/{page}?{urlencode(query)}"


def _plan_of(rows: Sequence[Row]) -> PagePlan:
    measures = {row.measure for row in rows if row.status == "ok"}
    if "runtime" in measures or not measures:
        return COMPARE
    return CHECKS if "equivariance" in measures and "expressivity" not in measures else COUNTS


def _question(plan: PagePlan, rows: Sequence[Row], names: Sequence[str]) -> Settings:
    """What was asked for, as the controls of the page hold it."""
    if plan not in (*_COMPARED, LAYERS):
        return Settings()
    own = [row for row in rows if row.measure not in ("roofline", "grid", "sphere")]
    problems = [problem for row in own if (problem := _read(row)) is not None]
    if not problems:
        return Settings()
    last = problems[-1]
    if plan is LAYERS:
        return _layer(last)
    changes: dict[str, Any] = {}
    if plan.timed:
        changes = {name: getattr(last, name) for name in declared(Options)}
        changes["devices"] = tuple(dict.fromkeys(problem.device for problem in problems))
    if last.setting is None:
        changes |= {"setting": CUSTOM, "irreps1": last.irreps1, "irreps2": last.irreps2}
        changes |= {"keep": last.filter_out or "", "channels": last.channels}
    else:
        degrees = [problem.lmax for problem in problems]
        changes |= {"setting": last.setting, "lmax": (min(degrees), max(degrees))}
    if plan is CHECKS:
        changes["at"] = last.lmax
    if plan is SCALING:
        changes |= _axis(problems)
    products = dict.fromkeys(row.product for row in own)
    plain = dict.fromkeys(plain_name(name) for name in products)
    there = tuple(name for name in plain if not names or name in names)
    changes |= {"products": there} if there else {}
    changes |= {"compiled": "also"} if any(map(asked, products)) else {}
    return Settings(**changes)


def _read(row: Row) -> Problem | None:
    """Its problem; None for one without paths, which a file may hold and nothing answers."""
    try:
        return Problem.from_dict(row.problem)
    except ValueError:
        return None


def _axis(problems: Sequence[Problem]) -> dict[str, Any]:
    """What changes along a sweep, and its sizes."""
    for axis, field in (("batch", "batches"), ("channels", "channel_counts")):
        sizes = sorted({getattr(problem, axis) for problem in problems})
        if len(sizes) > 1:
            return {"axis": axis, field: tuple(sizes), axis: getattr(Settings, axis)}
    return {}


def _layer(problem: Problem) -> Settings:
    same = ("dtype", "direction", "threads", "neighbours", "elements")
    own: dict[str, Any] = {name: getattr(problem, name) for name in same}
    own |= {"edges": problem.batch, "devices": (problem.device,)}
    if problem.kind != "power":
        own |= {"layer_kind": problem.kind, "layer_weights": problem.weights}
    name = presets.named(problem)
    if name is not None:
        return Settings(layer=name, **own)
    own |= {"irreps1": problem.irreps1, "irreps2": problem.irreps2}
    return Settings(layer=CUSTOM, keep=problem.filter_out or "", **own)

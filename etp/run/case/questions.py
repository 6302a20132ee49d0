"""What is asked about one product besides its runtime, as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from etp.problem import Problem
from etp.results.rows import Row

if TYPE_CHECKING:
    from etp.measure.graph import OnNodes
    from etp.product.base import TensorProduct


def make_row(
    problem: Problem,
    product: str,
    measure: str,
    result: dict[str, Any] | None,
    *,
    status: str = "ok",
    reason: str | None = None,
    badges: Sequence[str] = (),
    group: str | None = None,
) -> Row:
    """One row as stored: see the README for its fields.

    Args:
        problem: What was multiplied.
        product: Name of the product.
        measure: What was asked.
        result: What came out, or None.
        status: ``ok``, or why there is no result.
        reason: In words, where the status is not ``ok``.
        badges: What to know before using it.
        group: Interleaved rounds that it was timed in.
    """
    from etp.run.environment import environment

    manifest = environment(problem.device, problem.threads)
    return Row.new(
        problem.as_dict(), product, measure, result, manifest,
        status=status, reason=reason, badges=badges, group=group,
    )  # fmt: skip


def _ask_agreement(tp: TensorProduct, problem: Problem, elements: int) -> dict[str, Any]:
    import torch

    from etp import measure

    agreement = measure.agreement(
        tp, dtype=getattr(torch, problem.dtype), weights=problem.weights, seed=problem.seed
    )
    return plain(agreement)


def _ask_equivariance(tp: TensorProduct, problem: Problem, elements: int) -> dict[str, Any]:
    import torch

    from etp import measure

    error = measure.equivariance_error(
        tp, dtype=getattr(torch, problem.dtype), elements=elements, seed=problem.seed
    )
    return plain(error) | {"dtype": problem.dtype}


def _ask_expressivity(tp: TensorProduct, problem: Problem, elements: int) -> dict[str, Any]:
    from etp import measure

    return plain(measure.expressivity(tp.per_edge, seed=problem.seed))


def _ask_cost(tp: TensorProduct, problem: Problem, elements: int) -> dict[str, Any]:
    import torch

    cost = tp.cost(problem.batch, getattr(torch, problem.dtype).itemsize, problem.weights)
    return cost._asdict() | {"flops": cost.flops}


Question = Callable[["TensorProduct", Problem, int], dict[str, Any]]
QUESTIONS: dict[str, Question] = {
    "agreement": _ask_agreement,
    "equivariance": _ask_equivariance,
    "expressivity": _ask_expressivity,
    "interactions": lambda tp, problem, elements: interaction_result(tp.per_edge),
    "cost": _ask_cost,
}
"""What can be asked about one product, on a problem, over a number of group elements."""


def interaction_result(tp: TensorProduct | OnNodes) -> dict[str, Any]:
    """Result of an ``interactions`` row: measured triples with their coefficients."""
    from etp import measure
    from etp.measure.graph import OnNodes

    if isinstance(tp, OnNodes):
        return _couplings(tp)
    paths = [
        (ir1, ir2, ir_out, coefficient)
        for ir_out, pairs in measure.measured_coefficients(tp).copies
        for (ir1, ir2), coefficient in pairs.items()
    ]
    paths.sort(key=lambda path: path[:3])
    triples = list(dict.fromkeys(path[:3] for path in paths))
    return {
        "title": tp.title,
        "paths": [list(path) for path in sorted({(a.l, b.l, c.l) for a, b, c in triples})],
        "triples": [[str(ir) for ir in path[:3]] for path in paths],
        "coefficients": [path[3] for path in paths],
        "count": len(triples),
        "allowed": len(measure.allowed_paths(tp)),
        "weights_per": tp.weights_per,
        "weights": len(tp.weighting.factors),
        "keeps_paths": tp.keeps_paths,
        "outputs": tp.irreps_out.dim,
        "group": tp.group,
    }


def _couplings(tp: OnNodes) -> dict[str, Any]:
    """What a power reaches: an entry for each coupling in each polynomial of the echelon form."""
    from etp.measure.couplings import reach

    reached = reach(tp)
    labels = [label for label, _, _ in reached.basis]
    echelon = reached.echelon
    entries = [
        (labels[row.nonzero()[0][0]], labels[at], str(reached.basis[at][2]), float(row[at]))
        for row in echelon
        for at in row.nonzero()[0]
    ]
    return {
        "title": tp.title,
        "paths": [],
        "triples": [list(entry[:3]) for entry in entries],
        "coefficients": [entry[3] for entry in entries],
        "count": len(echelon),
        "allowed": len(labels),
        "weights_per": tp.weights_per,
        "weights": tp.weights_per_channel,
        "keeps_paths": tp.keeps_paths,
        "outputs": tp.irreps_out.dim,
        "group": tp.group,
    }


def plain(result: Any) -> dict[str, Any]:
    """A measure's dataclass as the result of a row, keys as text."""
    values = asdict(result)
    if "per_degree" in values:
        values["per_degree"] = {str(l): value for l, value in values["per_degree"].items()}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

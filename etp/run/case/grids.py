"""What a too small grid does: the error of the Gaunt product against the size of its grid.

The smallest exact grid has a sharp edge: one row or column less is wrong by percents in any dtype.
The product one column short is also the one shown where people should see a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.case import build
from etp.run.case.questions import QUESTIONS, make_row

PRODUCT = "gaunt-grid"
BROKEN = "gaunt-grid, one column short"
BELOW, ABOVE = 6, 3
ELEMENTS = 8


def broken(problem: Problem) -> Any:
    """The Gaunt product on a grid that is one column too small."""
    rows, columns = build(problem, PRODUCT).resolution
    return build(problem, PRODUCT, resolution=(rows, columns - 1))


def run_grids(
    case: dict[str, Any], cancelled: Callable[[], bool]
) -> Iterator[Row | dict[str, Any]]:
    """Rows of measure ``grid`` around the smallest exact grid; one of the broken product.

    Args:
        case: ``problem``, and ``elements`` for the broken product.
        cancelled: Asked between sizes.
    """
    problem = Problem.from_dict(case["problem"])
    exact = build(problem, PRODUCT).resolution
    sizes = [(exact[0], n) for n in range(max(1, exact[1] - BELOW), exact[1] + ABOVE + 1)]
    sizes += [(n, exact[1]) for n in range(max(1, exact[0] - BELOW), exact[0] + ABOVE + 1)]
    for rows, columns in dict.fromkeys(sizes):
        if cancelled():
            return
        tp = build(problem, PRODUCT, resolution=(rows, columns))
        error = QUESTIONS["equivariance"](tp, problem, ELEMENTS)
        yield make_row(
            problem, PRODUCT, "grid",
            {"rows": rows, "columns": columns, "smallest": list(exact), "max": error["max"],
             "gate": error["gate"], "exact": rows >= exact[0] and columns >= exact[1]},
        )  # fmt: skip
    error = QUESTIONS["equivariance"](broken(problem), problem, int(case.get("elements", 100)))
    yield make_row(problem, BROKEN, "equivariance", error, badges=["broken on purpose"])

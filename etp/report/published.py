"""What is told of a run in a list of runs: the comparison it opens with, in words and a picture."""

from __future__ import annotations

from collections.abc import Sequence

from etp import charts
from etp.analysis.comparison import Comparison, comparisons
from etp.analysis.tables import frame, tradeoff_frame
from etp.results.rows import Row

WIDTH = 700
USUAL_LMAX = 4


def shown(rows: Sequence[Row]) -> Comparison | None:
    """The comparison that a page of these rows opens with; None where nothing was timed."""
    timed = [comparison for comparison in comparisons(rows) if comparison.timed]
    usual = [comparison for comparison in timed if comparison.problem.lmax <= USUAL_LMAX] or timed
    return usual[-1] if usual else None


def question(comparison: Comparison) -> str:
    """What was measured, in a line."""
    problem = comparison.problem
    name = problem.setting or f"{problem.irreps1} x {problem.irreps2}"
    return f"{name}, lmax {problem.lmax}, batch {problem.batch}, on {problem.device}"


def picture(comparison: Comparison) -> bytes:
    """Its trade-off as PNG."""
    table = tradeoff_frame(frame(comparison))
    return charts.export(charts.tradeoff(table, "light", comparison.baseline, None, WIDTH), "png")

"""Scaling: how time and memory grow with lmax, batch or channels, and what limits them."""

from __future__ import annotations

from functools import partial

from etp.ui import asked, axis, data, gallery_page, progress, scaling, scaling_table, show, tables
from etp.ui.bar import bar
from etp.ui.frame import page
from etp.ui.plans import SCALING, scaling_problems

with page("Scaling"):
    chosen = bar(SCALING, axis.axis_choice, axis.SIZES)
    swept = data.swept(chosen)
    own = None if swept.source in ("imported", "published") else chosen.scaling
    other = False
    with progress.place(own, measured=swept.source == "run") as run:
        gallery_page.publish(own)
        if swept.line is not None and swept.source in ("run", "reference"):
            problems = [comparison.problem for comparison in swept.line.comparisons]
            question = partial(scaling_problems, chosen)
            other = asked.note(
                problems, swept.source, question, swept.line.axis,
                devices=tables.devices(swept.rows),
                products=asked.products_without(swept.rows, "runtime", chosen.names()),
                running=run.running,
            )  # fmt: skip
    if swept.line is None:
        axis.nothing_yet(chosen)
    else:
        with asked.answers(stale=other or run.stale):
            show.verdict(tables.growth_finding(swept.line))
            scaling.provenance(swept.line, swept.source)
            scaling.growth(swept, swept.line)
            scaling.roofs(swept, swept.line)
            scaling.costs(swept.line)
            scaling.overtakings(swept.line)
            scaling_table.table(swept, swept.line)
            scaling_table.reproduce(swept.line, chosen)
            scaling_table.left_out(swept.line)

"""Scaling: how time and memory grow with lmax, batch or channels, and what limits them."""

from __future__ import annotations

from etp.ui import axis, data, gallery_page, jobs, scaling, scaling_table, show, tables
from etp.ui.bar import bar
from etp.ui.frame import page
from etp.ui.plans import SCALING

with page("Scaling"):
    chosen = bar(SCALING, axis.axis_choice, axis.SIZES)
    swept = data.swept(chosen)
    if swept.source not in ("imported", "published"):
        jobs.panel(chosen.scaling)
        gallery_page.publish(chosen.scaling)
    if swept.line is None:
        axis.nothing_yet(chosen)
    else:
        show.verdict(tables.growth_finding(swept.line))
        scaling.provenance(swept.line, swept.source)
        scaling.growth(swept, swept.line)
        scaling.roofs(swept, swept.line)
        scaling.costs(swept.line)
        scaling.overtakings(swept.line)
        scaling_table.table(swept, swept.line)
        scaling_table.reproduce(swept.line, chosen)
        scaling_table.left_out(swept.line)

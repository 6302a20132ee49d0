"""Compare: which product to use, in words first, then in pictures, then everything."""

from __future__ import annotations

from etp.ui import asked, compare, data, gallery_page, layers, progress, show, tables
from etp.ui.bar import bar
from etp.ui.frame import page
from etp.ui.plans import COMPARE

with page("Compare"):
    chosen = bar(COMPARE)
    view = data.view(chosen)
    with progress.place(chosen.job, measured=view.source == "run") as run:
        gallery_page.publish(chosen.job)
        compare.welcome(view)
        shown = [comparison.problem for comparison in view.comparisons]
        other = asked.note(
            shown, view.source, chosen.problems,
            devices=tables.devices(view.rows),
            products=asked.products_without(view.rows, "runtime", chosen.names()),
            running=run.running,
        )  # fmt: skip
    with asked.answers(stale=other or run.stale):
        show.verdict(tables.finding(view.chosen))
        compare.trust(view, chosen.job)
        show.provenance(view.chosen, view.source)
        if view.source == "reference":
            layers.invitation()
        compare.hero(view)
        compare.multiples(view)
        compare.pairs(view)
        compare.samples(view)
        compare.table(view)
        show.reproduce(view.chosen, chosen)
        compare.left_out(view)

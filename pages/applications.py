"""Applications: what a product means in a model, and what a step of training costs with it."""

from __future__ import annotations

from etp.analysis.learning import learning_finding, refused
from etp.ui import applications, asked, gallery_page, progress, show, tables
from etp.ui.frame import page

with page("Applications"):
    chosen = applications.controls()
    rows, source = applications.rows(chosen)
    run = applications.job(chosen)
    with progress.place(run, measured=source == "run") as state:
        gallery_page.publish(run)
    with asked.answers(stale=state.stale):
        if chosen.study == "potential":
            applications.potential(tables.potentials(rows, chosen.power), source)
        elif chosen.study == "step-time":
            applications.steps(rows, source)
        else:
            shown = tables.trained(rows, chosen.layers, chosen.learning_weights)
            table = tables.learned(shown)
            layers = shown[0].measured["layers"] if shown else chosen.layers
            show.verdict(learning_finding(table, layers))
            if shown:
                show.provenance_rows(shown, source, applications.note(shown))
                applications.costs(table)
                applications.mirror(shown)
                applications.numbers(table)
        applications.refusals(refused(rows))
    applications.reproduce(chosen, rows)

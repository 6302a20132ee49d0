"""Equivariance: how exact every product is, what failure looks like, and seeing it rotate."""

from __future__ import annotations

from etp.analysis.equivariance import equivariance_finding
from etp.ui import asked, data, equivariance, gallery_page, progress, show, tables
from etp.ui.bar import bar
from etp.ui.frame import page
from etp.ui.plans import CHECKS

with page("Equivariance"):
    chosen = bar(CHECKS)
    shown = data.checks(chosen)
    with progress.place(chosen.checks, measured=shown.source == "run") as run:
        gallery_page.publish(chosen.checks)
        without = asked.products_without(shown.rows, "equivariance", chosen.products)
        said = asked.one_degree(shown.setting, shown.lmax, shown.source, chosen, without)
        other = asked.say(said, running=run.running)
    with asked.answers(stale=other or run.stale):
        checks = tables.equivariance_checks(shown.rows, shown.setting, shown.lmax)
        show.verdict(equivariance_finding(checks))
        show.provenance_rows(shown.rows, shown.source, f"{shown.setting or 'typed irreps'}")
        equivariance.distributions(checks)
        equivariance.rotate(shown.rows)
        equivariance.by_degree(checks)
        equivariance.refusals(checks)

"""Equivariance: how exact every product is, what failure looks like, and seeing it rotate."""

from __future__ import annotations

from etp.analysis.equivariance import drift_finding
from etp.ui import asked, data, equivariance, gallery_page, progress, show, tables
from etp.ui.bar import bar
from etp.ui.frame import page
from etp.ui.plans import CHECKS

with page("Equivariance"):
    chosen = bar(CHECKS)
    shown = data.checks(chosen)
    with progress.place(chosen.checks, measured=shown.source == "run") as run:
        gallery_page.publish(chosen.checks)
        said = asked.one_degree(shown.setting, shown.lmax, shown.source, chosen)
        other = asked.say(said, running=run.running)
    with asked.answers(stale=other or run.stale):
        drift = tables.drift(shown.rows, shown.setting, shown.lmax)
        show.verdict(drift_finding(drift))
        show.provenance_rows(shown.rows, shown.source, f"{shown.setting or 'typed irreps'}")
        equivariance.distributions(drift)
        equivariance.rotate(shown.rows)
        equivariance.by_degree(drift)
        equivariance.refusals(drift)

"""Equivariance: how exact every product is, what failure looks like, and seeing it rotate."""

from __future__ import annotations

from etp.analysis.equivariance import drift_finding
from etp.ui import data, equivariance, gallery_page, jobs, show, tables
from etp.ui.bar import bar
from etp.ui.frame import page
from etp.ui.plans import CHECKS

with page("Equivariance"):
    chosen = bar(CHECKS)
    jobs.panel(chosen.checks)
    gallery_page.publish(chosen.checks)
    shown = data.checks(chosen)
    found = tables.drift(shown.rows, shown.setting, shown.lmax)
    show.verdict(drift_finding(found))
    show.provenance_rows(shown.rows, shown.source, f"{shown.setting or 'typed irreps'}")
    equivariance.distributions(found)
    equivariance.rotate(shown.rows)
    equivariance.by_degree(found)
    equivariance.refusals(found)

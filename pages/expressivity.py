"""Expressivity: what each product can do, counted, and which degrees can interact."""

from __future__ import annotations

import streamlit as st

from etp.analysis.expressivity import counts_finding
from etp.ui import asked, data, expressivity, gallery_page, progress, show, tables
from etp.ui.bar import bar
from etp.ui.frame import page
from etp.ui.plans import COUNTS

with page("Expressivity"):
    chosen = bar(COUNTS)
    shown = data.counted(chosen)
    expressivity.count_by_itself(chosen, shown)
    with progress.place(chosen.counts, measured=shown.source == "run") as run:
        gallery_page.publish(chosen.counts)
        without = asked.products_without(shown.rows, "expressivity", chosen.products)
        said = asked.one_degree(shown.setting, shown.lmax, shown.source, chosen, without)
        other = asked.say(said, running=run.running)
    with asked.answers(stale=other or run.stale):
        counts = tables.counts(shown.rows, shown.setting)
        show.verdict(counts_finding(counts, shown.lmax, typed=shown.setting is None))
        show.provenance_rows(shown.rows, shown.source, "counted in float64, not timed")
        expressivity.headline(counts)
        left, right = st.columns([11, 9], gap="medium")
        with left:
            expressivity.interactability(counts, data.problem_shown(chosen, shown))
        with right:
            expressivity.gammas(counts, shown.lmax)
        expressivity.refusals(counts)

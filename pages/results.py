"""Results: everything stored, what it was measured on, and two machines side by side."""

from __future__ import annotations

import streamlit as st

from etp.analysis.machines import runs
from etp.ui import offered, removal, results, show
from etp.ui.frame import page

with page("Results"):
    rows, titles = results.stored()
    left = results.controls(rows)
    shown_runs = runs(left, titles)
    show.verdict(results.finding(shown_runs))
    wide, narrow = st.columns([12, 8], gap="medium")
    with wide:
        results.listing(shown_runs)
        removal.removal()
        offered.offered()
        results.doubtful(shown_runs)
        removal.set_aside()
        if left:
            results.rows_and_manifest(left)
    with narrow:
        results.machines(shown_runs)

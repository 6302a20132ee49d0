"""Layers: which product should the layers of a model use?"""

from __future__ import annotations

import streamlit as st

from etp.analysis.advice import advice
from etp.ui import asked, compare, gallery_page, jobs, layers, show
from etp.ui.frame import page

with page("Layers"):
    chosen = layers.controls()
    jobs.panel(chosen.layer_run)
    gallery_page.publish(chosen.layer_run)
    view = layers.view(chosen)
    if view is None:
        st.markdown("### Nothing was measured on this layer yet.")
        st.markdown("Run it here: every product takes turns on the same layer.")
    else:
        problem = view.chosen.problem
        asked.say(layers.differs(problem, chosen))
        said = advice(view.chosen)
        show.verdict(layers.found(said))
        show.provenance(view.chosen, view.source)
        compare.hero(view)
        layers.use(problem, said)
        compare.pairs(view)
        compare.table(view)
        st.code(layers.reproduce(problem), language="bash", wrap_lines=True)
        compare.left_out(view)

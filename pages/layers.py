"""Layers: which product should the layers of a model use?"""

from __future__ import annotations

import streamlit as st

from etp.analysis.advice import advice
from etp.ui import asked, compare, gallery_page, layers, progress, show
from etp.ui.frame import page

with page("Layers"):
    chosen = layers.controls()
    view = layers.view(chosen)
    other = False
    measured = view is not None and view.source == "run"
    with progress.place(chosen.layer_run, measured=measured) as run:
        gallery_page.publish(chosen.layer_run)
        if view is not None:
            line = layers.differs(view.chosen.problem, chosen)
            other = asked.say(line, running=run.running)
    if view is None:
        layers.unmeasured(chosen)
    else:
        with asked.answers(stale=other or run.stale):
            said = advice(view.chosen)
            show.verdict(layers.finding(said))
            compare.trust(view, chosen.layer_run)
            show.provenance(view.chosen, view.source)
            compare.hero(view)
            layers.use(view.chosen.problem, said)
            layers.whole(view, chosen)
            layers.turning()
            compare.pairs(view)
            compare.samples(view)
            compare.table(view)
            st.code(layers.reproduce(view.chosen.problem), language="bash", wrap_lines=True)
            compare.left_out(view)

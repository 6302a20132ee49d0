"""The pages of the dashboard, and the bar that leads to them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage
from streamlit.runtime.scriptrunner import get_script_run_ctx

PAGES = (
    ("compare", "Compare"),
    ("layers", "Layers"),
    ("scaling", "Scaling"),
    ("equivariance", "Equivariance"),
    ("expressivity", "Expressivity"),
    ("applications", "Applications"),
    ("results", "Results"),
    ("gallery", "Gallery"),
)
LOGO = Path(__file__).resolve().parent.parent / "assets" / "mark.svg"
_MARK = "navigation_shown"


def navigation() -> StreamlitPage:
    """Show the bar; return the page that the address names."""
    st.logo(str(LOGO), size="small")
    st.session_state[_MARK] = True
    pages = [
        st.Page(f"pages/{name}.py", title=title, default=number == 0)
        for number, (name, title) in enumerate(PAGES)
    ]
    return st.navigation(pages, position="top")


def ensure_navigation() -> None:
    """Show the bar on a page that was opened by its address before the start page ever ran.

    Streamlit then runs the page's own file, without ``app.py`` and its bar.
    """
    context = get_script_run_ctx()
    alone = context is None or Path(context.main_script_path).name != "app.py"
    if not st.session_state.pop(_MARK, False) and not alone:
        navigation()
        st.session_state.pop(_MARK, None)

"""The dashboard: the list of its pages, nothing else. Start it with ``streamlit run app.py``."""

import streamlit as st

from etp.ui.frame import LOGO

PAGES = (
    ("pages/compare.py", "Compare"),
    ("pages/equivariance.py", "Equivariance"),
    ("pages/expressivity.py", "Expressivity"),
)

# Worker processes import this file under another name; only the server shows pages.
if __name__ == "__main__":
    st.logo(str(LOGO), size="small")
    pages = [
        st.Page(path, title=title, default=number == 0)
        for number, (path, title) in enumerate(PAGES)
    ]
    st.navigation(pages, position="top").run()

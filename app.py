"""The dashboard. Start it with ``streamlit run app.py``; its pages are in ``pages/``."""

from streamlit.starlette import App

from etp.ui.navigation import navigation
from etp.ui.server import parts

if __name__ == "__main__":
    navigation().run()
else:
    # The server imports this file.
    app = App(__file__, **parts())

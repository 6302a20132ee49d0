"""The dashboard. Start it with ``streamlit run app.py``; its pages are in ``pages/``."""

from etp.ui.navigation import navigation

# Worker processes import this file under another name; only the server shows pages.
if __name__ == "__main__":
    navigation().run()

"""Pages by AppTest, and what is on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))


def open_page(name: str, *, unfolded: Sequence[str] = (), **query: str) -> AppTest:
    """A page by its address, with what is folded away opened where its key is given."""
    page = AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=60)
    for key in unfolded:
        page.session_state[key] = True
    for key, value in query.items():
        page.query_params[key] = value
    return page.run()


def text_of(page: AppTest) -> str:
    parts = [*page.markdown, *page.caption, *page.error, *page.warning]
    # What parts an address or an icon has no width.
    return "\n".join(str(part.value) for part in parts).replace("\u2060", "")


def charts_of(page: AppTest) -> int:
    return len(page.get("arrow_vega_lite_chart")) + len(page.get("vega_lite_chart"))


def dimmed(page) -> bool:
    """Whether results are shown as no answer to what is asked."""
    return any("st-key-answers" in style.proto.body for style in page.get("html"))

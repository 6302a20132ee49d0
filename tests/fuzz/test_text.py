"""Text of others on a page is text, looked at in a browser; in a CSV it is no formula."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from etp.ui.plain import csv, plain
from tests.network import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = (
    "**bold** _it_ `code` ~~gone~~", "[link](https://evil.example)", "![p](https://evil.example/p)",
    "https://evil.example/x", "www.evil.example", "mail me@evil.example", "<b>b</b> <https://e.ex>",
    "$x^2$ and $$y$$", ":material/home: :smile: :red[red] :red-badge[b]", "# head", "- item",
    "1. item", "12) item", "> quote", "&lt;b&gt; &amp;", "a\n\n# b", "| a | b |", "\\*x\\*", "=1+1",
    ":streamlit:", "[x]: https://evil.example", "HTTP://EVIL.EXAMPLE", "xmpp:a@b.example",
)  # fmt: skip

MARKUP = (
    "a[target]", "img", "code", "em", "del", ".katex", "h1", "li", "blockquote", "table", "b",
    "[data-testid=stIconMaterial]",
)  # fmt: skip


def test_no_text_is_a_formula():
    table = pd.DataFrame({
        "product": ["=HYPERLINK(1)", "+1", "-x", "@a", "\t=1", "cg-sparse"], "badges": [["=1"]] * 6,
        "time": [-1.5] * 6,
    })  # fmt: skip
    lines = csv(table).decode().splitlines()
    assert [line[0] for line in lines[1:4]] == ["'", "'", "'"]
    assert lines[1] == "'=HYPERLINK(1),'=1,-1.5"
    assert lines[-1] == "cg-sparse,'=1,-1.5"


def test_names_of_the_field_stay_as_they_are():
    for text in ("At lmax 4, cg-sparse does the same operation 3.2× faster.", "32x0e + 32x1o"):
        assert plain(text) == text


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium")
@pytest.mark.filterwarnings("ignore")
def test_a_browser_makes_nothing_of_it(tmp_path):
    from playwright.sync_api import sync_playwright

    script = tmp_path / "page.py"
    shown = [plain(text) for text in EVIL]
    script.write_text(
        f"import streamlit as st\nfor text in {shown!r}:\n"
        "    st.markdown(text)\n    st.caption(text)\n    st.markdown(f'### {text}')\n"
        "    st.markdown(f'**{text}** :gray[{text}]')\nst.error('the end')\n"
    )
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.headless=true"]
    command += [f"--server.port={port}", "--server.address=127.0.0.1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}")
                page.get_by_text("the end").wait_for(timeout=90_000)
                body = page.locator("[data-testid=stMarkdownContainer]")
                for made in MARKUP:
                    inside = body.locator(made)
                    assert inside.count() == 0, inside.first.inner_html()
                said = {text.replace("\u2060", "") for text in body.all_inner_texts()}
                assert {" ".join(text.split()) for text in EVIL} <= said
                browser.close()
        finally:
            process.terminate()

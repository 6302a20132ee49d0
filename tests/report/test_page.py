"""Results as files: whole without a server, alive without a network; text of rows stays text."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from etp import report
from etp.cli.main import main
from etp.problem import Problem
from etp.results.rows import Row
from etp.results.store import Store
from tests import make

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = '</script><img src=x onerror="document.title=1">$x$ <b>&'


def rows(job: str = "abc", name: str = "gaunt-grid") -> list[Row]:
    made = []
    for lmax in (2, 3):
        problem = Problem.of_setting("MIMO", lmax)
        times = {"cg-sparse": 1e-3, name: 4e-4}
        made += make.run_of(times, twin="cg-sparse", problem=problem, group=f"g{lmax}")
        made += [make.expressivity(product, 9 + lmax, problem) for product in times]
    return [row.with_(job=job) for row in made]


def stored(tmp_path, **changes) -> Store:
    store = Store(tmp_path / "etp.sqlite")
    store.add_job("abc", "Compare", [{"problem": {}}])
    store.add_rows(rows(**changes))
    store.update_job("abc", state="done", published=1.0)
    return store


def test_what_a_row_says_is_text():
    text = report.page(rows(name=EVIL), EVIL)
    assert "<img src=x" not in text
    assert text.count("</script>") == 4
    data = re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', text)
    assert EVIL in json.loads(dict(data)["rows"]).replace('\\"', '"')
    assert set(json.loads(dict(data)["charts"])) == {"growth", *(f"chart{n}" for n in range(4))}


def test_nothing_timed_is_said():
    with pytest.raises(ValueError, match="at least one timed"):
        report.page([make.expressivity("a", 3)], "t")


def test_the_command_line_writes_a_run_and_a_site(tmp_path, capsys):
    store = ["--store", str(stored(tmp_path).path)]
    out = tmp_path / "run.html"
    assert main(["export", "--html", str(out), *store]) == 0
    assert "Compare: MIMO, lmax 3" in out.read_text()
    assert main(["export", "--html", str(out), "--run", "none", *store]) == 2
    assert main(["export", "--out", str(out), "--run", "abc", *store]) == 2
    site = tmp_path / "site"
    assert main(["export", "--site", str(site), *store]) == 0
    assert main(["export", "--site", str(site), *store]) == 0
    assert {path.name for path in site.iterdir()} == {
        "index.html", "abc.html", "abc.png", ".etp-site",
    }  # fmt: skip
    assert 'href="abc.html"' in (site / "index.html").read_text()
    # What was taken out of the gallery is taken out of the site, and nothing else is.
    Store(store[1]).update_job("abc", published=None)
    (site / "CNAME").touch()
    assert main(["export", "--site", str(site), *store]) == 0
    assert {path.name for path in site.iterdir()} == {"index.html", "CNAME", ".etp-site"}
    assert "abc.html" not in (site / "index.html").read_text()
    assert main(["export", "--site", str(tmp_path / "other"), *store]) == 2
    assert "press Publish under it" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    Store(store[1]).update_job("abc", published=1.0)
    assert main(["export", "--site", str(tmp_path / "mine"), *store]) == 2
    assert "empty folder" in capsys.readouterr().err


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium")
@pytest.mark.filterwarnings("ignore")
def test_a_browser_without_a_network_draws_every_chart(tmp_path):
    from playwright.sync_api import sync_playwright

    path = tmp_path / "run.html"
    path.write_text(report.page(rows(name=EVIL), "t"), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        context = browser.new_context(offline=True, accept_downloads=True)
        page = context.new_page()
        wrong: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        for place in ("growth", "chart0", "chart1", "chart2", "chart3"):
            page.wait_for_selector(f"#{place} svg .mark-symbol path", timeout=90_000)
        assert not wrong
        assert {url for url in asked if not url.startswith("blob:")} == {path.as_uri()}
        # Alive: what lies under the pointer is told.
        page.locator("#chart0 svg .mark-symbol path").first.hover(force=True)
        page.wait_for_selector("#vg-tooltip-element.visible", timeout=90_000)
        assert page.title() == "t"
        with page.expect_download() as kept:
            page.click("#download")
        lines = kept.value.path().read_text().splitlines()
        assert len(lines) == len(rows())
        browser.close()

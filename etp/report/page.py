"""Comparisons as one HTML file: charts alive, data inside, no server and no network.

Whatever a row says is text on the page: it is escaped, and a policy inside the file keeps the
browser from fetching anything at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from typing import Any

from etp import charts
from etp.analysis.comparison import Comparison, comparisons
from etp.analysis.findings import finding, pair_sentence
from etp.analysis.tables import frame, judged_frame, shown, timed_frame, tradeoff_frame
from etp.report.published import question
from etp.results.rows import Row, jsonl

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 sans-serif; color: #1C2127; background: #fff; max-width: 1100px;
  margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
.quiet { color: #5b6470; font-size: .9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 1.5rem; }
.chart { width: 100%; min-width: 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { border-bottom: 1px solid #DDE1E6; padding: .3rem .7rem; text-align: left; }
"""
HEADS = {
    "median": "median, ms", "quartiles": "quartiles, ms", "gamma": "γ", "us_per_gamma": "µs per γ",
    "error": "equiv. error, max", "first": "first call, ms", "wall": "wall, ms",
    "memory": "peak memory, MB",
}  # fmt: skip
"""Heads of columns, with units, where the name of the column is another."""
SCRIPT = """
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const actions = { export: true, source: false, compiled: false, editor: false };
for (const [id, spec] of Object.entries(read("charts")))
  vegaEmbed("#" + id, spec, { actions, ast: false, renderer: "svg" });
const rows = new Blob([read("rows")], { type: "application/jsonl" });
document.getElementById("download").href = URL.createObjectURL(rows);
"""


def page(rows: Sequence[Row], title: str) -> str:
    """An HTML document of every comparison that was timed.

    Args:
        rows: Of one machine, such as those of one run.
        title: Heading of the page; any text.

    Raises:
        ValueError: If nothing was timed.
    """
    timed = [comparison for comparison in comparisons(rows) if comparison.timed]
    if not timed:
        raise ValueError("rows must hold at least one timed product, got none")
    specs: dict[str, Any] = {}
    body = "".join(_section(comparison, specs) for comparison in timed)
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{text(title)}</h1>{_growth(timed, specs)}{body}"
        '<p><a id="download" download="etp.jsonl">All rows (JSON Lines)</a></p>'
        f"{_data('charts', specs)}{_data('rows', jsonl(rows))}"
        f"<script>{_vega()}</script><script>{SCRIPT}</script></body></html>"
    )


def _section(comparison: Comparison, specs: dict[str, Any]) -> str:
    """Verdict, charts, table and every pair of one comparison."""
    said = finding(comparison)
    table = frame(comparison)
    timed = table[table["valid"]].sort_values("median_s").reset_index(drop=True)
    judged = judged_frame(comparison)
    number, base = len(specs), comparison.baseline
    pictures: dict[str, Any] = {}
    if not (placed := tradeoff_frame(timed)).empty:
        pictures["What a millisecond buys"] = charts.tradeoff(placed, "light", base)
    if not judged.empty:
        floor = comparison.judgement.floor
        pictures["How sure is that?"] = charts.ratio(judged, "light", base, floor)
    places = "".join(
        _chart(f"chart{number + place}", name, picture, specs)
        for place, (name, picture) in enumerate(pictures.items())
    )
    pairs = "".join(
        f"<li>{text(pair_sentence(comparison, p))}" for p in comparison.judgement.verdicts
    )
    environment = comparison.environment()
    where = [question(comparison), environment.get("device_name"), environment.get("date")]
    return (
        f"<section><h2>{text(said.heading)}</h2>"
        f"<p>{text(said.meaning)} <span class=quiet>{text(said.doubt)}</span></p>"
        f"<p class=quiet>{text(' · '.join(map(str, filter(None, where))))}</p>"
        f"<div class=charts>{places}</div>"
        f"<div class=table>{_table(shown(timed, base))}</div><ul>{pairs}</ul></section>"
    )


def _growth(timed: Sequence[Comparison], specs: dict[str, Any]) -> str:
    """Runtime over lmax, where there are several."""
    # Where something else differs as well, a line would join what does not belong together.
    degrees = {comparison.problem.lmax for comparison in timed}
    same = {
        (comparison.problem.setting, comparison.problem.batch, comparison.problem.channels)
        for comparison in timed
    }
    if len(degrees) < max(2, len(timed)) or len(same) > 1:
        return ""
    picture = charts.runtime_lines(timed_frame(timed), "light", "lmax")
    return f"<div class=charts>{_chart('growth', 'Runtime', picture, specs)}</div>"


def _chart(place: str, name: str, picture: Any, specs: dict[str, Any]) -> str:
    spec = picture.to_dict()
    specs[place] = spec | {"width": "container"}
    words = text(spec.get("description", name))
    return (
        f'<figure class=chart><h3>{text(name)}</h3><div class=chart id="{place}" role="img"'
        f' aria-label="{words}"></div></figure>'
    )


def _table(lines: Any) -> str:
    """A data frame as text; lists in it are joined."""
    head = "".join(f"<th>{text(HEADS.get(name, name))}" for name in lines.columns)
    body = "".join(f"<tr>{_cells(line)}" for line in lines.itertuples(index=False))
    return f"<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"


def _cells(values: Iterable[object]) -> str:
    return "".join(f"<td>{text(_cell(value))}" for value in values)


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return "" if value is None else str(value)


def text(given: object) -> str:
    """Text of anybody as it is: nothing in it is markup, and lone surrogates are marked."""
    return escape(str(given).encode("utf-8", "replace").decode("utf-8"), quote=True)


def _data(name: str, value: object) -> str:
    """JSON that no text in it can end."""
    body = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{body}</script>'


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, from the package that draws exports."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # Inside a string this is the same text; in the page it would end the script.
    return f"(() => {{{bundle}}})();".replace("</script", "<\\/script")

"""Blocks that every page shows the same way: heads, findings, charts, tables, reproduction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import altair as alt
import pandas as pd
import streamlit as st

from etp import charts, report
from etp.analysis.comparison import Comparison
from etp.analysis.findings import Finding
from etp.charts.spec import Unchecked, picked, specification
from etp.problem import Problem
from etp.report.figure import FORMS, WIDTHS, Figure, Form
from etp.results.rows import Row, jsonl
from etp.text import batch_text, counted
from etp.ui import folded
from etp.ui.kept import kept
from etp.ui.plain import csv, plain
from etp.ui.session import choose, settings
from etp.ui.settings import Settings


@dataclass(frozen=True)
class Badge:
    """Colour of a badge, and what it means."""

    colour: str
    meaning: str


BADGES = {
    "missing paths": Badge(
        "orange",
        "Some paths that symmetry allows have weight zero: it does less than the full product.",
    ),
    "approximate": Badge(
        "orange",
        "Its error is above the gate and it says that it approximates: timed, with the error "
        "shown, and never the same operation.",
    ),
    "sums paths": Badge(
        "blue",
        "Paths that lead to one irrep are added up; the full product keeps them apart.",
    ),
    "own layout": Badge(
        "blue",
        "Timed in the layout of its own library: reordering and scaling its output to ours is "
        "checked, but not counted, since its users would not pay for it.",
    ),
    "SO(3) only": Badge("orange", "Right under rotations, wrong under inversion."),
    "launch-bound": Badge(
        "orange",
        "A call is so short that making it takes most of the time: choose a larger batch to "
        "compare the work itself.",
    ),
    "clock too coarse": Badge(
        "orange", "What is timed at once lasts less than 200 steps of the clock."
    ),
    "noisy": Badge(
        "orange",
        "Quartiles are more than 25 % of the median apart; verdicts rest on pairs of the same "
        "round and hold all the same.",
    ),
    "stopped early": Badge(
        "orange", "It was cancelled, or the time budget ended, before all rounds were done."
    ),
    "empty output": Badge(
        "red", "No path leads to the outputs asked for: there is nothing to time."
    ),
    "identical zero": Badge("red", "Its output is zero for every input: nothing to time."),
    "wrong answer": Badge(
        "red", "It differs from the float64 oracle or is not equivariant: never ranked."
    ),
    "does not apply": Badge("gray", "It cannot do this problem; the reason is given."),
    "unavailable": Badge("gray", "It cannot run here; the reason is given."),
    "failed": Badge("red", "It broke while it was checked; the error is given."),
    "published": Badge(
        "blue",
        "A figure of the paper (arXiv 2506.13523), of its authors' own code and machine: shown, "
        "and never ranked against rows measured here.",
    ),
    "set-up timed": Badge("red", "The time holds more than the product; the reason is given."),
    "no quartiles": Badge("orange", "The file gives one number per case, without spread."),
    "missing": Badge("orange", "The file holds no time for this case."),
}


def head(title: str, caption: str) -> None:
    """Title of a chart, and how to read it."""
    with st.container(gap=None):
        st.markdown(f"##### {plain(title)}")
        st.caption(plain(caption))


def wrong(said: str) -> None:
    """What is wrong, small and red; a caption would be too pale to read."""
    st.markdown(f":small[:red[{plain(said)}]]")


def verdict(finding: Finding) -> None:
    """The finding in words, first."""
    with st.container(gap=None):
        st.markdown(f"### {plain(finding.heading)}")
        doubt = f"  :gray[{plain(finding.doubt)}]" if finding.doubt else ""
        st.markdown(f"{plain(finding.meaning)}{doubt}")


def provenance(comparison: Comparison, source: str) -> None:
    """One line that says where the numbers come from."""
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        if source == "reference":
            st.badge(
                "reference results",
                icon=":material/inventory_2:",
                help="Measured before, on the machine named here. Run here to see your own.",
            )
        for flag in comparison.judgement.flags:
            st.badge(flag.name, color="orange", help=flag.detail)
        st.caption(plain(provenance_text(comparison)), width="content")
        copy_link()


def provenance_rows(
    rows: Sequence[Row], source: str, note: str, flags: Sequence[tuple[str, str]] = ()
) -> None:
    """One line that says where rows of several problems come from.

    Args:
        rows: Of one machine.
        source: ``"run"``, or ``"reference"`` for a badge that says so.
        note: What else they have in common.
        flags: Badges of their own, each with what it means.
    """
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        if source == "reference":
            st.badge("reference results", icon=":material/inventory_2:")
        if source == "published":
            st.badge(
                "published results",
                icon=":material/menu_book:",
                help=BADGES["published"].meaning,
            )
        for name, meaning in flags:
            st.badge(name, color="orange", help=meaning)
        environment = rows[-1]["environment"] if rows else {}
        parts = [
            environment.get("device_name"),
            f"torch {environment['torch']}" if "torch" in environment else None,
            note,
            str(environment.get("date", ""))[:10] or None,
        ]
        st.caption(plain(" · ".join(str(part) for part in parts if part)), width="content")
        copy_link()


def refusal(product: str, reason: str | None, badges: Sequence[str]) -> None:
    """A product that is not shown, and why."""
    worn = " ".join(f":red-badge[{plain(badge)}]" for badge in badges)
    st.markdown(f"**{plain(product)}** {worn} {plain(reason or 'was not timed')}")


_COPY = """
export default function ({ parentElement }) {
  const button = parentElement.querySelector("button");
  const copied = () => {
    button.textContent = "Link copied";
    setTimeout(() => { button.textContent = "Copy link"; }, 2000);
  };
  button.onclick = () => {
    const link = window.location.href;
    const plainly = () => {
      // Without TLS a browser has no clipboard for pages.
      const field = document.body.appendChild(document.createElement("textarea"));
      field.value = link;
      field.select();
      document.execCommand("copy");
      field.remove();
      copied();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(link).then(copied, plainly);
    else plainly();
  };
}
"""
_COPY_STYLE = """
button { font: 12px var(--st-font); color: var(--st-text-color); cursor: pointer;
  background: var(--st-background-color); border: 1px solid var(--st-border-color);
  border-radius: 6px; padding: 0.15rem 0.6rem; white-space: nowrap; }
button:focus-visible { outline: 2px solid var(--st-primary-color); }
"""


def copy_link() -> None:
    """A button that copies the address of this view: everything chosen is in it."""
    made = st.components.v2.component(
        "etp_copy_link",
        html='<button type="button">Copy link</button>',
        css=_COPY_STYLE,
        js=_COPY,
    )
    made(key="copy_link", width="content")


def provenance_text(comparison: Comparison) -> str:
    """Device, versions, sizes, rounds and date."""
    environment, problem = comparison.environment(), comparison.problem
    threads, cores = environment.get("threads"), environment.get("cores")
    parts = [
        environment.get("device_name") or environment.get("device"),
        None if threads is None else f"{threads}{'' if cores is None else f' of {cores}'} threads",
        None if environment.get("torch") is None else f"torch {environment['torch']}",
        problem.dtype,
        _size_words(problem),
        f"{problem.direction}, {problem.cache}",
        str(environment.get("date", ""))[:10] or None,
    ]
    return " · ".join(str(part) for part in parts if part)


def _size_words(problem: Problem) -> str:
    """How much one call does, as the controls of its page call it."""
    if problem.kind == "power":
        return f"{counted(problem.batch, 'node')} × {counted(problem.channels, 'channel')}"
    if problem.kind != "pair":
        # Their irreps say the channels.
        return counted(problem.batch, "edge")
    own = problem.setting is None and problem.channels == 1
    return batch_text(problem.batch, None if own else problem.channels)


def chart(
    draw: Callable[..., alt.LayerChart],
    *args: Any,
    key: str,
    pick: str | None = None,
    selects: bool = False,
    width: Literal["stretch", "content"] = "stretch",
) -> None:
    """A chart; its description is its finding.

    Args:
        draw: Draws it.
        *args: What ``draw`` is given: tables that were kept, so that the chart is drawn once.
        key: Name on the page.
        pick: A product to keep bright while the others fade.
        selects: Whether a click picks a product.
        width: Whether it fills its place, or has a width of its own.
    """
    spec = finished(draw, *args)
    if pick is not None:
        spec = picked_out(spec, pick)
    if not selects:
        st.vega_lite_chart(spec, theme=None, key=key, width=width)
        return
    st.vega_lite_chart(
        spec,
        theme=None,
        width=width,
        key=key,
        on_select=partial(_picked, key),
        selection_mode=[charts.PICK],
    )


@kept(300)
def finished(draw: Callable[..., alt.LayerChart], *args: Any) -> dict[str, Any]:
    """The specification of a chart, drawn when it is asked for the first time."""
    with Unchecked():
        return specification(draw(*args))


picked_out = kept(300)(picked)


@kept(200)
def sent(table: pd.DataFrame) -> Any:
    """A table as browsers get it, made once: what ``st.dataframe`` makes of it at every rerun."""
    import pyarrow as pa  # type: ignore[import-untyped]

    return pa.Table.from_pandas(table)


def _picked(key: str) -> None:
    points = st.session_state[key].selection.get(charts.PICK) or []
    choose(pick=points[0].get("product") if points else None)


_MIME: dict[Form, str] = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}


def export_buttons(figure: Figure, name: str) -> None:
    """Vector and pixel files of a figure at the widths of a paper, drawn when asked for.

    Args:
        figure: What is exported.
        name: Of its files.
    """
    st.caption(f"{figure.title}: with title and caption")
    for width, inches in WIDTHS.items():
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
            for form in FORMS:
                st.download_button(
                    form.upper(),
                    data=partial(figure.file, form, inches),
                    file_name=f"{name}-{width.replace(' ', '-')}.{form}",
                    mime=_MIME[form],
                    on_click="ignore",
                    key=f"export_{name}_{width}_{form}",
                    help=f"{name}, {width}, {inches} in",
                )
            st.caption(width)
    st.download_button(
        "Caption and BibTeX",
        data=lambda: figure.words().encode(),
        file_name=f"{name}.txt",
        mime="text/plain",
        on_click="ignore",
        key=f"export_{name}_words",
        icon=":material/format_quote:",
    )


def downloads(
    table: pd.DataFrame, rows: Callable[[], Sequence[Row]], figures: Mapping[str, Figure]
) -> None:
    """Everything on the page as files."""
    content = partial(_files, table, rows, figures)
    folded.popover("Download", content, key="download", icon="download")


def _files(
    table: pd.DataFrame, rows: Callable[[], Sequence[Row]], figures: Mapping[str, Figure]
) -> None:
    st.download_button(
        "Table (CSV)",
        data=lambda: csv(table),
        file_name="etp.csv",
        mime="text/csv",
        on_click="ignore",
    )
    st.download_button(
        "Results with manifests (JSON Lines)",
        data=lambda: jsonl(rows()).encode(),
        file_name="etp.jsonl",
        mime="application/jsonl",
        on_click="ignore",
    )
    st.download_button(
        "This comparison as one page (HTML)",
        data=lambda: report.page(rows(), "Equivariant tensor products compared").encode(),
        file_name="etp.html",
        mime="text/html",
        on_click="ignore",
        help="Charts alive and data inside: opens anywhere, without a server or a network",
        disabled=table.empty or not table["valid"].any(),
    )
    for name, figure in figures.items():
        export_buttons(figure, name)


def pick_row(names: Sequence[str], key: str) -> Callable[[], None]:
    """Callback of a table: the chosen line picks its product."""

    def picked() -> None:
        chosen = st.session_state[key].selection.rows
        choose(pick=names[chosen[0]] if chosen else None)

    return picked


def reproduce(
    comparison: Comparison, chosen: Settings, written: Callable[[], str] | None = None
) -> None:
    """Manifest, command (unless ``written`` gives another) and Python for what is shown."""
    folded.expander(
        "Reproduce this: manifest, command, Python",
        partial(_reproduced, comparison, chosen, written or chosen.command),
        key="reproduce",
        icon="terminal",
    )


def _reproduced(comparison: Comparison, chosen: Settings, written: Callable[[], str]) -> None:
    try:
        command, snippet = written(), chosen.snippet(settings().pick or comparison.baseline)
    except ValueError as error:
        command = snippet = f"# cannot be written: {error}"
    left, right = st.columns([1, 1], gap="medium")
    with left:
        st.caption("Command line")
        st.code(command, language="bash", wrap_lines=True)
        st.caption("Python")
        st.code(snippet, language="python")
    with right:
        st.caption("Manifest")
        st.dataframe(manifest(comparison.environment()), hide_index=True, height=320)


def manifest(environment: Mapping[str, Any]) -> pd.DataFrame:
    """Environment as two columns of text."""
    flat = [
        (name, value)
        for name, value in environment.items()
        if not isinstance(value, dict) and value is not None
    ]
    flat += [(f"flags.{name}", value) for name, value in environment.get("flags", {}).items()]
    return pd.DataFrame([(name, str(value)) for name, value in flat], columns=["what", "value"])

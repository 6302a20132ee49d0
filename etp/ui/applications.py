"""Parts of the applications page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import get_args

import pandas as pd
import streamlit as st

from etp import charts
from etp.analysis.learning import potential_finding
from etp.analysis.step_time import claim, load_flags, step_finding
from etp.experiments.pieces import NAMES
from etp.experiments.settings import POWERS, LearnedWeights, PotentialSettings, TetrisSettings
from etp.measure.flags import Flag
from etp.options import declared
from etp.results.reference import potential_rows, step_rows, trained_rows
from etp.results.rows import Row
from etp.text import power_text, time_text
from etp.ui import bar, data, folded, jobs, show, tables
from etp.ui.frame import mode, on_phone
from etp.ui.kept import kept
from etp.ui.plans import POTENTIAL, STEP_TIME, TETRIS, PagePlan, potential_settings, tetris_settings
from etp.ui.session import bound, settings
from etp.ui.settings import Settings

SEEDS = tuple(range(10))
_OPTIONS = declared(TetrisSettings)


_STUDIES = {"tetris": "Tetris", "potential": "Potential", "step-time": "Step time"}
_POTENTIAL = declared(PotentialSettings)


def controls() -> Settings:
    """What is asked, products, the network and the run button; return what is chosen."""
    st.segmented_control(
        "Application", list(_STUDIES), required=True, format_func=_STUDIES.__getitem__,
        label_visibility="collapsed", **bound("study", "default"),
    )  # fmt: skip
    if settings().study == "potential":
        return _potential_controls()
    if settings().study == "step-time":
        return _step_controls()
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        chosen = settings()
        _products_popover(chosen)
        label = f"{chosen.layers} layers × {chosen.width} channels"
        with st.popover(label, icon=":material/layers:", key="bar_network"):
            _network()
        _seeds_popover(chosen)
        errors = bar.run_button(TETRIS, chosen, lambda: _about(TETRIS, chosen))
    bar.refusals(TETRIS, chosen, errors)
    return settings()


def _products_popover(chosen: Settings) -> None:
    count = len(chosen.products)
    label = f"{count} product{'' if count == 1 else 's'}"
    with st.popover(label, icon=":material/category:", key="bar_products"):
        _products(chosen)


def _seeds_popover(chosen: Settings) -> None:
    label = f"seed{'' if len(chosen.seeds) == 1 else 's'} {', '.join(map(str, chosen.seeds))}"
    with st.popover(label, icon=":material/casino:", key="bar_seeds"):
        st.pills(
            "Seeds", sorted({*SEEDS, *chosen.seeds}), selection_mode="multi",
            help="A training for each: first weights and the order of what is seen.",
            **bound("seeds", "default"),
        )  # fmt: skip


def _potential_controls() -> Settings:
    chosen = settings()
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        _products_popover(chosen)
        label = f"power {chosen.power}, {chosen.training_steps} steps"
        with st.popover(label, icon=":material/layers:", key="bar_training"):
            st.selectbox(
                "Power", POWERS, help=_POTENTIAL["power"].help,
                **bound("power", "index", POWERS),
            )  # fmt: skip
            st.number_input("Steps", 1, 100_000, help="Of Adam.", **bound("training_steps"))
        _seeds_popover(chosen)
        errors = bar.run_button(POTENTIAL, chosen, lambda: _about(POTENTIAL, chosen))
    bar.refusals(POTENTIAL, chosen, errors)
    return settings()


def _step_controls() -> Settings:
    chosen = settings()
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        with st.popover(
            f"{chosen.step_channels} channels", icon=":material/layers:", key="bar_steps"
        ):
            st.number_input("Channels", 1, 1024, **bound("step_channels"))
        errors = bar.run_button(
            STEP_TIME, chosen,
            lambda: f"about {time_text(STEP_TIME.seconds(chosen), 2)}; convolutions run "
            f"{chosen.products[0]}",
        )  # fmt: skip
    bar.refusals(STEP_TIME, chosen, errors)
    return settings()


def _products(chosen: Settings) -> None:
    entries = {entry.name: entry for entry in jobs.catalog().entries(wait_s=0.05)}
    there = [name for name, entry in entries.items() if entry.unavailable is None]
    st.pills(
        "Products", list(dict.fromkeys([*there, *chosen.products])), selection_mode="multi",
        **bound("products", "default"),
    )  # fmt: skip
    if not entries:
        st.caption(jobs.catalog().error or "Looking for all products …")


def _network() -> None:
    for field, name in (("layers", "layers"), ("width", "channels")):
        about = _OPTIONS[name]
        st.number_input(about.label, about.low, about.high, help=about.help, **bound(field))
    about = _OPTIONS["weights"]
    st.segmented_control(
        about.label, get_args(LearnedWeights), required=True, format_func=about.called,
        help=about.help, **bound("learning_weights", "default"),
    )  # fmt: skip


def _about(plan: PagePlan, chosen: Settings) -> str:
    return (
        f"{len(chosen.products)} products × {len(chosen.seeds)} seeds · about "
        f"{time_text(plan.seconds(chosen), 2)}"
    )


_BUNDLED = {"tetris": trained_rows, "potential": potential_rows, "step-time": step_rows}


def job(chosen: Settings) -> str | None:
    """The run in the address."""
    return {
        "tetris": chosen.tetris, "potential": chosen.potential, "step-time": chosen.steps_run
    }[chosen.study]  # fmt: skip


def rows(chosen: Settings) -> tuple[list[Row], str]:
    """Rows of the run in the address; the bundled ones where it has none yet."""
    job_id = job(chosen)
    run_rows = data.job_rows(job_id) if job_id else []
    if any(row.measure == chosen.study and row.status == "ok" for row in run_rows):
        return run_rows, "run"
    return _BUNDLED[chosen.study](), "reference"


def note(shown: Sequence[Row]) -> str:
    """What the trainings shown have in common."""
    first = shown[0]
    layers, channels = first.measured["layers"], first.problem["channels"]
    words = _OPTIONS["weights"].called(first.problem["weights"])
    return f"{layers} layers × {channels} channels, lmax {first.problem['lmax']}, {words}"


def costs(table: pd.DataFrame) -> None:
    """Right answers against the time of a step, and against expressivity."""
    left, right = st.columns(2, gap="medium")
    width = _half()
    with left:
        show.head("What a step of training buys", "pieces named rightly; rules: all seeds")
        show.chart(charts.learned, table, mode(), "step_s", width, key="learned_time")
    with right:
        show.head("What expressivity buys", "γ counts the independent bilinear maps of a layer")
        show.chart(charts.learned, table, mode(), "gamma", width, key="learned_gamma")


def _half() -> int:
    """Least width of half a page: names that stand apart there do so on wider ones."""
    return 340 if on_phone() else 430


def potential(shown: Sequence[Row], source: str) -> None:
    """Forces learned at equal steps and at equal time, against cost and expressivity."""
    table = tables.potential_frame(shown)
    flags = load_flags(shown)
    show.verdict(potential_finding(table, flags))
    if table.empty:
        return
    first = shown[0]
    about = f"{first.measured['layers']} layers × {first.problem['channels']} channels, power "
    about += f"{first.measured['power']}, lmax {first.problem['lmax']}"
    show.provenance_rows(shown, source, about, _badges(flags))
    width = _half()
    left, right = st.columns(2, gap="medium")
    with left:
        doubt = "".join(f"; times: {flag.name}" for flag in flags)
        show.head("At equal time", f"validation, trained side by side; rules: all seeds{doubt}")
        timed = tables.curves(shown, "check_s")
        show.chart(charts.curves, timed, mode(), "check_s", width, key="curves_time")
        show.head("What a step of training buys", "test set after the last step; rules: all seeds")
        show.chart(charts.forces, table, mode(), "step_s", width, key="forces_time")
    with right:
        show.head("At equal steps", "validation; rules: all seeds")
        stepped = tables.curves(shown, "check_steps")
        show.chart(charts.curves, stepped, mode(), "check_steps", key="curves_steps")
        show.head("What expressivity buys", "γ counts the independent bilinear maps of a layer")
        show.chart(charts.forces, table, mode(), "gamma", width, key="forces_gamma")
    folded.expander("All numbers", partial(_errors, table), key="numbers", icon="table_rows")


def _errors(table: pd.DataFrame) -> None:
    st.dataframe(
        pd.DataFrame(
            {
                "product": table["product"],
                "forces, meV/Å": table["force"].round(1),
                "at equal time": table["in_time"].round(1),
                "other temperature": table["hot"].round(1),
                "energy, meV": table["energy"].round(1),
                "a step": table["step_s"].map(time_text),
                "γ": table["gamma"],
                "seeds": table["seeds"],
            }
        ),
        hide_index=True,
    )


def steps(shown: Sequence[Row], source: str) -> None:
    """What a step costs with each power, and what part of it the powers are."""
    done = [row for row in shown if row.measure == "step-time" and row.status == "ok"]
    sizes = sorted({row.problem["channels"] for row in done})
    by = {size: [row for row in done if row.problem["channels"] == size] for size in sizes}
    show.verdict(step_finding(by[sizes[-1]] if sizes else []))
    if not done:
        return
    about = f"{', '.join(map(str, sizes))} channels, lmax {done[0].problem['lmax']}"
    show.provenance_rows(done, source, about, _badges(load_flags(done)))
    for size, own in by.items():
        show.head(f"{size} channels", "ratios and shares are paired within rounds")
        st.dataframe(tables.steps(own), hide_index=True)
        if size != sizes[-1]:
            st.markdown(claim(own))


def _badges(flags: Sequence[Flag]) -> list[tuple[str, str]]:
    return [(flag.name, flag.detail) for flag in flags]


def mirror(shown: Sequence[Row]) -> None:
    """One product: the piece and its mirror image, what it says of each, and its confusions."""
    shown = _seen(shown)
    if not shown:
        return
    names = list(dict.fromkeys(row.product for row in shown))
    show.head(
        "A piece and its mirror image", "what a trained network says of each; the first seed shown"
    )
    wanted = (settings().mirror, settings().pick, *names)
    # Not beside the title: there they would not wrap, and a phone would show the first few.
    product = st.pills(
        "Product shown", names, required=True, label_visibility="collapsed",
        **bound("mirror", "default", shown=next(p for p in wanted if p in names)),
    )  # fmt: skip
    row = next(row for row in shown if row.product == product)
    seen, mirrored = row.measured["seen"], row.measured["seen_mirrored"]
    left, right = st.columns([1, 1], gap="medium")
    with left:
        said = (f"called {_said(seen)}", f"called {_said(mirrored)}")
        st.plotly_chart(
            _screws(said, mode()), theme=None, key=f"screws_{product}",
            # Where nothing hovers, the bar would lie on the names for good.
            config={"displayModeBar": False},
            alt=f"The left screw is {said[0]}, its mirror image {said[1]}.",
        )  # fmt: skip
        st.markdown(_mirror_words(row))
        show.chart(charts.answers, seen, mirrored, mode(), key="answers")
    with right:
        show.head(f"Who is taken for whom: {product}", "rows: the piece; all seeds, 25 rotations")
        taken = tables.confusion(shown, str(product))
        show.chart(charts.confusion, taken, mode(), str(product), key="confusion")


@kept(20)
def _seen(shown: Sequence[Row]) -> list[Row]:
    """Rows that say what their networks saw: the same list each time, so that it is drawn once."""
    whole = ("seen", "seen_mirrored", "start_pseudoscalar")
    return [row for row in shown if all(key in row.measured for key in whole)]


_screws = kept(40)(charts.screws)


def _said(probabilities: Sequence[float]) -> str:
    best = max(range(len(NAMES)), key=lambda n: probabilities[n])
    return f"{NAMES[best]}, {100 * probabilities[best]:.0f} %"


def _mirror_words(row: Row) -> str:
    result = row.measured
    gap = result["mirror_gap"]
    if gap < 1e-10:
        return (
            f"{row.product}: the two answers are equal to {power_text(max(gap, 1e-16), 1)}. "
            "They always will be: nothing in the network changes its sign in a mirror."
        )
    return (
        f"{row.product}: the answers differ by {power_text(gap, 1)} of the largest logit. The "
        f"pseudoscalar that tells left from right was {power_text(result['start_pseudoscalar'], 1)}"
        f" of the scalars before training, {power_text(result['pseudoscalar'], 1)} after."
    )


def numbers(table: pd.DataFrame) -> None:
    """All numbers of every product."""
    folded.expander("All numbers", partial(_numbers, table), key="numbers", icon="table_rows")


def _numbers(table: pd.DataFrame) -> None:
    shown = pd.DataFrame(
        {
            "product": table["product"],
            "of 8": [f"{v:.3g}" for v in table["right"]],
            "a step": table["step_s"].map(time_text),
            "γ": table["gamma"],
            "mirror gap": table["mirror_gap"].map(_power),
            "pseudoscalar": table["pseudoscalar"].map(_power),
            "before training": table["start_pseudoscalar"].map(_power),
            "equivariance error": table["equivariance"].map(_power),
            "seeds": table["seeds"],
        }
    )
    st.dataframe(shown, hide_index=True)


def _power(value: float) -> str:
    return power_text(value, 1) if value else "0"


def refusals(reasons: dict[str, str]) -> None:
    """Products that could not be trained, each with its reason."""
    for product, reason in reasons.items():
        show.refusal(product, reason, ["not trained"])


def reproduce(chosen: Settings, shown: Sequence[Row]) -> None:
    """Command line that does the same, and what the rows shown were measured on."""
    folded.expander(
        "Reproduce this: command, manifest",
        partial(_reproduced, chosen, shown),
        key="reproduce",
        icon="terminal",
    )


def _reproduced(chosen: Settings, shown: Sequence[Row]) -> None:
    try:
        words = _words(chosen)
    except (ValueError, IndexError) as error:
        words = f"# cannot be written: {error}"
    st.code(words, language="bash", wrap_lines=True)
    if shown:
        st.dataframe(show.manifest(shown[-1]["environment"]), hide_index=True, height=320)


def _words(chosen: Settings) -> str:
    head = f"python -m etp experiment {chosen.study}"
    if chosen.study == "step-time":
        product, channels = chosen.products[0], chosen.step_channels
        return f"{head} --product {product} --channels {channels} --threads 1 --out results.jsonl"
    made = potential_settings if chosen.study == "potential" else tetris_settings
    products, seeds = ",".join(chosen.products), ",".join(map(str, chosen.seeds))
    return (
        f"{head} --products {products} --seeds {seeds} {made(chosen)[0].words()} "
        "--out results.jsonl"
    )

"""Parts of the layers page."""

from __future__ import annotations

from functools import cache, partial

import pandas as pd
import streamlit as st

from etp import charts, presets
from etp.analysis import turns
from etp.analysis.advice import Advice, advice
from etp.analysis.findings import Finding
from etp.analysis.model import MeasuredLayer, largest_batches, model_times, whole_of
from etp.irreps import widened
from etp.presets import LAYERS as PRESETS
from etp.presets import Layer, Model
from etp.problem import Problem
from etp.results.reference import layer_rows
from etp.run.devices import free_bytes
from etp.text import bytes_text, count_text, counted, ratio_text, time_text
from etp.ui import asked, bar, data, folded, show
from etp.ui.data import View
from etp.ui.frame import mode
from etp.ui.kept import kept
from etp.ui.plans import LAYERS, layer_problem
from etp.ui.session import bound, choose, settings
from etp.ui.settings import CUSTOM, LAYER_KINDS, LAYER_WEIGHTS, Settings
from etp.ui.visitors import base_path

MIXING_WORDS = {
    "uvw": "A linear map over channels follows in the model; it is not timed here.",
    "so2": "In the model features are turned along the edge, where a matrix over degrees and "
    "channels mixes each order up to 2. Timed here is what is done channel by channel: all edges "
    "share the matrices, so that they can mix channels at the nodes, whatever the product.",
}
"""What is said of layers that mix channels."""
WEIGHT_WORDS = {"per-sample": "for each edge", "shared": "shared"}
KIND_WORDS = {"convolution": "convolution", "edge": "edge products alone"}


@kept(1)
def _first() -> str:
    """What the bundled results of the first layer say of the same operation."""
    asked_for = next(iter(PRESETS.values())).problem()
    own = [
        row
        for row in layer_rows()
        if row.problem["irreps1"] == asked_for.irreps1
        and row.problem["filter_out"] == asked_for.filter_out
        and row.problem["direction"] == asked_for.direction
    ]
    return advice(data.compared(own)[0]).same


def invitation() -> None:
    """For who comes first: what a model gains, and where that is asked."""
    name = next(iter(PRESETS))
    st.markdown(
        f"In a model, at the layer {name}: {_first()} [Which product for my model?]"
        f"({base_path()}/layers?layer={name})"
    )


def controls() -> Settings:
    """The layer, its size and the run button; return what is chosen."""
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        chosen = settings()
        label = chosen.layer if chosen.layer != CUSTOM else "typed irreps"
        with st.popover(label, icon=":material/account_tree:", key="bar_layer"):
            _layer(chosen)
        power = _is_power(chosen)
        work = "nodes, power" if power else f"edges, {chosen.layer_kind}"
        with st.popover(f"{count_text(chosen.edges)} {work}", icon=":material/hub:",
                        key="bar_edges"):  # fmt: skip
            _edges(chosen, power=power)
        with st.popover(f"{chosen.dtype}, {chosen.direction}", icon=":material/tune:",
                        key="bar_numbers"):  # fmt: skip
            bar.controls_of("dtype", "direction")
        bar.one_device(chosen)
        errors = bar.run_button(LAYERS, chosen, lambda: _about(chosen))
    bar.refusals(LAYERS, chosen, errors)
    return settings()


def _is_power(chosen: Settings) -> bool:
    """Whether the layer is a power, which has nodes and no edges."""
    return chosen.layer in PRESETS and PRESETS[chosen.layer].mode == "power"


def _layer(chosen: Settings) -> None:
    names = [*PRESETS, CUSTOM]
    st.selectbox("Layer of a published model", names, **bound("layer", "index", names))
    if chosen.layer == CUSTOM:
        st.text_input("Irreps of nodes", help="Such as 64x0e + 64x1o", **bound("irreps1"))
        st.text_input("Irreps of edges", help="Such as 0e + 1o + 2e", **bound("irreps2"))
        st.text_input("Keep only these outputs", placeholder="all", **bound("keep"))
    else:
        layer = PRESETS[chosen.layer]
        st.caption(" | ".join(filter(None, (layer.nodes, layer.edges, f"kept: {layer.outputs}"))))
        if layer.mode in MIXING_WORDS:
            st.caption(MIXING_WORDS[layer.mode])
    text = st.text_area(
        "Or paste a layer or a configuration",
        key="pasted_layer",
        placeholder="print(tensor_product) of e3nn, or the JSON of a MACE or NequIP configuration",
        help="MACE: hidden_irreps (or num_channels and max_L), max_ell, num_interactions. NequIP: "
        "num_features, l_max, parity, num_layers.",
    )
    file = st.file_uploader("Or a file with it", ["json", "txt"], key="layer_file")
    if file is not None and not text.strip():
        text = file.getvalue()[: presets.MAX_TEXT + 1].decode("utf-8", "replace")
    if text.strip():
        _pasted(text)


def _pasted(text: str) -> None:
    try:
        layers = presets.read(text)
    except ValueError as error:
        show.wrong(str(error))
        return
    for number, layer in enumerate(layers):
        st.button(
            f"Use {layer.name}: {layer.nodes}", key=f"use_layer_{number}", on_click=_use,
            args=(layer,),
        )  # fmt: skip


def _use(layer: Layer) -> None:
    known = presets.named(layer.problem())
    if known is not None:
        choose(layer=known)
    else:
        choose(layer=CUSTOM, irreps1=layer.nodes, irreps2=layer.edges, keep=layer.outputs)


def _edges(chosen: Settings, *, power: bool) -> None:
    label = "Nodes" if power else "Edges"
    st.number_input(label, 1, 10_000_000, step=1000, **bound("edges"))
    if power:
        bar.controls_of("elements")
        return
    st.segmented_control(
        "What runs on them", LAYER_KINDS, required=True, format_func=KIND_WORDS.__getitem__,
        help="A convolution gathers nodes and adds messages up.",
        **bound("layer_kind", "default"),
    )  # fmt: skip
    if chosen.layer_kind == "convolution":
        bar.controls_of("neighbours")
    st.segmented_control(
        "Weights", LAYER_WEIGHTS, required=True, format_func=WEIGHT_WORDS.__getitem__,
        help="A radial network gives each edge its own; shared ones are the same for all.",
        **bound("layer_weights", "default"),
    )  # fmt: skip


def _about(chosen: Settings) -> str:
    size, power = layer_problem(chosen).size(), _is_power(chosen)
    way, each = ("coupling", "a node") if power else ("path", "an edge")
    return (
        f"{counted(size.paths, way)}, {counted(size.outputs, 'output')} {each}, "
        f"{bytes_text(size.bytes)} · {bar.takes(LAYERS, chosen)}"
    )


def view(chosen: Settings) -> View | None:
    """Results of the run in the address, or the bundled ones of the layer; None without any."""
    if chosen.layer_run is not None:
        rows = data.job_rows(chosen.layer_run)
        timed = [comparison for comparison in data.compared(rows) if comparison.timed]
        if timed:
            return View("run", timed[:1], timed[0], rows)
    rows = layer_rows()
    same = [
        comparison
        for comparison in data.compared(rows)
        if presets.named(comparison.problem) == chosen.layer
    ]
    if not same:
        return None
    best = max(same, key=lambda comparison: _likeness(comparison.problem, chosen))
    return View("reference", [best], best, rows)


def _likeness(problem: Problem, chosen: Settings) -> int:
    return (problem.direction == chosen.direction) + (problem.kind == chosen.layer_kind)


def unmeasured(chosen: Settings) -> None:
    """That there are no results, and the published layers that have these irreps."""
    st.markdown("### Nothing was measured on this layer yet.")
    st.markdown("Run it here: every product takes turns on the same layer.")
    try:
        known = presets.akin(layer_problem(chosen))
    except ValueError:
        return  # the bar says what is wrong with the irreps
    for layer in (layer for layer in known if layer.name != chosen.layer):
        st.button(
            f"Show {layer.name}: the same irreps, of which it keeps {layer.outputs}",
            key=f"show_{layer.name}", on_click=choose, kwargs={"layer": layer.name},
        )  # fmt: skip


def differs(shown: Problem, chosen: Settings) -> str | None:
    """One line where what is shown is not what is asked."""
    try:
        question = layer_problem(chosen)
    except ValueError:
        return None
    if shown.at(threads=None) == question.at(threads=None):
        return None
    return asked.line(told(shown), told(question))


def told(problem: Problem) -> str:
    """A layer in words."""
    name = presets.named(problem) or f"{problem.irreps1} with {problem.irreps2}"
    rows = "nodes" if problem.kind == "power" else "edges"
    each = f" of {problem.neighbours} a node" if problem.kind == "convolution" else ""
    each += f" of {counted(problem.elements, 'element')}" if problem.elements > 1 else ""
    shared = ", shared weights" if problem.weights == "shared" and rows == "edges" else ""
    return (
        f"{name}, {problem.kind}, {count_text(problem.batch)} {rows}{each}{shared}, "
        f"{problem.dtype}, {problem.direction}"
    )


def finding(said: Advice) -> Finding:
    """The three sentences as the head of the page."""
    return Finding(said.same, f"{said.reach} {said.fewer}", "")


def use(problem: Problem, said: Advice) -> None:
    """Lines to copy: in a model of e3nn's products, and by itself."""
    if problem.kind == "power":
        _use_power(problem, said.products[0] or "cg")
        return
    keep = f", filter_ir_out={problem.filter_out!r}" if problem.filter_out else ""
    name = next((product for product in said.products if product is not None), "cg-sparse")
    known = PRESETS.get(presets.named(problem) or "")
    whole = known is not None and known.mode == "so2"
    with st.expander("Use it", icon=":material/content_copy:", expanded=True):
        if whole:
            st.caption("The layer as eSCN and UMA have it, channels mixed")
            st.code(
                f"import etp\n\nirreps = {problem.irreps1!r}\n"
                "layer = etp.SO2Convolution(irreps, irreps, mmax=2, parity=False)\n"
                "out = layer(x, directions, weights, senders, receivers, num_nodes)",
                language="python",
            )
        else:
            st.caption("In a model made of e3nn's products: same numbers, same state_dict")
            st.code("import etp\n\nprint(etp.replace_in(model))", language="python")
        st.caption("Channel by channel" if whole else "By itself")
        st.code(
            "import etp\nfrom etp import products\n\n"
            f"tp = products.get({name!r})(\n    {problem.irreps1!r},\n    {problem.irreps2!r}"
            f"{keep},\n)\n"
            "out = etp.Convolution(tp)(x, y, weights, senders, receivers, num_nodes)",
            language="python",
        )


def _use_power(problem: Problem, name: str) -> None:
    irreps, out = (
        widened(text, problem.channels) for text in (problem.irreps1, str(problem.filter_out))
    )
    with st.expander("Use it", icon=":material/content_copy:", expanded=True):
        st.caption("In a MACE: same numbers, same state_dict")
        st.code("import etp\n\nprint(etp.replace_in(model))", language="python")
        st.caption("By itself")
        st.code(
            f"import etp\n\npower = etp.powers.get({name!r})(\n    {irreps!r},\n"
            f"    order={problem.order},\n    irreps_out={out!r},\n)\n"
            "out = power(a, weights, elements)",
            language="python",
        )


def whole(view: View, chosen: Settings) -> None:
    """The models that have this layer: all their layers added up, and what the whole gains."""
    for model in presets.models_of(chosen.layer):
        content = partial(_layers_of, model, view, chosen)
        label = f"All layers of {model.name}"
        folded.expander(label, content, key=f"whole_{model.name}", icon="stacks")


def _layers_of(model: Model, view: View, chosen: Settings) -> None:
    st.caption(f"Layers from {model.source}")
    parts = _parts(model, view)
    if parts is None:
        direction = view.chosen.problem.direction
        st.markdown("Not all of its layers are among these results. This measures them:")
        st.code(f"python -m etp advise --model {model.name} --direction {direction}",
                language="bash", wrap_lines=True)  # fmt: skip
    else:
        _totals(model, parts, chosen)


def _parts(model: Model, view: View) -> list[MeasuredLayer] | None:
    """Every layer as it was measured in the same way as the one shown; None where one was not."""
    like = view.chosen.problem
    there = {
        presets.named(comparison.problem): comparison
        for comparison in data.compared(view.rows)
        if comparison.timed
        and (
            comparison.problem.kind,
            comparison.problem.direction,
            comparison.problem.dtype,
            comparison.problem.batch,
        )
        == (like.kind, like.direction, like.dtype, like.batch)
    }
    names = [(layer.name, count) for layer, count in model.layers]
    if not all(name in there for name, _ in names):
        return None
    return [MeasuredLayer(name, count, there[name]) for name, count in names]


def _totals(model: Model, parts: list[MeasuredLayer], chosen: Settings) -> None:
    problem = parts[0].comparison.problem
    of, measured = whole_of(problem.direction), model.share_of(problem.direction)
    known = None if measured is None else round(100 * measured)
    share = known if chosen.share is None else chosen.share
    st.number_input(
        f"Share of a {of} that these layers take now, %", 0, 100,
        placeholder="a profiler tells it", help=model.share_source if known else None,
        **bound("share", shown=share),
    )  # fmt: skip
    fitting = largest_batches(parts, free_bytes(problem.device))
    base = parts[0].comparison.baseline
    st.dataframe(
        pd.DataFrame(
            {
                "product": total.product,
                "all layers": time_text(total.seconds),
                f"× {base}": ratio_text(1 / total.ratio),
                **{
                    f"{part.repeats} × {part.name}": f"{100 * own:.0f} %"
                    for part, own in zip(parts, total.shares, strict=True)
                },
                f"a {of} gains": "" if share is None else ratio_text(total.gain(share / 100)),
                "edges that fit here": count_text(fitting[total.product])
                if total.product in fitting
                else "",
            }
            for total in model_times(parts)
        ),
        hide_index=True,
    )
    st.caption(
        f"Medians added up, {problem.direction}, {count_text(problem.batch)} edges; a {of} gains "
        "by Amdahl's law; edges that fit into the memory that is free on this device, one layer at "
        "a time."
    )


@cache
def _turns() -> pd.DataFrame:
    """The same table each time, so that its chart is drawn once."""
    return pd.DataFrame(turns.against())


def turning() -> None:
    """Where the exact contraction of a power stops needing fewer multiply-adds than Gaunt."""
    label = "Where it turns: powers (symmetric contractions)"
    folded.expander(label, _turning, key="turns", icon="functions")


def _turning() -> None:
    for sentence in turns.sentences():
        st.markdown(sentence)
    show.chart(charts.turning, _turns(), mode(), key="turning")
    st.dataframe(
        turns.table(),
        hide_index=True,
        height=240,
        alt="Multiply-adds of the exact and of the Gaunt power by order, lmax and outputs",
    )
    st.caption(
        "Counted, not timed: one channel of one node, weights contracted before; all degrees "
        "of the Gaunt power read at once, which favours it. Lines: outputs 0e + 1o, the "
        "cheaper form of Gaunt."
    )


def reproduce(problem: Problem) -> str:
    """Command line that measures the same and prints the sentences."""
    return f"python -m etp advise {problem.command()}"

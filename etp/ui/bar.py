"""The control bar: one row of buttons, each labelled with what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import streamlit as st

from etp.analysis.comparison import USUAL_BASELINE
from etp.irreps import SETTINGS, IrrepsError, parse_terms
from etp.options import Faults, Group, Option, declared
from etp.problem import Options
from etp.product import applicability
from etp.run.catalog import CatalogEntry
from etp.run.config import TooLargeError
from etp.run.devices import not_offered
from etp.text import batch_text, bytes_text, counted, time_text
from etp.ui import asked, asking, jobs, show
from etp.ui.mends import NotHereError, mends, typed_name
from etp.ui.plain import plain
from etp.ui.plans import PagePlan
from etp.ui.session import bound, choose, settings
from etp.ui.settings import COMPILED, CUSTOM, MAX_LMAX, Settings

FIELDS = {"irreps1": "Input 1", "irreps2": "Input 2", "filter_out": "Outputs to keep"}
_OPTIONS = declared(Options)


class SizeControl(NamedTuple):
    """The control of batch and channels: its label and its content."""

    label: Callable[[Settings], str]
    content: Callable[[], None]


def bar(
    plan: PagePlan, lead: Callable[[], None] | None = None, sizes: SizeControl | None = None
) -> Settings:
    """Show the controls of a page's run; return what is chosen.

    Args:
        plan: What the page runs.
        lead: A control of the page's own that comes first.
        sizes: In place of one batch and one number of channels.
    """
    sizes = sizes or SizeControl(_sizes_label, _sizes)
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        if lead is not None:
            lead()
        chosen = settings()
        with _popover(_problem_label(chosen), "grid_view", "problem"):
            _problem(chosen)
        with _popover(_products_label(chosen), "category", "products"):
            _products(chosen)
        if plan.timed:
            with _popover(sizes.label(chosen), "layers", "sizes"):
                sizes.content()
            with _popover(_numbers_label(chosen), "tune", "numbers"):
                _numbers()
            with _popover(_device_label(chosen), "memory", "devices"):
                _devices()
        errors = run_button(plan, chosen, lambda: _about(plan, chosen))
    refusals(plan, chosen, errors)
    return settings()


def _popover(label: str, icon: str, key: str) -> st.delta_generator.DeltaGenerator:
    return st.popover(label, icon=f":material/{icon}:", key=f"bar_{key}")


def _problem_label(chosen: Settings) -> str:
    if chosen.setting == CUSTOM:
        text = f"{chosen.irreps1} ⊗ {chosen.irreps2}"
        return plain(text if len(text) <= 32 else f"{text[:30]}…")
    low, high = chosen.lmax
    return (
        f"{chosen.setting}, lmax {low} – {high}" if low != high else f"{chosen.setting}, lmax {low}"
    )


def _problem(chosen: Settings) -> None:
    st.segmented_control(
        "Problem",
        [*SETTINGS, CUSTOM],
        required=True,
        help="SISO: (L, L) to degree L. SIMO: (L, L) to 0..2L. MIMO: (0..L, 0..L) to 0..2L. "
        "Custom: your own irreps.",
        **bound("setting", "default"),
    )
    if chosen.setting == CUSTOM:
        st.text_input("Input 1", help="Such as 0e + 1o + 2e", **bound("irreps1"))
        _mend("irreps1")
        st.text_input("Input 2", **bound("irreps2"))
        _mend("irreps2")
        st.text_input("Keep only these outputs", placeholder="all", **bound("keep"))
        _mend("filter_out")
    else:
        st.slider("lmax", 0, MAX_LMAX, **bound("lmax"))
        _options("problem")
    try:
        problems = chosen.problems()
    except ValueError:
        return
    for problem in [problems[0], problems[-1]] if len(problems) > 1 else problems:
        size = problem.size()
        st.caption(
            f"lmax {problem.lmax}: {counted(size.paths, 'path')}, "
            f"{counted(size.outputs, 'output')}, {bytes_text(size.bytes)}"
        )


def _mend(field: str) -> None:
    """What is wrong with a typed field, and a button that mends it."""
    for error in _faults(settings().problems, settings()).errors:
        if not isinstance(error, IrrepsError) or error.field != field:
            continue
        show.wrong(_worded(error))
        if error.suggestion:
            st.button(
                f"Use {error.suggestion}",
                key=f"mend_{field}",
                on_click=choose,
                kwargs={typed_name(field): error.suggestion},
            )


def _products_label(chosen: Settings) -> str:
    if len(chosen.products) == 1:
        return chosen.products[0]
    return f"{len(chosen.products)} products"


def _products(chosen: Settings) -> None:
    entries = {entry.name: entry for entry in jobs.catalog().entries(wait_s=0.05)}
    names = list(dict.fromkeys([*entries, *chosen.products])) if entries else list(chosen.products)
    refused = {name: _why_not(entry, chosen) for name, entry in entries.items()}
    there = [
        n for n in names
        if n not in entries or n in chosen.products
        or (entries[n].unavailable is None and refused[n] is None)
    ]  # fmt: skip
    st.pills("Products", there, selection_mode="multi", **bound("products", "default"))
    if not entries:
        st.caption(plain(jobs.catalog().error or "Looking for all products …"))
    for name, entry in entries.items():
        if entry.unavailable is not None:
            st.caption(plain(f"{name}: not here, {entry.unavailable}"))
        elif refused[name] is not None:
            st.caption(plain(f"{name}: not for these irreps, {refused[name]}"))
    unknown = [n for n in chosen.products if entries and n not in entries]
    if unknown:
        show.wrong(f"There is no product {', '.join(unknown)}; it cannot be run.")
    baselines = list(dict.fromkeys([None, *chosen.names(), chosen.baseline]))
    st.selectbox(
        "Compare against",
        baselines,
        format_func=_baseline_name,
        **bound("baseline", "index", baselines),
    )


def _why_not(entry: CatalogEntry, chosen: Settings) -> str | None:
    """Why a product applies to none of the chosen problems."""
    try:
        problems = chosen.problems()
    except ValueError:
        return None
    reasons = [applicability.reason(entry.rule, p.irreps1, p.irreps2) for p in problems]
    return reasons[-1] if reasons and all(reasons) else None


def _baseline_name(name: str | None) -> str:
    return f"{USUAL_BASELINE}, or the first of the run" if name is None else name


def _sizes_label(chosen: Settings) -> str:
    # Typed irreps may have multiplicities of their own.
    own = chosen.setting == CUSTOM and chosen.channels == 1
    return batch_text(chosen.batch, None if own else chosen.channels)


def _sizes() -> None:
    _options("sizes")


def _options(group: Group) -> None:
    """Controls of the options that stand together."""
    for name, about in _OPTIONS.items():
        if about.group == group and not _idle(name, about):
            _control(name, about)


def controls_of(*names: str) -> None:
    """Controls of some options by name."""
    for name in names:
        _control(name, _OPTIONS[name])


def _idle(name: str, about: Option) -> bool:
    """Whether an option says nothing about the devices chosen, and is left as it is."""
    now = settings()
    return (
        about.gpu_only
        and all(device == "cpu" for device in now.devices)
        and getattr(now, name) == getattr(Options, name)
    )


def _control(name: str, about: Option) -> None:
    if about.choices:
        st.segmented_control(
            about.label,
            about.choices,
            required=True,
            format_func=about.called,
            help=about.help,
            **bound(name, "default"),
        )
    else:
        st.number_input(
            about.label,
            about.low,
            about.high,
            placeholder=about.empty,
            help=about.help,
            step=_STEPS.get(name, 1),
            **bound(name),
        )


_STEPS = {"batch": 1000}


def _numbers_label(chosen: Settings) -> str:
    weights = "" if chosen.weights == "none" else f", {_called('weights', chosen)}"
    compiled = "" if chosen.compiled == "no" else ", also compiled"
    dtype = chosen.dtype if chosen.matmul == "exact" else chosen.matmul
    return f"{dtype}, {_called('direction', chosen)}{weights}{compiled}"


def _called(name: str, chosen: Settings) -> str:
    return _OPTIONS[name].called(getattr(chosen, name))


def _numbers() -> None:
    _options("numbers")
    st.segmented_control(
        "torch.compile",
        COMPILED,
        required=True,
        help="Also: each product a second time, compiled, with what compiling took and after how "
        "many calls it pays off. Some seconds to a minute for each product and size.",
        **bound("compiled", "default"),
    )


def _device_label(chosen: Settings) -> str:
    names = ", ".join("CPU" if d == "cpu" else d for d in chosen.devices)
    if chosen.threads is None:
        return names or "no device"
    return f"{names}, {chosen.threads} thread{'s' if chosen.threads > 1 else ''}"


def _devices() -> None:
    st.pills(
        "Devices", _offered_devices(), selection_mode="multi", format_func=_device_words,
        **bound("devices", "default"),
    )  # fmt: skip
    _below_devices()


def one_device(chosen: Settings) -> None:
    """Popover of the one device that a page runs on, which is the first of those chosen."""
    devices = chosen.devices[:1]
    with _popover(_device_label(replace(chosen, devices=devices)), "memory", "devices"):
        tied = bound("devices", "default", shown=devices[0] if devices else None)
        tied |= {"on_change": _one_taken, "args": (tied["key"],)}
        st.pills("Device", _offered_devices(), format_func=_device_words, required=True, **tied)
        _below_devices()


def _one_taken(key: str) -> None:
    choose(devices=(st.session_state[key],))


def _offered_devices() -> list[str]:
    return list(dict.fromkeys([*jobs.runner().devices(), *settings().devices]))


def _device_words(device: str) -> str:
    return f"{device}: {jobs.runner().label(device)}"


def _below_devices() -> None:
    for device, why in not_offered().items():
        st.caption(plain(f"{device} is not offered: {why}."))
    _options("devices")


def run_button(plan: PagePlan, chosen: Settings, about: Callable[[], str]) -> list[ValueError]:
    """Cancel where the plan's run goes on; else start it, with what it takes or why it cannot.

    Returns all that is wrong with the settings.

    Args:
        plan: What the page runs.
        chosen: The settings.
        about: Size and time of a run that can be started.
    """
    errors = _errors(plan, chosen)
    status = jobs.status(getattr(chosen, plan.field))
    if status is not None and status.active:
        st.session_state[asked.NOT_HERE] = False
        st.button(
            "Cancel",
            icon=":material/stop_circle:",
            key="cancel",
            on_click=asking.stop,
            args=(plan.field,),
        )
        return errors
    st.session_state[asked.CAN_RUN] = not errors
    st.session_state[asked.NOT_HERE] = any(isinstance(e, NotHereError) for e in errors)
    st.button(
        "Run here",
        type="primary",
        icon=":material/play_arrow:",
        key="run",
        disabled=bool(errors),
        on_click=asking.start,
        args=(plan, chosen),
    )
    if errors:
        show.wrong(f"Cannot run: {'; '.join(map(_refusal, errors))}")
    else:
        st.caption(about())
    return errors


def not_started() -> None:
    """Say once why a run that was asked for was refused."""
    if "refused" in st.session_state:
        said = plain(st.session_state.pop("refused"))
        st.error(f"Not started: {said}", icon=":material/error:")


def _about(plan: PagePlan, chosen: Settings) -> str:
    size = plan.size(chosen)
    memory = f", {bytes_text(size.bytes)} at most" if plan.timed else ""
    return (
        f"{counted(size.paths, 'path')}, {counted(size.outputs, 'output')}{memory} · "
        f"{takes(plan, chosen)}"
    )


def takes(plan: PagePlan, chosen: Settings) -> str:
    """How long a run takes, and what that affords."""
    told = plan.takes(chosen)
    text = f"about {time_text(told.seconds, 2)}"
    if told.rounds is None:
        return text
    return f"{text}, {counted(told.rounds, 'round')}{', too few for a verdict' if told.few else ''}"


def refusals(plan: PagePlan, chosen: Settings, errors: Sequence[ValueError]) -> None:
    """Say at full width why nothing can run, with buttons that mend it."""
    if not errors:
        not_started()
    for error in errors:
        st.error(plain(_worded(error)), icon=":material/error:")
        for mend in mends(plan, chosen, error):
            st.button(
                mend.label,
                key=mend.key,
                icon=":material/build:",
                on_click=choose,
                kwargs=mend.changes,
            )


def _errors(plan: PagePlan, chosen: Settings) -> list[ValueError]:
    """All that is wrong with a question; its size is looked at where nothing else is."""
    faults = _faults(lambda: plan.cases(chosen), chosen)
    if plan.timed:
        there = jobs.runner().devices()
        faults.tried(lambda: _check_there("devices", chosen.devices, there))
    if plan.products:
        faults.tried(lambda: _check_there("products", chosen.products, _names_there()))
    if not faults.errors:
        faults.tried(lambda: plan.checked(chosen))
    return faults.errors


def _faults(ask: Callable[[], object], chosen: Settings) -> Faults:
    """What is wrong with what is asked; of typed irreps every field that cannot be read."""
    faults = Faults()
    faults.tried(ask)
    if not any(isinstance(error, IrrepsError) for error in faults.errors):
        return faults
    typed = {"irreps1": chosen.irreps1, "irreps2": chosen.irreps2}
    if chosen.keep.strip():
        typed["filter_out"] = chosen.keep
    unread = Faults()
    for field, text in typed.items():
        unread.tried(partial(parse_terms, text, field))
    return unread if unread.errors else faults


def _check_there(field: str, wanted: Collection[str], there: Collection[str]) -> None:
    """Raise for what is chosen and not here; nothing is known yet where ``there`` is empty."""
    missing = [name for name in wanted if there and name not in there]
    if missing:
        raise NotHereError(field, missing, [name for name in wanted if name in there], there)


def _names_there() -> list[str]:
    return [entry.name for entry in jobs.catalog().entries(wait_s=0.05)]


def _refusal(error: ValueError) -> str:
    if isinstance(error, NotHereError):
        return f"not here: {error.missing}"
    too_large = isinstance(error, TooLargeError)
    return "it does not fit" if too_large else f"{_field(error)} is not valid"


def _field(error: ValueError) -> str:
    if isinstance(error, IrrepsError):
        return FIELDS.get(error.field, error.field).lower()
    head, colon, _ = str(error).partition(":")
    # A sentence about the whole question names no field.
    return FIELDS.get(head, head).lower() if colon and " " not in head else "what is asked"


def _worded(error: ValueError) -> str:
    text = str(error)
    for field, name in FIELDS.items():
        text = text.replace(f"{field}: ", f"{name}: ", 1) if text.startswith(field) else text
    return text

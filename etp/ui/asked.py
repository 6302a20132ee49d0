"""Is what is shown what is asked? One line where it is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import streamlit as st

from etp.options import declared
from etp.problem import Axis, Options, Problem
from etp.results.rows import Row
from etp.text import count_text, list_text
from etp.ui.kept import kept
from etp.ui.plain import plain
from etp.ui.settings import Settings

Sides = tuple[str, str]
"""What is shown and what is asked, each in words."""
_SAID = ("direction", "weights", "dtype", "matmul", "cache", "batch", "channels", "outputs")
_OPTIONS = declared(Options)
CAN_RUN = "can_run"
"""Where the bar notes for the rest of the page whether Run here can be pressed."""
NOT_HERE = "not_here"
"""Where it notes whether something is asked for that no result can be of."""


def note(
    shown: Sequence[Problem],
    source: str,
    asked: Callable[[], Sequence[Problem]],
    axis: Axis = "lmax",
    *,
    devices: Collection[str] = (),
    products: Sides | None = None,
    running: bool = False,
) -> bool:
    """Say in which words the question differs from what is shown; return whether it does.

    Args:
        shown: Problems of the results that are shown.
        source: Where those come from.
        asked: Gives the problems of the question.
        axis: What changes from one problem to the next.
        devices: All that those results are of, where it is more than what is shown.
        products: As :func:`products_without` gives them.
        running: Whether a run goes on.
    """
    try:
        said = difference(shown, asked(), source, axis, devices, products)
        return say(said, running=running)
    except ValueError:
        return True  # the bar says what is wrong with the question, which nothing answers


def say(said: str | None, *, running: bool = False) -> bool:
    """Show the line, where there is one; return whether there is."""
    if said is not None:
        allowed = st.session_state.get(CAN_RUN, True)
        then = "a run goes on" if running else "press Run here" if allowed else "it cannot run"
        told = said.replace("; press Run here", f"; {then}")
        st.info(plain(told), icon=":material/compare_arrows:")
    return said is not None


@contextmanager
def answers(*, stale: bool) -> Iterator[None]:
    """What follows are results; dimmed where they do not answer what is asked."""
    if stale or st.session_state.get(NOT_HERE, False):
        # In a style, not in another container: charts stay as they are.
        st.html("<style>.st-key-answers { opacity: 0.5; }</style>")
    with st.container(key="answers"):
        yield


def line(shown: str, asked: str) -> str:
    """The line, from the words for both."""
    return f"Shown: {shown}. You ask: {asked}; press Run here."


def products_without(rows: Sequence[Row], measure: str, products: Sequence[str]) -> Sides | None:
    """Products shown, and those chosen of which there is neither a result nor a refusal.

    None where there are no such, or where the bar says which of them are not here.

    Args:
        rows: Behind what is shown.
        measure: What a page shows of each product.
        products: Those chosen.
    """
    there = _answered(rows, measure)
    missing = [name for name in products if name not in there]
    if not there or not missing or st.session_state.get(NOT_HERE, False):
        return None
    have = [name for name in products if name in there]
    return list_text(have, 3) if have else "other products", f"also {list_text(missing, 6)}"


@kept(50)
def _answered(rows: Sequence[Row], measure: str) -> frozenset[str]:
    return frozenset(row.product for row in rows if row.measure == measure or row.status != "ok")


def difference(
    shown: Sequence[Problem],
    asked: Sequence[Problem],
    source: str,
    axis: Axis = "lmax",
    devices: Collection[str] = (),
    products: Sides | None = None,
) -> str | None:
    """One line where problems that are shown are not those that are asked; None where they are.

    Args:
        shown: Problems of the results that are shown.
        asked: Problems of the question.
        source: Where the results come from.
        axis: What changes from one problem to the next.
        devices: All that the results are of, where it is more than what is shown.
        products: Those shown and those asked for, where some of these are missing.
    """
    # A page is about one device and shows the others beside it: sizes are those of the one.
    here = [problem for problem in asked if problem.device == shown[-1].device]
    pairs = [*_differences(shown, here or asked, axis), *_devices(shown[-1], asked, devices)]
    pairs += [] if products is None else [products]
    return _joined(pairs, source)


def _joined(pairs: Sequence[Sides], source: str) -> str | None:
    if not pairs:
        return None
    ours, theirs = (", ".join(words) for words in zip(*pairs, strict=True))
    origin = " (reference results)" if source == "reference" else ""
    return line(f"{ours}{origin}", theirs)


def _differences(shown: Sequence[Problem], asked: Sequence[Problem], axis: Axis) -> Iterator[Sides]:
    ours, theirs = shown[-1], asked[-1]
    if (ours.setting, ours.setting or _irreps(ours)) != (
        theirs.setting, theirs.setting or _irreps(theirs),
    ):  # fmt: skip
        yield ours.setting or _irreps(ours), theirs.setting or _irreps(theirs)
    elif axis != "lmax" and ours.lmax != theirs.lmax:
        yield f"lmax {ours.lmax}", f"lmax {theirs.lmax}"
    sizes = [getattr(p, axis) for p in shown]
    if ours.setting == theirs.setting and (
        missing := sorted({getattr(p, axis) for p in asked}.difference(sizes))
    ):
        also = ", ".join(map(count_text, missing))
        yield _range(axis, sizes), f"also {axis} {also}"
    for name in _SAID:
        if name == axis:
            continue
        left, right = getattr(ours, name), getattr(theirs, name)
        if left != right and not (name == "outputs" and theirs.setting is None):
            yield _called(name, left), _called(name, right)


def _devices(shown: Problem, asked: Sequence[Problem], devices: Collection[str]) -> Iterator[Sides]:
    wanted = list(dict.fromkeys(problem.device for problem in asked))
    if shown.device not in wanted:
        yield shown.device, ", ".join(wanted)
    elif missing := [name for name in wanted if name not in {shown.device, *devices}]:
        yield shown.device, f"also {', '.join(missing)}"


def _irreps(problem: Problem) -> str:
    outputs = f" to {problem.filter_out}" if problem.filter_out else ""
    return f"{problem.irreps1} with {problem.irreps2}{outputs}"


def _range(axis: Axis, sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    if axis == "lmax" and set(sizes) == {*range(low, high + 1)} and low < high:
        return f"{axis} {low} to {high}"
    return f"{axis} {', '.join(map(count_text, sorted(set(sizes))))}"


def one_degree(
    setting: str | None,
    lmax: int,
    source: str,
    chosen: Settings,
    products: Sides | None = None,
) -> str | None:
    """The line of a page that shows one lmax of one setting; None where that is asked.

    Args:
        setting: What is shown, None for typed irreps.
        lmax: The degree that is shown.
        source: Where the results come from.
        chosen: The settings.
        products: Those shown and those asked for, where some of these are missing.
    """
    try:
        asked = chosen.problems("cpu")
    except ValueError:
        return None
    if setting != asked[-1].setting:
        words = asked[-1].setting or _irreps(asked[-1])
        return _joined([(setting or "typed irreps", words)], source)
    degrees = [problem.lmax for problem in asked]
    pairs = [] if products is None else [products]
    if not (setting is None or chosen.at == lmax or min(degrees) <= lmax <= max(degrees)):
        pairs.insert(0, (f"lmax {lmax}", _range("lmax", degrees)))
    return _joined(pairs, source)


def _called(name: str, value: object) -> str:
    if isinstance(value, int):
        return f"{name} {count_text(value)}"
    words = _OPTIONS[name].called(str(value))
    return f"outputs {words}" if name == "outputs" else words

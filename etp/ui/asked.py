"""Is what is shown what is asked? One line where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import streamlit as st

from etp.analysis.text import count_text
from etp.options import declared
from etp.problem import Options, Problem
from etp.ui.settings import Settings

_SAID = ("direction", "weights", "dtype", "matmul", "cache", "batch", "channels", "outputs")
_OPTIONS = declared(Options)


def note(shown: Sequence[Problem], source: str, chosen: Settings) -> None:
    """Say in which words the question differs from what is shown."""
    try:
        said = difference(shown, chosen.problems(), source)
    except ValueError:
        return  # the bar says what is wrong with the question
    say(said)


def say(said: str | None) -> None:
    """Show the line, where there is one."""
    if said is not None:
        st.info(said, icon=":material/compare_arrows:")


def line(shown: str, asked: str) -> str:
    """The line, from the words for both."""
    return f"Shown: {shown}. You ask: {asked}; press Run here."


def difference(shown: Sequence[Problem], asked: Sequence[Problem], source: str) -> str | None:
    """One line where problems that are shown are not those that are asked; None where they are."""
    pairs = list(_differences(shown, asked))
    if not pairs:
        return None
    ours, theirs = (", ".join(words) for words in zip(*pairs, strict=True))
    what = " (reference results)" if source == "reference" else ""
    return line(f"{ours}{what}", theirs)


def _differences(shown: Sequence[Problem], asked: Sequence[Problem]) -> Iterator[tuple[str, str]]:
    ours, theirs = shown[-1], asked[-1]
    if (ours.setting, ours.setting or _irreps(ours)) != (
        theirs.setting, theirs.setting or _irreps(theirs),
    ):  # fmt: skip
        yield ours.setting or _irreps(ours), theirs.setting or _irreps(theirs)
    elif missing := sorted({p.lmax for p in asked} - {p.lmax for p in shown}):
        yield _degrees([p.lmax for p in shown]), f"also lmax {', '.join(map(str, missing))}"
    for name in _SAID:
        left, right = getattr(ours, name), getattr(theirs, name)
        if left != right and not (name == "outputs" and theirs.setting is None):
            yield _called(name, left), _called(name, right)
    if ours.device != theirs.device:
        yield ours.device, theirs.device


def _irreps(problem: Problem) -> str:
    kept = f" to {problem.filter_out}" if problem.filter_out else ""
    return f"{problem.irreps1} with {problem.irreps2}{kept}"


def _degrees(degrees: Sequence[int]) -> str:
    low, high = min(degrees), max(degrees)
    return f"lmax {low}" if low == high else f"lmax {low} to {high}"


def _called(name: str, value: object) -> str:
    if isinstance(value, int):
        return f"{name} {count_text(value)}"
    words = _OPTIONS[name].called(str(value))
    return f"outputs {words}" if name == "outputs" else words

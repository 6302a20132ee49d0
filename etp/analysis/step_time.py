"""What a training step costs with each power: words on rows of measure ``step-time``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, isfinite
from typing import Any

import numpy as np

from etp.analysis.findings import Finding
from etp.measure.flags import Flag
from etp.measure.state import load_flag
from etp.measure.verdict import Board
from etp.results.rows import Row
from etp.text import counted, list_text, time_text

PAPER = 1.3125
"""Times as fast a step with the grid as with the 2D-Fourier form, in the paper's notebook."""


def load_flags(rows: Sequence[Row]) -> list[Flag]:
    """What the rows say of the load of their machine: nothing where it was quiet.

    Args:
        rows: Of one machine.
    """
    if not rows:
        return []
    states = [row.measured.get(key) for row in rows for key in ("state_before", "state_after")]
    loads = [state["load"] for state in states if state and state.get("load") is not None]
    if not loads:
        return [Flag("load not known", "These rows do not say whether the machine was quiet.")]
    flag = load_flag(max(loads), rows[0]["environment"].get("cores"))
    return [flag] if flag else []


def step_finding(rows: Sequence[Row]) -> Finding:
    """What the choice of a power does to a training step."""
    if not rows:
        return Finding("No training step was timed yet.", "Run it here.", "")
    by = {row.product: row.measured for row in rows}
    fast = min(by, key=lambda name: by[name]["median_s"])
    first = rows[0].measured
    channels = counted(rows[0].problem["channels"], "channel")
    samples = {name: result.get("samples_s") or [] for name, result in by.items()}
    alike = [
        name for name in by
        if name != fast and samples[name] and _faster(samples, name, fast)[1] != "faster"
    ]  # fmt: skip
    heading = f"At {channels} a training step is shortest with {list_text([fast, *alike])}: "
    heading += f"{time_text(by[fast]['median_s'])}."
    if alike:
        heading += " The rounds do not tell them apart."
    doubt = f"paired in {first['rounds']} rounds"
    doubt += "".join(f"; {flag.name}: {flag.detail}" for flag in load_flags(rows))
    return Finding(heading, claim(rows), doubt)


def claim(rows: Sequence[Row]) -> str:
    """The paper's claim beside what was measured, and what the exact contraction does to it.

    Args:
        rows: Of one case of measure ``step-time``; empty text where powers are missing.
    """
    by = {row.product: row.measured.get("samples_s") or [] for row in rows}
    if not {"cg", "gaunt-grid", "gaunt-fourier-fft"} <= set(by):
        return ""
    rival = {
        name: _faster(by, name, "gaunt-grid")
        for name in ("gaunt-fourier-fft", "gaunt-fourier-direct")
        if name in by
    }
    told = list_text([f"{text} as with {name}" for name, (text, _) in rival.items()])
    text, word = _faster(by, "gaunt-grid", "cg")
    meant = {
        "faster": "The grid is not what makes a step short: the contraction that gives no path up "
        "is faster still.",
        "slower": "Among all of them the grid is fastest, at the price of the paths it gives up.",
    }
    return (
        f"A step with gaunt-grid is {told}; the paper found {PAPER} times for its 2D-Fourier form "
        f"and did not time the exact contraction. A step with cg is {text} as with gaunt-grid. "
        + meant.get(word, "Between these two the rounds do not tell which is faster.")
    )


def share_text(result: Mapping[str, Any]) -> str:
    """Share of a step that its powers take, with its interval where it has one."""
    ends = (result.get("share_low"), result.get("share_high"))
    return f"{_between(result['share'], *ends, 100)} %"


def _faster(by: Mapping[str, Sequence[float]], slow: str, fast: str) -> tuple[str, str]:
    """How many times as fast, with its interval, and the word on ``fast``."""
    times = np.array([by[slow], by[fast]]).T
    (verdict,) = Board(2, None, [(0, 1)]).look(times)
    low, high = (exp(-end) if isfinite(end) else None for end in (verdict.high, verdict.low))
    return f"{_between(exp(-verdict.estimate), low, high)} times as fast", verdict.word


def against(result: Mapping[str, Any]) -> str:
    """Time of a step over that of the first power, with its interval where it has one."""
    return _between(result["ratio"], result.get("low"), result.get("high"))


def _between(value: float, low: float | None, high: float | None, scale: float = 1) -> str:
    digits = 2 if scale == 1 else 0
    told = "" if low is None or high is None else (
        f" ({scale * low:.{digits}f} to {scale * high:.{digits}f})"
    )  # fmt: skip
    return f"{scale * value:.{digits}f}{told}"

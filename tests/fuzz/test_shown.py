"""What the border lets in can be shown: no value of a row takes a page or a command away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etp import report
from etp.analysis import equivariance, expressivity, machines
from etp.analysis.comparison import comparisons
from etp.analysis.findings import pair_sentence
from etp.analysis.growth import growth_finding, limits, lines, roofs_of
from etp.analysis.tables import frame, shown
from etp.cli.terminal import table
from etp.measure.state import state_text
from etp.problem import Problem
from etp.results.reference import reference_rows
from etp.results.rows import SAMPLE_KEYS, Row, RowError
from etp.results.schema import LONGEST_S, RESULTS, SHORTEST_S
from tests.make import run_of

LONG = int(os.environ.get("ETP_FUZZ", "0"))
EDGES: list[Any] = [
    None, True, 0, -1, 1, 1.0, 1e-320, 1e-12, 1e-9, 1e9, 1e30, 1e99, 1e299, 2**62, "x", "", [], {},
    ["x"], [1e299], [1e-320], [1e-12], [1e9, 1e-12], [0], [1.0, 2.0], {"x": 1}, {"1": 1e299},
    {"load": "heavy"}, {"clock_mhz": 0, "temperature_c": 1, "slowed_by": []}, [[1.0]], [[]],
    {"load": 1e299}, {"slowed_by": 3}, "<b>", "=1",
]  # fmt: skip
VALUES = st.sampled_from(EDGES) | st.floats(allow_nan=False) | st.text(max_size=5)
STATE = {"clock_mhz": 1e3, "temperature_c": 50.0, "slowed_by": [], "load": 0.5}
SECOND = Problem.of_setting("MIMO", 3, batch=100)


def _run() -> list[dict[str, Any]]:
    """Two problems, three products and a twin each, with all that a run of ours says."""
    seconds = {"a": 1e-3, "cg-sparse": 2e-3, "e3nn": 3e-3}
    rows = run_of(seconds, twin="a", rounds=8)
    rows += run_of(seconds, twin="a", rounds=8, group="h", problem=SECOND)
    made = []
    for row in rows:
        result = row.measured | {"state_before": STATE, "state_after": STATE, "setup_s": 0.1}
        about = row.environment | {"cores": 2, "date": "2026-01-02", "device": "cpu", "flags": {}}
        made.append(json.loads(row.with_(result=result, environment=about).to_json()))
    return made


RUN = _run()
PLACES = [
    *(("result", key) for key in RESULTS["runtime"]),
    *(("environment", key) for key in (*RUN[0]["environment"], "source", "cpu", "load", "revision",
                                       "dirty", "memory_bytes", "python", "flags")),
]  # fmt: skip


def show(rows: list[Row]) -> Iterator[object]:
    """Everything that is said and drawn of runtimes outside of streamlit."""
    made = comparisons(rows)
    for comparison in made:
        yield list(table(comparison))
        yield shown(frame(comparison), comparison.baseline)
        yield [pair_sentence(comparison, name) for name in comparison.judgement.verdicts]
    for line in lines(made, "lmax"):
        yield growth_finding(line)
    whole = machines.Run("a", "a", rows)
    yield whole.machine, whole.problem
    yield machines.differences(whole.environment, RUN[-1]["environment"])
    other = [Row.read(values) for values in RUN]
    yield [machines.beside_words(each) for each in machines.side_by_side(whole.timed, other)]
    for row in rows:
        before, after = (row.measured.get(key) for key in ("state_before", "state_after"))
        yield state_text(before, after) if before and after else ""


CHANGES = st.tuples(st.integers(0, len(RUN) - 1), st.sampled_from(PLACES), VALUES)


def taken(run: list[dict[str, Any]]) -> list[Row]:
    """The rows of a run that the border lets in."""
    rows = []
    for values in run:
        with suppress(RowError):
            rows.append(Row.read(values))
    return rows


@settings(max_examples=LONG or 40, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=4))
@example([(0, ("environment", "cores"), "x")])
@example([(0, ("result", "state_before"), {"load": "heavy"})])
@example([(0, ("result", "state_before"), {"x": 1})])
@example([(0, ("result", "state_after"), {"slowed_by": 3})])
@example([(0, ("result", "clock_step_s"), 1)])
@example([(0, ("result", "q25_s"), None)])
@example([(0, ("result", "blocks_s"), None)])
@example([(3, ("result", "look"), 2)])
@example([(n, ("result", "role"), "x") for n in range(4)])
@example([(n, ("result", "role"), "twin") for n in range(len(RUN))])
def test_nothing_that_a_runtime_says_takes_a_page_away(changes):
    run = deepcopy(RUN)
    for place, (part, key), value in changes:
        run[place][part][key] = value
    for _ in show(taken(run)):
        pass


BLOCKS = st.lists(st.sampled_from([SHORTEST_S, LONGEST_S, 1e-3, 1.0]), min_size=1, max_size=8)


@settings(max_examples=LONG or 20, deadline=None)
@given(st.lists(BLOCKS, min_size=len(RUN), max_size=len(RUN)), st.sampled_from([0, 1]))
@example([[SHORTEST_S, LONGEST_S]] * len(RUN), 0)
@example([[SHORTEST_S] if n % 2 else [LONGEST_S] for n in range(len(RUN))], 0)
def test_the_shortest_and_longest_times_that_are_let_in_can_be_compared(blocks, look):
    run = deepcopy(RUN)
    for number, (values, own) in enumerate(zip(run, blocks, strict=True)):
        for key in SAMPLE_KEYS:
            values["result"].pop(key)
        values["result"] |= {
            "blocks_s": own, "median_s": sorted(own)[len(own) // 2], "look": look * number % 2,
            "q25_s": SHORTEST_S, "q75_s": LONGEST_S,
        }  # fmt: skip
    rows = taken(run)
    assert len(rows) == len(run)
    for _ in show(rows):
        pass


OTHERS = ("equivariance", "expressivity", "interactions", "cost", "memory", "roofline")


@cache
def _reference() -> list[dict[str, Any]]:
    """Rows of every measure at lmax 2, and the roofs of the machine."""
    kept = [row for row in reference_rows() if row.measure == "roofline"]
    kept += [row for row in reference_rows() if row.measure != "roofline"
             and row.product in ("cg-sparse", "gaunt-grid") and row.problem["setting"] == "MIMO"
             and row.problem["lmax"] == 2]  # fmt: skip
    return [row.as_dict() for row in kept]


def show_others(rows: list[Row]) -> Iterator[object]:
    """What is said of equivariance, of independent maps and of roofs."""
    for comparison in comparisons(rows):
        yield list(table(comparison))
        yield shown(frame(comparison), comparison.baseline)
        roofs = roofs_of(rows, comparison)
        yield limits(comparison, roofs) if roofs else None
    checks = equivariance.equivariance_checks(rows, "MIMO", 2)
    yield equivariance.equivariance_finding(checks), checks.elements(), checks.gates()
    yield [checks.degrees(dtype) for dtype in ("float32", "float64")]
    counted = expressivity.counts(rows, "MIMO")
    yield counted.table(), counted.conditions()
    if counted.products:
        yield counted.bars(2), expressivity.counts_finding(counted, 2, typed=False)


@settings(max_examples=LONG or 40, deadline=None)
@given(st.sampled_from([(m, k) for m in OTHERS for k in RESULTS[m]]), VALUES)
@example(("cost", "flops"), 0)
@example(("cost", "flops"), 1e-320)
@example(("cost", "bytes"), 0)
@example(("interactions", "keeps_paths"), None)
@example(("expressivity", "fixed_rank"), None)
@example(("equivariance", "dtype"), None)
@example(("equivariance", "inverted"), None)
def test_nothing_that_another_measure_says_takes_a_page_away(place, value):
    measure, key = place
    rows = deepcopy(_reference())
    next(row for row in rows if row["measure"] == measure)["result"][key] = value
    for _ in show_others(taken(rows)):
        pass


def test_a_page_without_a_server_is_made_of_the_shortest_and_longest_times():
    run = deepcopy(RUN)
    for number, values in enumerate(run):
        for key in (*SAMPLE_KEYS, "blocks_s", "q25_s", "q75_s"):
            values["result"].pop(key)
        values["result"]["median_s"] = LONGEST_S if number % 2 else SHORTEST_S
    assert "<html" in report.page(taken(run), "a run")


@pytest.mark.parametrize("seconds", [1e-320, 9e-13, 1.1e9, 1e99])
def test_what_is_no_time_of_a_call_is_refused(seconds):
    for key in ("median_s", "q75_s", "blocks_s"):
        values = deepcopy(RUN[0])
        values["result"][key] = [seconds] if key == "blocks_s" else seconds
        with pytest.raises(RowError, match=r"from 1e-12 to 1e\+09"):
            Row.read(values)

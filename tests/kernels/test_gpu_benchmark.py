"""What the benchmark of a GPU does with time, failures and files, without a card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as main
from benchmarks.gpu import correct, counters, plan, power_timings, timings, tuning
from benchmarks.gpu.page import page
from benchmarks.gpu.plan import Pilot, Turn
from benchmarks.gpu.steps import AGAIN, DONE, LEAST_S, LEFT, File, Step, carry_out
from etp import powers, products
from etp.kernels.on_gpu import launches
from etp.kernels.on_gpu.row_form import ChannelBlock, RowForm
from etp.measure import runtime
from etp.problem import Problem
from etp.results import imports
from etp.results.formats import read_path as read
from etp.results.rows import Row
from etp.run.case import build
from etp.run.case.questions import make_row

ROOT = Path(__file__).parents[2]
PROBLEM = Problem.of_setting("MIMO", 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_one_line_says_so_and_no_dashboard_or_scheduler_is_loaded(tmp_path):
    code = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('benchmarks.gpu', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        "    heavy = ('streamlit', 'dask', 'distributed', 'altair')\n"
        "    print([name for name in heavy if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, "--all", "--out", str(tmp_path / "x.jsonl")]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert done.stderr == "no CUDA device here: the GPU kernels cannot be measured\n"


BARE = """
import socket, sys
for name in ("streamlit", "dask", "distributed", "altair"):
    sys.modules[name] = None

def refused(*_):
    raise OSError("no network here")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
"""


def test_it_runs_without_network_dashboard_and_scheduler(tmp_path):
    # Read by every Python that starts, those of the parts too.
    (tmp_path / "sitecustomize.py").write_text(BARE)
    path = tmp_path / "x.jsonl"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--out", str(path)]
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", "import streamlit"], capture_output=True, env=environment
    )
    assert told.returncode == 1
    # All gradients of one product in every kind, and a part from its process to its page.
    for asked in (["--once", "cg-sparse"], ["--part", "5", "--seconds", "300"]):
        done = subprocess.run(
            [*command, *asked], capture_output=True, text=True, cwd=ROOT, env=environment
        )
        assert done.returncode == DONE, done.stderr
        assert "Error" not in done.stderr
    rows = list(read(path))
    assert {row.measure for row in rows} == {"counters"}
    assert {row.product for row in rows} == set(products.available())
    assert path.with_suffix(".md").exists()


def step(name: str, *, fails: str | None = None, ran: list[str] | None = None) -> Step:
    def rows() -> Iterator[Row]:
        if ran is not None:
            ran.append(name)
        cost = {"macs": 1, "bytes": 4, "flops": 2}
        yield make_row(PROBLEM, name, "cost", cost)
        if fails is not None:
            raise RuntimeError(fails)

    return Step(name, PROBLEM, name, "cost", rows)


def test_a_failure_is_a_row_with_its_reason_and_the_rest_is_done(tmp_path):
    path = tmp_path / "gpu.jsonl"
    steps = [step("first", fails="illegal\nmore"), step("second")]
    assert carry_out(steps, File(path), 60, "1", lambda line: None) == DONE
    rows = list(read(path))
    assert [(row.product, row.status) for row in rows] == [
        ("first", "ok"), ("first", "failed"), ("second", "ok"),
    ]  # fmt: skip
    assert rows[1].reason == "RuntimeError: illegal"


def test_what_was_done_is_not_done_again(tmp_path):
    path, ran = tmp_path / "gpu.jsonl", list[str]()
    assert carry_out([step("a", ran=ran)], File(path), 60, "1", lambda line: None) == DONE
    steps = [step("a", ran=ran), step("b", ran=ran)]
    assert carry_out(steps, File(path), 60, "1", lambda line: None) == DONE
    assert ran == ["a", "b"]
    assert [row.product for row in read(path)] == ["a", "b"]


class Watch:
    """A clock that steps move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def step(self, name: str, takes: float, ran: list[str]) -> Step:
        def rows() -> Iterator[Row]:
            ran.append(name)
            self.now += takes
            yield make_row(PROBLEM, name, "cost", {"macs": 1, "bytes": 4, "flops": 2})

        return Step(name, PROBLEM, name, "cost", rows)


def test_work_is_planned_by_what_it_took_and_what_is_left_is_taken_up(tmp_path):
    path, watch, ran = tmp_path / "gpu.jsonl", Watch(), list[str]()
    steps = [watch.step(f"s{n}", 4.0, ran) for n in range(5)]
    said: list[str] = []
    assert carry_out(steps, File(path), 10, "3", said.append, watch) == LEFT
    # A third would have ended after twelve seconds.
    assert watch.now == 8.0
    rows = list(read(path))
    assert [(row.product, row.status) for row in rows] == [
        ("s0", "ok"), ("s1", "ok"), ("s2", "cancelled"), ("s3", "cancelled"), ("s4", "cancelled"),
    ]  # fmt: skip
    assert {row.reason for row in rows[2:]} == {"no time left: run --part 3 again"}
    assert "no time left: run --part 3 again (3 left, s2 first)" in said[-1]
    assert "Not done yet: 3 steps, no time left: run --part 3 again." in page(rows)
    assert page(rows).startswith("# Rehearsed on a processor, not on a GPU: ")
    assert "s2" not in page(rows)
    assert carry_out(steps, File(path), 100, "3", said.append, watch) == DONE
    assert ran == ["s0", "s1", "s2", "s3", "s4"]
    assert [(row.product, row.status) for row in read(path)] == [(name, "ok") for name in ran]


def test_a_step_that_killed_its_process_is_a_row_and_not_done_again(tmp_path):
    path, watch, ran = tmp_path / "gpu.jsonl", Watch(), list[str]()
    steps = [watch.step("a", 1.0, ran), watch.step("b", 1.0, ran)]
    File(path).begin(steps[0])
    path.write_text('{"reason": "cut o')
    died = "its process ended with -11"
    assert carry_out(steps, File(path), 60, "1", lambda line: None, watch, died) == DONE
    first, second = read(path)
    assert (first.product, first.status) == ("a", "failed")
    assert first.reason == died
    assert (second.product, ran) == ("b", ["b"])


def test_a_step_that_was_stopped_is_tried_once_more(tmp_path):
    path, watch, ran = tmp_path / "gpu.jsonl", Watch(), list[str]()
    steps = [watch.step("a", 1.0, ran)]
    File(path).begin(steps[0])
    assert carry_out(steps, File(path), 0, "1", lambda line: None, watch) == LEFT
    File(path).begin(steps[0])
    assert carry_out(steps, File(path), 60, "1", lambda line: None, watch) == DONE
    (row,) = read(path)
    assert (row.status, ran) == ("failed", [])
    assert row.reason == "it did not end before its process was stopped, 2 times"


def sharing(watch: Watch, name: str, turns: list[Turn], *tries: str) -> Step:
    """A step that uses its whole turn and says what it tries."""

    def rows(turn: Turn) -> Iterator[Row]:
        turns.append(turn)
        for one in tries:
            turn.trying(one)
        watch.now += turn.seconds
        yield make_row(PROBLEM, name, "cost", {"macs": 1, "bytes": 4, "flops": 2})

    return Step(name, PROBLEM, name, "cost", rows, planned=True)


@pytest.mark.parametrize("budget", [200.0, 45.0, 12.0])
def test_steps_that_plan_share_the_time_and_end_within_it(budget, tmp_path):
    watch, turns = Watch(), list[Turn]()
    path = tmp_path / "gpu.jsonl"
    steps = [sharing(watch, f"s{n}", turns) for n in range(9)]
    state = carry_out(steps, File(path), budget, "3", lambda line: None, watch)
    assert watch.now <= budget
    assert state == (DONE if budget == 200 else LEFT)
    assert len(turns) == {200: 9, 45: 4, 12: 1}[int(budget)]
    assert all(turn.seconds >= LEAST_S for turn in turns)
    # Slices of five minutes: the same command goes on exactly where it was.
    assert carry_out(steps, File(path), 300, "3", lambda line: None, watch) == DONE
    assert [row.product for row in read(path)] == [f"s{n}" for n in range(9)]
    assert len(turns) == 9


@pytest.mark.parametrize(("died", "processes"), [("its process ended with -11", 1), (None, 2)])
def test_what_broke_a_process_is_left_out_and_the_rest_is_measured(died, processes, tmp_path):
    watch, turns = Watch(), list[Turn]()
    path = tmp_path / "gpu.jsonl"
    step = sharing(watch, "s", turns, "cg-sparse", "matrix")
    for _ in range(processes):
        file = File(path)
        file.begin(step)
        for one in ("cg-sparse", "matrix"):
            file.turn(step, 10, 1).trying(one)
    assert carry_out([step], File(path), 60, "3", lambda line: None, watch, died) == DONE
    assert turns[0].lost == {"matrix"}
    assert plan.lost(["cg-sparse", "matrix"], turns[0]).keys() == {"matrix"}


@pytest.mark.parametrize("per_sample", [1e-9, 1e-6, 1e-3])
def test_a_pilot_grows_until_it_tells_how_long_the_largest_call_takes(per_sample):
    watch, made = Watch(), list[int]()

    def call(size: int):
        made.append(size)

        def run() -> None:
            watch.now += 1e-4 + per_sample * size

        return run

    found = plan.piloted(call, 50_000, watch)
    assert made == sorted(made)
    assert (found.size == 50_000) == (per_sample < 1e-3)
    largest = 1e-4 + per_sample * 50_000
    assert found.call_s * 50_000 / found.size == pytest.approx(largest, rel=0.01)


def test_a_slow_device_has_smaller_calls_and_fewer_products_a_fast_one_all():
    fast = {name: Pilot(50_000, 1e-4) for name in ("cg-sparse", "grid", "fourier")}
    assert plan.planned(fast, 50_000, 10, "cg-sparse") == (50_000, list(fast), {})
    slow = {"cg-sparse": Pilot(64, 3e-3), "grid": Pilot(64, 4e-3), "fourier": Pilot(64, 5.0)}
    size, names, left = plan.planned(slow, 50_000, 10, "cg-sparse")
    assert plan.SMALLEST <= size < 50_000
    assert names == ["cg-sparse", "grid"]
    assert "a call on" in left["fourier"]
    assert sum(slow[name].cost(size) for name in names) <= plan.OF_ROUNDS * 10


def test_a_step_of_timings_names_what_it_leaves_out_and_why(monkeypatch):
    monkeypatch.setattr(products, "available", lambda: ["cg-dense", "cg-sparse", "matrix", "so2"])
    slow = {"cg-dense": Pilot(64, 40.0), "cg-sparse": Pilot(64, 1e-3), "so2": Pilot(64, 1e-3)}

    def piloted(call, most):
        if call.args[1] == "matrix":
            raise RuntimeError("CUDA out of memory\nmore")
        return slow[call.args[1]]

    monkeypatch.setattr(plan, "piloted", piloted)
    problem = Problem.of_irreps("2x0e+2x1o", "0e+1o", kind="edge", batch=64)
    tried: list[str] = []
    turn = Turn(5.0, frozenset({"so2"}), tried.append)
    rows = {(r.product, r.measure): r for r in timings._timed(problem, 0.1, turn)
            if r.measured.get("role") != "twin"}  # fmt: skip
    assert rows["cg-sparse", "runtime"].status == "ok"
    assert rows["matrix", "runtime"].reason == "RuntimeError: CUDA out of memory"
    assert "about 40 s" in str(rows["cg-dense", "runtime"].reason)
    assert "did not end" in str(rows["so2", "runtime"].reason)
    assert "so2" not in tried


def test_checks_that_outlast_their_turn_leave_a_row_for_every_product(monkeypatch):
    names = ["cg-dense", "cg-sparse"]
    monkeypatch.setattr(plan, "piloted", lambda call, most: Pilot(64, 1e-6))
    monkeypatch.setattr(products, "available", lambda: names)
    monkeypatch.setattr(plan, "planned", lambda *_: plan.Plan(64, names, {}))
    problem = Problem.of_irreps("2x0e+2x1o", "0e+1o", kind="edge", batch=64)
    rows = list(timings._timed(problem, 0.1, Turn(1e-3)))
    over = {row.product: row.reason for row in rows if row.measure == "runtime"}
    assert over.keys() == set(names)
    assert all("of the whole step were over" in str(reason) for reason in over.values())


class Shell:
    """Processes of the parts: each takes so long, or as long as it may, and ends in a state."""

    def __init__(self, watch: Watch, takes: list[float], states: list[int]) -> None:
        self.watch, self.takes, self.states = watch, takes, states
        self.calls: list[tuple[str, float, str | None]] = []

    def run(self, command, timeout=None):
        word = dict(pairwise(command))
        self.calls.append((word["--part"], float(word["--until"]), word.get("--died")))
        takes = self.takes.pop(0)
        if timeout is not None and takes > timeout:
            self.watch.now += timeout
            raise subprocess.TimeoutExpired(command, timeout)
        self.watch.now += takes
        return subprocess.CompletedProcess(command, self.states.pop(0))


def test_parts_end_within_ten_minutes_and_pass_on_what_they_leave(tmp_path, monkeypatch):
    watch = Watch()
    # The first is done early; the second hangs and is killed; the third's driver fails once.
    takes, states = (
        [100.0, 1e9, 2.0, 50.0, 130.0, 150.0, 45.0],
        [DONE, LEFT, AGAIN, DONE, LEFT, LEFT],
    )
    shell = Shell(watch, takes, states)
    monkeypatch.setattr(subprocess, "run", shell.run)
    monkeypatch.setattr(time, "time", watch)
    assert main.main(["--all", "--device", "cpu", "--out", str(tmp_path / "x.jsonl")]) == LEFT
    ends = list(accumulate(main.PARTS.values()))
    assert shell.calls == [
        ("correct", ends[0], None), ("tune", ends[1], None), ("tune", ends[1], None),
        ("layers", ends[2], None), ("layers", ends[2], None), ("settings", ends[3], None),
        ("counters", ends[4], None),
    ]  # fmt: skip
    assert max(ends) + main.GRACE_S <= 600
    assert watch.now <= 600
    assert all(share <= 300 for share in main.PARTS.values())


def test_a_card_that_no_longer_answers_asks_for_a_new_process(tmp_path):
    path = tmp_path / "gpu.jsonl"
    steps = [step("a", fails="CUDA error: an illegal memory access"), step("b")]
    assert carry_out(steps, File(path), 60, "1", lambda line: None) == AGAIN
    # The new process goes on behind the step that broke the old one.
    assert carry_out(steps, File(path), 60, "1", lambda line: None) == DONE
    assert [row.product for row in read(path)] == ["a", "a", "b"]


@pytest.mark.parametrize("name", ["cg-sparse", "gaunt-grid", "so2", "e3nn"])
def test_derivatives_are_held_to_those_of_the_oracle(name):
    wanted = f"correct {name} edge double-backward float64"
    (own,) = [each for each in correct.steps("cpu") if each.name == wanted]
    (row,) = own.rows()
    assert row.status == "ok", row.reason
    assert 0 < row.measured["max"] < 1e-11


@pytest.mark.parametrize(("name", "kind"), [("gaunt-grid", "pair"), ("cg-sparse", "convolution")])
def test_third_derivatives_are_held_to_those_of_the_oracle(name, kind):
    wanted = f"correct {name} {kind} third derivatives float64"
    (own,) = [each for each in correct.steps("cpu") if each.name == wanted]
    (row,) = own.rows()
    assert row.status == "ok", row.reason
    assert 0 < row.measured["max"] < 1e-11


def test_a_derivative_that_is_wrong_is_seen(monkeypatch):
    tp = products.get("cg-sparse")
    right = tp.forward

    def wrong(self, x, y, weights=None):
        z = right(self, x, y, weights)
        return z + 1e-6 * (z - z.detach())

    monkeypatch.setattr(tp, "forward", wrong)
    (own,) = [
        s for s in correct.steps("cpu") if s.name == "correct cg-sparse pair backward float64"
    ]
    (row,) = own.rows()
    assert row.status == "invalid"
    assert "agreement: its error is" in str(row.reason)


def test_its_rows_are_imported(tmp_path):
    path = tmp_path / "gpu.jsonl"
    for each in (next(iter(correct.steps("cpu"))), next(iter(power_timings.steps("cpu", 3, 0.0)))):
        File(path).keep(each, each.rows())
    carry_out([step("left")], File(path), 0, "1", lambda line: None)
    rows = list(read(path))
    jobs = imports.adopted(rows, "a card")
    assert sum(len(job.rows) for job in jobs) == len(rows)


def test_an_approximate_product_is_no_wrong_one():
    # Of few irreps, as third derivatives are asked of, it is exact.
    steps = [
        s for s in correct.steps("cpu")
        if s.name.startswith("correct cp-16 pair") and "third" not in s.name
    ]  # fmt: skip
    rows = [row for step in steps for row in step.rows()]
    assert {row.status for row in rows} == {"ok"}
    assert all("approximate" in row.badges for row in rows)


def test_every_product_and_kind_is_asked_in_every_type_and_derivative():
    names = [each.name for each in correct.steps("cpu")]
    assert len(set(names)) == len(names)
    kinds = sum(len(products.get(name).kinds) for name in products.available())
    of_products = kinds * (1 + len(correct.DERIVATIVES))
    thirds = kinds * len(correct.EXACT)
    assert len(names) == (of_products + len(powers.own())) * len(correct.DTYPES) + thirds


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_powers_are_held_to_what_the_processor_gives(monkeypatch):
    (own,) = [each for each in correct.steps("cpu") if each.name == "correct power cg float64"]
    (row,) = own.rows()
    assert row.status == "ok", row.reason
    right, calls = correct._of_elements, list[int]()

    def wrong(*given):
        calls.append(1)
        # The processor's results come first: only the second device is wrong.
        z = right(*given)
        return z * (1 + 1e-6) if len(calls) > 1 else z

    monkeypatch.setattr(correct, "_of_elements", wrong)
    (row,) = own.rows()
    assert row.status == "invalid"


def test_a_profiler_meets_every_kind_with_all_derivatives(monkeypatch):
    asked: list[tuple[str, str]] = []
    make = runtime.make_call

    def noted(tp, x1, x2, direction, **rest):
        asked.append((type(tp).__name__, direction))
        return make(tp, x1, x2, direction, **rest)

    monkeypatch.setattr(correct, "make_call", noted)
    correct.once("cpu", "cg-sparse")
    assert len(asked) == len(products.get("cg-sparse").kinds) == 3
    assert {direction for _, direction in asked} == {"double-backward"}


def test_powers_are_timed_beside_their_peers_that_are_installed():
    found = list(power_timings.steps("cpu", 3, 0.0))
    # lmax 1 to 3, 64 and 128 channels, three directions.
    assert len({step.name for step in found}) == 18
    (own,) = [step for step in found if step.name == "powers 1 64 double-backward 3"]
    rows = list(own.rows())
    here = {row.product: row for row in rows if row.status == "ok"}
    assert set(here) >= {f"power {name}" for name in powers.own()}
    assert {row.role for row in here.values()} == {"power"}
    absent = {row.product: str(row.reason) for row in rows if row.status == "cancelled"}
    peers = {f"power {name}" for name in power_timings.PEERS}
    assert set(here) | set(absent) >= peers
    assert all("No module named" in reason for reason in absent.values())
    text = page(rows)
    assert "## Power of 64 channels of 0e+1o to 0e+1o, 3 nodes, float32, double-backward" in text
    assert "| power cg |" in text


def test_a_power_that_is_wrong_is_not_timed(monkeypatch):
    monkeypatch.setattr(power_timings, "GATES", {torch.float32: 0.0})
    step = next(iter(power_timings.steps("cpu", 3, 0.0)))
    rows = list(step.rows())
    assert {row.status for row in rows} == {"failed", "cancelled"}
    assert "not timed" in str(rows[0].reason)


def test_launch_sizes_of_every_family_are_tried_in_one_run(monkeypatch):
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    monkeypatch.setattr(tuning, "BATCH", 8)
    monkeypatch.setattr(tuning, "EDGES", 40)
    monkeypatch.setattr(tuning, "CHANNELS", 2)
    monkeypatch.setattr(tuning, "LAYERS", ("nequip-water",))
    written: list[dict[str, int]] = []
    monkeypatch.setattr(launches, "write", lambda card, shapes: written.append(shapes))
    families = {step.name.split()[1]: list(step.rows()) for step in tuning.steps("cpu")}
    assert set(families) == set(launches.DEFAULTS)
    assert {row.product for row in families["edge"]} == {
        f"cg-sparse {size} edge" for size in launches.SHAPES
    }
    assert not written


def test_the_page_shows_what_gave_no_result():
    right = make_row(PROBLEM, "a", "agreement", {"max": 0.0, "median": 0.0, "per_degree": {},
                                                 "gate": 1e-12})  # fmt: skip
    bad = make_row(PROBLEM, "b", "runtime", None, status="failed", reason="out of | memory")
    text = page([right, bad])
    assert "1 checks" in text
    assert "| b | runtime | MIMO lmax 1, 1 channels, pair, batch 1000, float32, forward | failed " \
        "| out of / memory |" in text  # fmt: skip


COUNTED = """==PROF== Connected to process 1
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","paths_forward","dram__bytes.sum","byte","1,024"
"0","paths_forward","launch__registers_per_thread","register/thread","40"
"1","copy","dram__bytes.sum","byte","8"
"""


def test_counters_are_read_kernel_by_kernel():
    first, second = counters.parsed(COUNTED, "cg-sparse")
    assert first.kernel == "paths_forward"
    assert first.values == {"dram__bytes.sum": 1024.0, "launch__registers_per_thread": 40.0}
    assert second.values == {"dram__bytes.sum": 8.0}


def test_counters_stand_beside_what_was_counted_for_the_same_call(tmp_path, monkeypatch):
    called = tmp_path / "called"
    fake = tmp_path / "ncu"
    fake.write_text(
        f"#!/bin/sh\necho \"$@\" > {called}\ncat <<'END'\n{COUNTED}"
        '"1","copy","smsp__sass_thread_inst_executed_op_ffma_pred_on.sum","inst","3,000"\nEND\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    table = tmp_path / "counters.csv"
    (step,) = [one for one in counters.steps("cpu", 3, table) if one.product == "cg-sparse"]
    cost, counted = step.rows()
    assert counted.measured == {"bytes": 1032.0, "flops": 6000.0}
    assert cost.problem == counted.problem
    assert cost.measured["flops"] == 2 * cost.measured["macs"] > 0
    # What the profiler looks at is the problem of the row.
    asked = called.read_text().partition("--problem ")[2]
    assert Problem.from_dict(json.loads(asked)) == Problem.from_dict(counted.problem)
    assert table.read_text().count("cg-sparse") == 2
    line = next(line for line in page([cost, counted]).splitlines() if "0.006" in line)
    assert line.startswith("| cg-sparse | 0.00103 |")


def test_what_a_profiler_looks_at_is_the_problem_that_is_named(monkeypatch):
    ran = []

    def noted(problem, name):
        ran.append((problem, name))
        return build(problem, name)

    monkeypatch.setattr(counters, "build", noted)
    words = ["--device", "cpu", "--once", "cg-sparse", "--problem", json.dumps(PROBLEM.as_dict())]
    assert main.main(words) == 0
    assert ran == [(PROBLEM, "cg-sparse")]


class _Form(RowForm):
    def sources(self, evaluation):
        return []


def test_launch_shapes_are_kept_by_card_and_used_on_it(tmp_path, monkeypatch):
    table = tmp_path / "launches.json"
    launches.write("A card", {"rows": 64}, table)
    launches.write("Another", {"rows": 32}, table)
    monkeypatch.setattr(launches, "TABLE", table)
    launches.table.cache_clear()
    try:
        assert launches.shape("rows", "A card") == 64
        assert launches.shape("rows", "Unknown") == launches.DEFAULTS["rows"]
        form = _Form("key", 128, [[ChannelBlock(0, 1)]])
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
        assert form.rows == 64
    finally:
        launches.table.cache_clear()


def test_a_broken_row_is_not_read(tmp_path):
    path = tmp_path / "gpu.jsonl"
    good = make_row(PROBLEM, "a", "cost", {"macs": 1, "bytes": 4, "flops": 2})
    path.write_text(replace(good, measure="nothing").to_json() + "\n")
    with pytest.raises(ValueError, match="measure"):
        list(read(path))

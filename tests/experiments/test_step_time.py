"""What a step costs with each power: rows from real rounds, and ratios from known times."""

from __future__ import annotations

import json
import random

import pytest
import torch

from etp.analysis.step_time import step_finding
from etp.cli.main import main
from etp.experiments import step_time, structures
from etp.experiments.potential import PotentialTraining
from etp.experiments.settings import PotentialSettings
from etp.experiments.step_time import NetworkSlot
from etp.powers import Power
from etp.results.reference import step_rows
from etp.results.rows import Row, check_row
from etp.run import case as cases

SMALL = PotentialSettings(channels=2, steps=2, batch=2, threads=1)
POWERS = ("gaunt-grid", "cg")


def small_case(**change) -> dict[str, object]:
    return SMALL.case(POWERS) | {"kind": "step-time", "product": "cg-sparse"} | change


def test_every_round_takes_a_step_with_each_power_and_a_twin_of_the_first():
    few = structures.bundled()[:20]
    seen = [len(slots[0].steps_s) for slots in step_time.rounds("cg-sparse", POWERS, SMALL, few)]
    assert seen == [1, 2]
    *_, slots = step_time.rounds("cg-sparse", POWERS, SMALL, few)
    assert [slot.power for slot in slots] == ["gaunt-grid", "cg", "rest", "gaunt-grid"]
    assert all(len(slot.steps_s) == 2 for slot in slots)
    first, _, rest, twin = (slot.training.network for slot in slots)
    assert not [module for module in rest.modules() if isinstance(module, Power)]
    assert all(weights.grad is not None for weights in rest.parameters()), "all else is done"
    for a, b in zip(first.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_ratios_and_shares_are_those_of_the_times():
    rng = random.Random(1)
    # What slows the machine slows all steps of a round.
    course = [1 + rng.random() for _ in range(20)]

    def slot(power: str, seconds: float) -> NetworkSlot:
        steps = [seconds * (1 + 0.02 * rng.random()) * slow for slow in course]
        return NetworkSlot(power, None, steps)  # type: ignore[arg-type]

    given = [slot("cg", 1.0), slot("matrix", 1.5), slot("rest", 0.9), slot("cg", 1.0)]
    first, second = step_time.results(given)
    assert first["ratio"] == 1.0
    assert first["floor"] == pytest.approx(1.0, abs=0.02)
    assert second["ratio"] == pytest.approx(1.5, rel=0.01)
    assert second["high"] - second["low"] < 0.1
    assert second["word"] == "slower"
    for row, share in ((first, 0.1), (second, 0.4)):
        assert row["share_low"] < share < row["share_high"] < 1
        assert row["share_high"] - row["share_low"] < 0.1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1.5, "shortest with cg: 1.00 s."), (1.01, "shortest with cg and matrix: 1.00 s. The rounds")],
)
def test_powers_that_no_round_tells_apart_are_named_together(seconds, said):
    rng = random.Random(2)

    def row(power: str, time: float) -> Row:
        taken = [time * (1 + 0.3 * rng.random()) for _ in range(20)]
        result = {"median_s": time, "samples_s": taken, "rounds": 20}
        old = step_rows()[0]
        problem = {**old.problem, "channels": 4}
        return Row.new(problem, power, "step-time", result, old.environment)

    heading = step_finding([row("cg", 1.0), row("matrix", seconds)]).heading
    assert heading.startswith(f"At 4 channels a training step is {said}")


def test_many_channels_take_smaller_steps_and_do_not_run_away():
    wide = PotentialSettings(channels=256, lmax=3, steps=6, batch=1, power="gaunt-grid", threads=1)
    training = PotentialTraining("cg-sparse", wide, structures.bundled()[:20])
    assert max(step.loss for step in training.steps()) < 1e6


def test_a_cancelled_case_keeps_what_was_timed():
    asked = iter([True])
    items = list(cases.run(small_case(), lambda: next(asked, True)))
    rows = [item for item in items if isinstance(item, Row)]
    assert [row.product for row in rows] == list(POWERS)
    for row in rows:
        check_row(json.loads(row.to_json()))
        assert row.measured["rounds"] == 1
        assert row.measured["reference"] == "gaunt-grid"
    assert rows[1].measured["low"] is None, "one round bounds nothing"


def test_the_command_prints_a_line_for_each_power(capsys, tmp_path):
    words = ["--channels", "2", "--lmax", "1", "--steps", "1", "--powers", "gaunt-grid,cg"]
    out = tmp_path / "rows.jsonl"
    assert main(["experiment", "step-time", *words, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    # On a busy machine a line more says that it was.
    assert [line.split()[0] for line in lines][:4] == ["power", "gaunt-grid", "cg", "1"]
    assert len(out.read_text().splitlines()) == 2
    assert main(["experiment", "step-time", "--powers", "cubes"]) == 2
    assert "--powers must be among cg" in capsys.readouterr().err

"""What a step costs with each power: rows from real rounds, and ratios from known times."""

from __future__ import annotations

import json
import random

import pytest
import torch

from etp.cli.main import main
from etp.experiments import step_time, structures
from etp.experiments.potential import Training
from etp.experiments.settings import Potential
from etp.experiments.step_time import Slot
from etp.powers import Power
from etp.results.rows import Row, check_row
from etp.run import case as cases

SMALL = Potential(channels=2, steps=2, batch=2, threads=1)
POWERS = ("gaunt-grid", "cg")


def small_case(**change) -> dict[str, object]:
    return SMALL.case(POWERS) | {"kind": "step-time", "product": "cg-sparse"} | change


def test_every_round_takes_a_step_with_each_power_and_a_twin_of_the_first():
    few = structures.bundled()[:20]
    seen = [len(slots[0].steps_s) for slots in step_time.rounds("cg-sparse", POWERS, SMALL, few)]
    assert seen == [1, 2]
    *_, slots = step_time.rounds("cg-sparse", POWERS, SMALL, few)
    assert [slot.power for slot in slots] == ["gaunt-grid", "cg", "gaunt-grid"]
    assert all(len(slot.steps_s) == len(slot.alone_s) == 2 for slot in slots)
    first, _, twin = (slot.training.network for slot in slots)
    for a, b in zip(first.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_powers_alone_are_those_of_every_layer_and_change_nothing():
    training = Training("cg-sparse", SMALL, structures.bundled()[:20])
    call = step_time._alone(training)
    before = [weights.detach().clone() for weights in training.network.parameters()]
    raised = []
    powers = [module for module in training.network.modules() if isinstance(module, Power)]
    for power in powers:
        power.register_forward_hook(lambda power, given, z: raised.append(z.shape[0]))
    call()
    assert raised == [2 * 27] * SMALL.layers
    for old, weights in zip(before, training.network.parameters(), strict=True):
        assert torch.equal(old, weights)


def test_ratios_and_shares_are_those_of_the_times():
    rng = random.Random(1)

    def slot(power: str, seconds: float) -> Slot:
        steps = [seconds * (1 + 0.02 * rng.random()) for _ in range(20)]
        return Slot(power, None, steps, [0.25 * step for step in steps])  # type: ignore[arg-type]

    first, second = step_time.results([slot("cg", 1.0), slot("matrix", 1.5), slot("cg", 1.0)])
    assert first["ratio"] == 1.0
    assert first["floor"] == pytest.approx(1.0, abs=0.02)
    assert second["low"] < 1.5 < second["high"]
    assert second["high"] - second["low"] < 0.1
    assert second["word"] == "slower"
    assert second["share"] == pytest.approx(0.25)


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
    assert [line.split()[0] for line in lines] == ["power", "gaunt-grid", "cg", "1"]
    assert len(out.read_text().splitlines()) == 2
    assert main(["experiment", "step-time", "--powers", "cubes"]) == 2
    assert "--powers must be among cg" in capsys.readouterr().err

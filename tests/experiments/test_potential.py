"""A potential on the bundled molecule: exact derivatives, symmetries, learning, going on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from etp.cli.main import main
from etp.experiments import potential, sampling, structures
from etp.experiments.mace import Mace
from etp.experiments.settings import PotentialSettings
from etp.experiments.structures import Batch, Structure
from etp.maths import so3
from etp.results.reference import potential_rows
from etp.results.rows import Row, check_row
from etp.run import case as cases
from tests.experiments import distributed_training
from tests.make import complaint

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = ("cg-sparse", "gaunt-grid", "matrix", "so2")
SMALL = PotentialSettings(channels=2, steps=6, batch=2, check_every=3, dtype="float64", threads=1)


@cache
def frames() -> list[Structure]:
    """Twenty frames at 300 K, and four of those at 600 K."""
    every = structures.bundled()
    return every[:20] + [each for each in every if each.group == "600 K"][:4]


def start(
    product: str = "cg-sparse", settings: PotentialSettings = SMALL
) -> potential.PotentialTraining:
    return potential.PotentialTraining(product, settings, frames())


def given(network: Mace, chosen: list[Structure]) -> Batch:
    return structures.batch(chosen, network.elements, SMALL.cutoff, torch.float64, "cpu")


def test_the_bundled_set_is_one_molecule_at_two_temperatures():
    every = structures.bundled()
    assert {each.group for each in every} == {"300 K", "600 K"}
    assert len(every) >= 300
    assert structures.BUNDLED.stat().st_size < 3_000_000
    for each in every:
        assert sorted(each.numbers) == sorted([6] * 12 + [1] * 12 + [7] * 2 + [8])
        assert np.isfinite(each.forces).all()
        assert abs(each.forces.sum(0)).max() < 1e-2, "nothing pulls at the whole molecule"
    parts = structures.split(every)
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes["train"] == 8 * sizes["test"]
    assert sizes["valid"] == sizes["test"]
    assert sum(sizes.values()) == len(every)


@pytest.mark.parametrize("product", PRODUCTS)
def test_forces_are_the_slopes_of_the_energy(product):
    network = start(product).network.eval()
    batch = given(network, frames()[:2])
    _, forces = network(batch.graph, batch.elements)
    step = 1e-4
    for atom, axis in ((0, 0), (13, 1), (40, 2)):
        ends = []
        for sign in (1, -1):
            positions = batch.graph.positions.clone()
            positions[atom, axis] += sign * step
            graph = batch.graph._replace(positions=positions)
            ends.append(network.energies(graph, batch.elements).sum().item())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert forces[atom, axis].item() == pytest.approx(-slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("product", PRODUCTS)
def test_energies_do_not_turn_and_forces_do(product):
    network = start(product).network.eval()
    batch = given(network, frames()[:2])
    energies, forces = network(batch.graph, batch.elements)
    (rotation,) = so3.random_rotations(1, torch.Generator().manual_seed(2))
    for turn in (rotation, -rotation):
        positions = batch.graph.positions @ turn.T + 3.0
        graph = batch.graph._replace(positions=positions)
        turned, pulled = network(graph, batch.elements)
        size = forces.abs().max().item()
        assert (turned - energies).abs().max() < 1e-10 * size + 1e-9
        torch.testing.assert_close(pulled, forces @ turn.T, rtol=1e-9, atol=1e-9 * size)
    alone = given(network, frames()[1:2])
    torch.testing.assert_close(network(alone.graph, alone.elements)[0], energies[1:])


def test_an_atom_that_leaves_the_cutoff_changes_nothing_at_once():
    network = start().network.eval()
    first = frames()[0]

    def pair(distance: float) -> float:
        positions = np.array([[0.0, 0.0, 0.0], [0.0, distance, 0.0]])
        two = Structure(first.numbers[:2], positions, 0.0, 0 * positions, "")
        batch = given(network, [two])
        return network.energies(batch.graph, batch.elements).item()

    inside, outside = (pair(SMALL.cutoff + shift) for shift in (-1e-3, 1e-3))
    assert pair(1.5) != pytest.approx(outside)
    assert inside == pytest.approx(outside, abs=1e-6)


def test_learning_beats_the_mean_energy_by_far():
    settings = PotentialSettings(channels=8, steps=100, batch=4, check_every=25, threads=1)
    training = potential.PotentialTraining("cg-sparse", settings, structures.bundled()[:60])
    for _ in training.steps():
        pass
    errors = training.errors("test")
    mean = potential.mean_errors(training.parts, "test")
    assert errors.force < mean.force / 2
    assert errors.energy < mean.energy
    assert training.taken[-1].loss < training.taken[0].loss / 3


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(tmp_path):
    whole = [step.loss for step in start().steps()]
    assert len(whole) == 6
    path = tmp_path / "kept.pt"
    killed = start()
    killed.keep(path)
    steps = killed.steps()
    for _ in range(5):  # the checkpoint is of step 3
        next(steps)
    later = start()
    later.keep(path)
    assert [step.number for step in later.steps()] == [4, 5, 6]
    assert [step.loss for step in later.taken] == whole
    assert [check.step for check in later.checks] == [3, 6]
    other = potential.PotentialTraining("cg-sparse", PotentialSettings(channels=4), frames())
    with pytest.raises(ValueError, match=r"checkpoint: .* is not of these settings"):
        other.load(path)


def test_what_is_built_at_first_use_is_no_time_of_training(monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))
    training = start()
    loss = training._loss

    def slow_at_first(given: Batch) -> torch.Tensor:
        if not seen:
            seen.append([next(now) for _ in range(5000)])
        return loss(given)

    seen: list[list[int]] = []
    monkeypatch.setattr(training, "_loss", slow_at_first)
    assert [step.seconds for step in training.steps()] == [1.0] * 6


def test_a_training_stops_when_validation_gains_no_more_and_keeps_its_best(monkeypatch):
    training = potential.PotentialTraining(
        "cg-sparse",
        PotentialSettings(channels=2, steps=50, batch=2, check_every=1, patience=2),
        frames(),
    )
    seen = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(training, "errors", lambda part: potential.Errors(0.0, next(seen)))
    weights = [training.network.get_parameter("start").detach().clone() for _ in training.steps()]
    assert len(training.taken) == 4
    assert training.stalled
    torch.testing.assert_close(training.best["start"], weights[1])


def test_a_case_yields_a_row_with_errors_of_what_was_held_out(monkeypatch):
    few = frames()
    monkeypatch.setattr(structures, "bundled", lambda: few)
    items = list(cases.run(SMALL.case(["gaunt-grid", "nothing"])))
    rows = [item for item in items if isinstance(item, Row)]
    assert [row.status for row in rows] == ["ok", "invalid"]
    for row in rows:
        check_row(json.loads(row.to_json()))
    result = rows[0].measured
    assert set(result["energy_mev"]) == {"valid", "test", "600 K"}
    assert result["check_steps"] == [3, 6]
    assert len(result["losses"]) == 6


def test_the_command_prints_a_table_and_keeps_the_rows(monkeypatch, tmp_path, capsys):
    few = frames()
    monkeypatch.setattr(structures, "bundled", lambda: few)
    out = tmp_path / "rows.jsonl"
    words = ["--channels", "2", "--steps", "2", "--batch", "2", "--products", "gaunt-grid"]
    words += ["--power", "gaunt-grid", "--checkpoints", str(tmp_path / "kept"), "--out", str(out)]
    assert main(["experiment", "potential", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3
    assert lines[2].split()[:3] == ["gaunt-grid", "gaunt-grid", "test"]
    assert len(out.read_text().splitlines()) == 1
    assert (tmp_path / "kept" / "gaunt-grid-0.pt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--order", "9"], "order must be a whole number from 1 to 4, got 9"),
        (["--power", "cubes"], "power must be one of cg, gaunt-grid"),
        (
            ["--structures", "/no/such.xyz"],
            "--structures must be a file that exists, got /no/such.xyz",
        ),
        (["--structures", "/"], "--structures must be a file that exists, got /"),
        (["--checkpoints", __file__], "--checkpoints must be a folder, got /"),
        (["@/no/such.txt"], "No such file or directory: '/no/such.txt'"),
    ],
)
def test_a_bad_command_is_one_line(words, message, capsys):
    assert message in complaint(["experiment", "potential", *words], capsys)


def test_structures_that_cannot_be_used_are_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="at least 10 of a group, got 9"):
        structures.split(frames()[:9])
    with pytest.raises(ValueError, match="element 7 is not in the training set"):
        structures.batch(frames()[:1], [1, 6, 8], 4.5, torch.float64, "cpu")
    monkeypatch.setitem(sys.modules, "ase.io", None)
    with pytest.raises(ValueError, match=r"pip install 'etp\[potential\]'"):
        structures.read(tmp_path / "some.xyz")


def test_sampled_frames_are_written_and_read(tmp_path):
    each = frames()[0]
    made = [
        sampling.LabelledFrame(each.positions + n, each.energy + n, each.forces, 300.0 + n)
        for n in range(2)
    ]
    sampling.write(tmp_path / "two.npz", each.numbers, made)
    first, second = structures.read(tmp_path / "two.npz")
    assert (first.group, second.group) == ("300 K", "301 K")
    assert second.energy == each.energy + 1
    np.testing.assert_allclose(second.positions, each.positions + 1, atol=1e-4)


def test_sampling_without_its_libraries_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ase", None)
    assert main(["experiment", "sample", "--out", str(tmp_path / "x.npz")]) == 2
    assert "pip install 'etp[potential]'" in capsys.readouterr().err
    assert main(["experiment", "sample", "--counts", "300", "--out", "x.npz"]) == 2
    assert "--counts must be K:N" in capsys.readouterr().err


LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def losses_of(*words: str) -> list[float]:
    """Losses that the script prints, run by some words of Python."""
    command = [sys.executable, *words, str(ROOT / "tests/experiments/distributed_training.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    losses: list[float] = json.loads(done.stdout)["losses"]
    return losses


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_the_whole_batch():
    alone = distributed_training.report()
    assert alone is not None
    assert losses_of(*LAUNCHER) == pytest.approx(json.loads(alone)["losses"], rel=1e-9)


FILE = """# One file for one process, for several, and for several machines.
--products cg-sparse
--channels 2 --layers 1   # small
--steps 2 --batch 4 --check-every 2
--dtype float64 --threads 1
"""


@pytest.mark.slow
def test_one_file_of_options_trains_the_same_on_one_process_and_on_two(tmp_path):
    (given := tmp_path / "potential.txt").write_text(FILE)
    one, two = (tmp_path / f"{name}.jsonl" for name in ("one", "two"))
    words = ["experiment", "potential", f"@{given}", "--out"]
    assert main([*words, str(one)]) == 0
    done = subprocess.run(
        [sys.executable, *LAUNCHER, "-m", "etp", *words, str(two)],
        capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    losses = []
    for out in (one, two):
        (row,) = [Row.read(json.loads(line)) for line in out.read_text().splitlines()]
        assert (row.status, row.problem["channels"]) == ("ok", 2)
        losses.append(row.measured["losses"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)


def test_bundled_trainings_draw_accuracy_against_time_for_many_products():
    rows = potential_rows()
    assert all(row.status == "ok" for row in rows)
    seeds: dict[str, set[int]] = {row.product: set() for row in rows}
    for row in rows:
        seeds[row.product].add(row.problem["seed"])
        result = row.measured
        assert len(result["check_s"]) == len(result["check_force_mev_per_a"]) == 12
        assert result["check_s"] == sorted(result["check_s"])
        for part in ("test", "600 K"):
            assert result["force_mev_per_a"][part] < result["mean_force_mev_per_a"][part] / 2
    assert len(seeds) >= 6
    assert all(each == {0, 1, 2} for each in seeds.values())
    by = {(row.product, row.problem["seed"]): row.measured for row in rows}
    # Two ways to compute one set of maps learn the same, in whatever time.
    for product, other in (("cg-sparse", "e3nn"), ("gaunt-grid", "gaunt-bracket")):
        for seed in range(3):
            a, b = by[product, seed], by[other, seed]
            assert a["gamma"] == b["gamma"]
            assert a["losses"][:20] == pytest.approx(b["losses"][:20], rel=1e-2)
    assert by["gaunt-grid", 0]["gamma"] < by["cg-sparse", 0]["gamma"]

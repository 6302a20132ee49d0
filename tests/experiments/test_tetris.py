"""What a product lets a network learn about two mirror images, on short seeded trainings."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from etp import products
from etp.analysis import learning
from etp.cli.main import main
from etp.experiments import tetris
from etp.experiments.network import Network
from etp.experiments.settings import TetrisSettings
from etp.results.reference import trained_rows
from etp.results.rows import Row, check_row
from etp.run import case as cases
from tests.make import complaint

EVEN = ("gaunt-grid", "gaunt-fourier-fft")
ODD = ("cg-sparse", "complete", "gaunt-bracket", "vector-signal", "so2", "matrix")
FAST = [name for name in products.available() if "convolution" in products.get(name).kinds]


def fresh(product: str, **chosen) -> Network:
    return tetris.build(product, TetrisSettings(**{"channels": 2} | chosen))


def trained(product: str, steps: int) -> tetris.TetrisTraining:
    training = tetris.TetrisTraining(product, TetrisSettings(steps=steps))
    for _ in training.steps():
        pass
    return training


def accuracy(network: Network) -> float:
    counts = tetris.confusion(network, orientations=4)
    assert counts.sum(1).tolist() == [4] * 8
    return int(counts.diagonal().sum()) / int(counts.sum())


def test_pieces_are_eight_different_ones_of_four_cubes_two_of_them_mirror_images():
    cubes = tetris.centres()
    assert cubes.shape == (8, 4, 3)
    distances = [sorted(torch.cdist(piece, piece).flatten().tolist()) for piece in cubes]
    alike = [
        (i, j) for i in range(8) for j in range(i) if distances[i] == pytest.approx(distances[j])
    ]
    assert alike == [(1, 0)], "distances tell all but the screws apart"
    graph = tetris.graph(cubes)
    edges = graph.positions[graph.senders] - graph.positions[graph.receivers]
    torch.testing.assert_close(edges.norm(dim=1), torch.ones(len(edges), dtype=torch.float64))
    assert torch.equal(graph.piece[graph.senders], graph.piece[graph.receivers])
    assert len(edges) == TetrisSettings().problem().batch


@pytest.mark.parametrize("product", FAST)
def test_the_whole_network_is_equivariant(product):
    error = tetris.equivariance_error(fresh(product), product, elements=4)
    if products.get(product).approximate:
        assert error > 1e-3, "what is not equivariant shows in the network"
    else:
        assert error < 1e-12


def test_the_check_of_equivariance_sees_a_broken_network():
    class Broken(Network):
        def forward(self, graph):
            return super().forward(graph) + graph.positions[:1, :1] ** 2

    broken = Broken("cg-sparse", tetris.OUTPUTS, layers=2, channels=2, lmax=1)
    assert tetris.equivariance_error(broken, "cg-sparse", elements=2) > 1e-3


@pytest.mark.parametrize("channels", [2, 16])
@pytest.mark.parametrize("product", EVEN)
def test_even_products_answer_mirror_images_alike_whatever_the_width(product, channels):
    screw = tetris.chirality(fresh(product, channels=channels, layers=4))
    assert screw.mirror_gap < 1e-12
    assert screw.pseudoscalar == 0.0
    assert screw.piece == pytest.approx(screw.mirror, abs=1e-12)


@pytest.mark.parametrize("product", ODD)
def test_odd_products_know_left_from_right_from_three_layers_on(product):
    two, three = (tetris.chirality(fresh(product, layers=layers)) for layers in (2, 3))
    assert two.pseudoscalar < 1e-12
    assert two.mirror_gap < 1e-12
    assert three.pseudoscalar > 1e-6
    assert three.mirror_gap > 1e-6


def test_the_matrix_product_has_small_odd_coefficients_that_balanced_weights_lift():
    plain, balanced, full = (
        tetris.chirality(fresh(product, channels=8, weights=weights)).pseudoscalar
        for product, weights in (("matrix", "none"), ("matrix", "balanced"), ("cg-sparse", "none"))
    )
    assert plain < full / 2
    assert balanced > 2 * plain


def test_clebsch_gordan_learns_all_pieces_and_gaunt_all_but_one():
    full, even = trained("cg-sparse", 45), trained("gaunt-grid", 45)
    assert accuracy(full.network) == 1.0
    assert accuracy(even.network) <= 7 / 8
    counts = tetris.confusion(even.network, orientations=4)
    assert torch.equal(counts[0], counts[1]), "both screws are called the same"
    assert tetris.chirality(even.network).mirror_gap < 1e-12


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been():
    settings = TetrisSettings(channels=2, layers=2, steps=6)
    whole = tetris.TetrisTraining("cg-sparse", settings)
    losses = [step.loss for step in whole.steps()]
    first = tetris.TetrisTraining("cg-sparse", settings)
    steps = first.steps()
    for _ in range(3):
        next(steps)
    state = first.state()
    next(steps)  # what happens after the state was taken is no part of it
    second = tetris.TetrisTraining("cg-sparse", settings)
    second.resume(state)
    assert [step.number for step in second.steps()] == [4, 5, 6]
    assert [step.loss for step in second.taken] == losses
    # Losses do not change with rotations, but the rotations too are those of the whole.
    assert torch.equal(second.state()["generator"], whole.state()["generator"])


def test_learned_weights_of_a_product_are_learned():
    training = tetris.TetrisTraining(
        "gaunt-grid", TetrisSettings(channels=2, layers=1, weights="shared", steps=2)
    )
    weights = training.network.get_parameter("layers.0.weights")
    before = weights.detach().clone()
    for _ in training.steps():
        pass
    assert before.unique().tolist() == [1.0]
    assert not torch.equal(weights, before)


SMALL = TetrisSettings(channels=2, layers=2, steps=3)


def test_a_case_yields_progress_and_a_row_for_each_product():
    torch.set_num_threads(threads := 2)
    items = list(cases.run(SMALL.case(["gaunt-grid", "nothing", "vector-signal"])))
    rows = [item for item in items if isinstance(item, Row)]
    assert [row.status for row in rows] == ["ok", "invalid", "ok"]
    assert "no tensor product 'nothing'" in str(rows[1].reason)
    for row in rows:
        check_row(json.loads(row.to_json()))
    result = rows[0].measured
    assert result["accuracy"] <= 7 / 8
    assert len(result["losses"]) == result["steps"] == 3
    assert sum(map(sum, result["confusion"])) == 8 * tetris.ORIENTATIONS
    assert sum(result["seen"]) == pytest.approx(1)
    assert rows[0].problem["channels"] == 2
    assert torch.get_num_threads() == threads, "the next case may want all of them"
    last = [item for item in items if not isinstance(item, Row) and "step" in item]
    assert last[-1]["step"] == last[-1]["steps"] == 3


def test_a_cancelled_case_says_so_for_every_product_left():
    calls = iter([False, False, True])
    items = cases.run(SMALL.case(["gaunt-grid", "cg-sparse"]), lambda: next(calls, True))
    rows = [item for item in items if isinstance(item, Row)]
    assert [(row.product, row.status) for row in rows] == [
        ("gaunt-grid", "cancelled"), ("cg-sparse", "cancelled"),
    ]  # fmt: skip
    reasons = [row.reason for row in rows]
    assert reasons == ["cancelled after 1 steps", "cancelled before it was trained"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers must be a whole number from 1 to 6, got 0"),
        ({"weights": "per-sample"}, "weights must be one of none, shared, balanced"),
        ({"device": "tpu"}, "device must be 'cpu' or 'cuda:N'"),
        ({"depth": 3}, "settings have no field 'depth'"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_sentence(change, message):
    case = SMALL.case(["gaunt-grid"])
    case["settings"] = asdict(SMALL) | change
    with pytest.raises(ValueError, match=message):
        list(cases.run(case))


def test_the_command_prints_a_line_for_each_product_and_keeps_the_rows(tmp_path, capsys):
    out = tmp_path / "tetris.jsonl"
    words = ["--channels", "2", "--layers", "2", "--steps", "2", "--seeds", "0,1"]
    words += ["--products", "cg-sparse,gaunt-grid"]
    assert main(["experiment", "tetris", *words, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["product", "cg-sparse", "gaunt-grid"]
    rows = [Row.read(json.loads(line)) for line in out.read_text().splitlines()]
    assert sorted((row.product, row.problem["seed"]) for row in rows) == [
        ("cg-sparse", 0), ("cg-sparse", 1), ("gaunt-grid", 0), ("gaunt-grid", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "9"], "layers must be a whole number from 1 to 6, got 9"),
        (["--seeds", "a"], "--seeds must be whole numbers from 0, separated by commas, got 'a'"),
        (["--products", "nothing"], "no tensor product 'nothing'"),
        (["--out", "/"], "--out must be a file that can be written, got /: Is a directory"),
    ],
)
def test_a_bad_command_is_one_line(words, message, capsys):
    assert message in complaint(["experiment", "tetris", *words], capsys)


def test_bundled_trainings_say_what_the_page_says():
    rows = trained_rows()
    table = learning.frame(learning.trained(rows, 3, "none")).set_index("product")
    assert set(table.index) == {*ODD, *EVEN}
    assert (table["seeds"] >= 3).all()
    assert (table.loc[list(ODD), "low"] == 8).all()
    assert (table.loc[list(EVEN), "high"] <= 7).all()
    assert (table["equivariance"] < 1e-12).all()
    two = learning.frame(learning.trained(rows, 2, "none"))
    assert (two["mirror_gap"] < 1e-12).all(), "two layers are blind, whatever the product"
    balanced = learning.frame(learning.trained(rows, 3, "balanced")).set_index("product")
    plain, lifted = (each["start_pseudoscalar"]["matrix"] for each in (table, balanced))
    assert lifted > 2 * plain
    said = learning.learning_finding(table.reset_index(), 3)
    assert "gaunt-grid" in said.heading
    assert "7 of 8" in said.meaning
    confusion = learning.confusion(rows, "gaunt-grid")
    assert confusion.groupby("piece")["share"].sum().tolist() == pytest.approx([1] * 8)


def test_findings_do_not_claim_more_than_was_trained():
    rows = trained_rows()
    alone = [row for row in rows if row.product == "cg-sparse"]
    said = learning.learning_finding(learning.frame(learning.trained(alone, 3, "none")), 3)
    assert "every product shown" in said.heading
    two = learning.learning_finding(learning.frame(learning.trained(alone, 2, "none")), 2)
    assert "no product shown" in two.heading
    assert "three layers" in two.meaning
    assert "Nothing" in learning.learning_finding(learning.frame([]), 3).heading

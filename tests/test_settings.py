from __future__ import annotations

import subprocess
import sys

import pytest

from etp import plans
from etp.problem import Problem
from etp.settings import Settings


def test_an_address_brings_settings_back():
    made = Settings(
        setting="Custom", irreps1="0e+1o", irreps2="2e", keep="1o+2o", lmax=(2, 5), channels=8,
        products=("cg-sparse", "matrix"), dtype="float64", devices=("cuda:0",), at=3, job="abc",
        weights="per-sample",
    )  # fmt: skip
    assert Settings.from_query(made.to_query()) == (made, [])


def test_defaults_leave_the_address_empty():
    assert Settings().to_query() == {}


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"lmax": "700"}, "lmax"),
        ({"lmax": "4:1"}, "lmax"),
        ({"batch": "-1"}, "batch"),
        ({"batch": "many"}, "batch"),
        ({"dtype": "int8"}, "dtype"),
        ({"weights": "many"}, "weights"),
        ({"setting": "<script>"}, "setting"),
        ({"products": ""}, "products"),
        ({"irreps1": "x" * 2000}, "irreps1"),
    ],
)
def test_what_an_address_cannot_mean_is_said_and_left_at_its_default(query, word):
    found, (error,) = Settings.from_query(query)
    assert found == Settings()
    assert word in error


def test_unknown_names_in_an_address_are_ignored():
    assert Settings.from_query({"utm": "x"}) == (Settings(), [])


def test_cases_cover_every_lmax_and_measure_the_device_once():
    cases = plans.COMPARE.cases(Settings(lmax=(1, 3), devices=("cpu",)))
    assert [case["problem"]["lmax"] for case in cases] == [1, 2, 3]
    assert [case["roofs"] for case in cases] == [False, False, True]


@pytest.mark.parametrize("plan", [plans.COMPARE, plans.CHECKS, plans.COUNTS], ids=lambda p: p.title)
def test_every_plan_makes_cases_with_a_problem_and_an_estimate(plan):
    chosen = Settings()
    assert plan.seconds(chosen) > 0
    for case in plan.cases(chosen):
        assert Problem.from_dict(case["problem"]).size().paths > 0
        assert case["products"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"setting": "Custom", "irreps1": "0e+1x"}, "irreps1: position 4"),
        ({"setting": "Custom", "irreps1": "1o", "irreps2": "1o", "keep": "1o"}, "1e"),
        ({"products": ()}, "products: choose"),
        ({"devices": ()}, "devices: choose"),
        ({"setting": "SISO", "outputs": "natural", "lmax": (3, 3)}, "odd times odd is even"),
    ],
)
def test_what_cannot_run_is_refused_before_it_starts(change, words):
    with pytest.raises(ValueError, match=words):
        plans.COMPARE.cases(Settings().with_(**change))


def test_siso_with_natural_outputs_leaves_out_odd_lmax():
    chosen = Settings(setting="SISO", outputs="natural", lmax=(1, 5))
    assert chosen.degrees() == [2, 4]


@pytest.mark.parametrize(
    "chosen",
    [Settings(), Settings(setting="Custom", keep="0e+1o", channels=4)],
    ids=["set", "typed"],
)
def test_the_command_shown_is_one_that_the_command_line_understands(chosen, tmp_path):
    import shlex

    from etp.cli import parser

    words = shlex.split(chosen.command())
    assert words[:3] == ["python", "-m", "etp"]
    options = parser().parse_args(words[3:])
    assert options.products == ",".join(chosen.products)


@pytest.mark.parametrize("chosen", [Settings(), Settings(setting="Custom", channels=2, batch=10)])
def test_the_python_shown_runs(chosen):
    code = chosen.with_(batch=10, lmax=(1, 1)).snippet("cg-sparse")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)

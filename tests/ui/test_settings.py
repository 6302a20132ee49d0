from __future__ import annotations

import subprocess
import sys

import pytest

from etp.problem import Problem
from etp.ui import plans
from etp.ui.settings import Settings


def test_an_address_brings_settings_back():
    made = Settings(
        setting="Custom", irreps1="0e+1o", irreps2="2e", keep="1o+2o", lmax=(2, 5), channels=8,
        products=("cg-sparse", "matrix"), dtype="float64", devices=("cuda:0",), at=3, job="abc",
        axis="batch", batches=(3, 70), channel_counts=(2, 5, 9),
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
        ({"axis": "colour"}, "axis must be one of lmax, batch, channels"),
        ({"batches": "10,many"}, "batches must be a whole number"),
        ({"batches": "10,0"}, "batches must be a whole number from 1"),
        ({"batches": ""}, "batches"),
        ({"batches": ",".join(map(str, range(1, 20)))}, "batches must be at most 12 numbers"),
        ({"channel_counts": "1,99999"}, "channel_counts must be a whole number from 1 to 4096"),
    ],
)
def test_what_an_address_cannot_mean_is_said_and_left_at_its_default(query, word):
    settings, (error,) = Settings.from_query(query)
    assert settings == Settings()
    assert word in error


def test_unknown_names_in_an_address_are_ignored():
    assert Settings.from_query({"utm": "x"}) == (Settings(), [])


def test_cases_cover_every_lmax_and_measure_the_device_once():
    cases = plans.COMPARE.cases(Settings(lmax=(1, 3), devices=("cpu",)))
    assert [case["problem"]["lmax"] for case in cases] == [1, 2, 3]
    assert [case["roofs"] for case in cases] == [False, False, True]


@pytest.mark.parametrize(
    "plan", [plans.COMPARE, plans.SCALING, plans.CHECKS, plans.COUNTS], ids=lambda p: p.title
)
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


def test_sizes_in_an_address_are_sorted_and_each_taken_once():
    settings, errors = Settings.from_query({"batches": "1000, 10,1000", "channel_counts": "4"})
    assert errors == []
    assert (settings.batches, settings.channel_counts) == ((10, 1000), (4,))


@pytest.mark.parametrize(
    ("chosen", "field", "along"),
    [
        (Settings(axis="lmax", lmax=(2, 5)), "lmax", [2, 3, 4, 5]),
        (Settings(axis="batch", batches=(1000, 10)), "batch", [10, 1000]),
        (Settings(axis="channels", channel_counts=(1, 3), at=2), "channels", [1, 3]),
        (Settings(axis="batch", batches=(5, 6), setting="Custom", channels=4), "batch", [5, 6]),
    ],
)
def test_a_sweep_goes_along_its_axis_and_along_no_other(chosen, field, along):
    problems = [Problem.from_dict(case["problem"]) for case in plans.SCALING.cases(chosen)]
    assert [getattr(problem, field) for problem in problems] == along
    for axis in {"lmax", "batch", "channels"} - {field}:
        assert len({getattr(problem, axis) for problem in problems}) == 1
    assert [case["roofs"] for case in plans.SCALING.cases(chosen)][-1]


def test_channels_of_typed_irreps_multiply_their_own():
    chosen = Settings(axis="channels", setting="Custom", irreps1="4x1o", irreps2="4x1o",
                      channel_counts=(1, 2))  # fmt: skip
    assert [problem.channels for problem in plans.scaling_problems(chosen)] == [4, 8]
    assert "--channels 4 8" in plans.scaling_command(chosen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axis": "lmax", "lmax": (3, 3)}, "lmax: choose at least two sizes"),
        ({"axis": "batch", "batches": (10,)}, "batches: choose at least two sizes"),
        ({"axis": "channels", "channel_counts": ()}, "channel_counts: choose at least two sizes"),
        ({"axis": "lmax", "setting": "Custom"}, "axis: typed irreps have one lmax only"),
        ({"axis": "batch", "devices": ()}, "devices: choose at least one"),
        ({"axis": "batch", "batches": (10, 10_000_000), "channels": 64}, "use a batch of at most"),
        ({"axis": "batch", "products": ()}, "products: choose at least one"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused_before_it_starts(change, words):
    with pytest.raises(ValueError, match=words):
        plans.SCALING.checked(Settings().with_(**change))


def test_a_larger_sweep_is_said_to_take_longer():
    few, many = (
        plans.SCALING.seconds(Settings(axis="batch", batches=batches))
        for batches in ((10, 100), (10, 100, 1000, 100_000))
    )
    assert many > few + 5
    assert plans.SCALING.size(Settings(axis="batch", batches=(10, 400))).bytes == (
        40 * plans.SCALING.size(Settings(axis="batch", batches=(5, 10))).bytes
    )


@pytest.mark.parametrize(
    "chosen",
    [
        Settings(),
        Settings(axis="batch", batches=(8, 16), products=("cg-sparse",)),
        Settings(axis="channels", channel_counts=(1, 3), dtype="float64"),
        Settings(axis="lmax", setting="SISO", outputs="natural", lmax=(1, 5)),
        Settings(axis="batch", setting="Custom", keep="0e+1o", channels=4),
    ],
)
def test_the_command_of_a_sweep_makes_the_same_problems(chosen, monkeypatch, tmp_path):
    import shlex

    from etp.cli import commands
    from etp.cli.main import main as cli

    made: list[Problem] = []
    monkeypatch.setattr(
        commands, "sweep", lambda cases, *_, **__: made.extend(case.problem for case in cases)
    )
    chosen = chosen.with_(products=tuple(p for p in chosen.products if p != "e3nn"))
    words = shlex.split(plans.scaling_command(chosen))
    assert cli(words[3:]) == 0
    assert made == plans.scaling_problems(chosen)


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

    from etp.cli.main import parser

    words = shlex.split(chosen.command())
    assert words[:3] == ["python", "-m", "etp"]
    options = parser().parse_args(words[3:])
    assert options.products == ",".join(chosen.products)


def test_the_python_shown_runs():
    """Both in one process."""
    shown = [Settings(), Settings(setting="Custom", channels=2, batch=10)]
    codes = [chosen.with_(batch=10, lmax=(1, 1)).snippet("cg-sparse") for chosen in shown]
    whole = "".join(f"exec({code!r}, {{}})\n" for code in codes)
    subprocess.run([sys.executable, "-c", whole], check=True, capture_output=True)

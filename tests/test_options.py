"""A new option is one line: everything that reads options is asked about one that did not exist."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import pytest

from etp import problem as module
from etp.cli import main as cli
from etp.cli import problems
from etp.options import Option, declared, option
from etp.problem import Options, Problem
from etp.ui import settings as addresses
from etp.ui.settings import Settings


@pytest.mark.parametrize("name", sorted(declared(Options)))
def test_every_option_is_in_addresses_commands_and_the_key_of_the_same_work(name):
    about = declared(Options)[name]
    assert about.label
    usual = getattr(Options, name)
    value = about.choices[-1] if about.choices else (usual or about.low) + 1
    where: dict[str, Any] = {"device": "cuda:0"} if about.gpu_only else {}
    plain = Problem.of_setting("MIMO", 2, **where)
    changed = Problem.of_setting("MIMO", 2, **{**where, name: value})
    assert (changed.work() != plain.work()) is (about.work or name == "outputs")
    options = cli.parser().parse_args(["sweep", *shlex.split(changed.command()), "--products", "x",
                                       "--out", "x.jsonl"])  # fmt: skip
    assert problems.problems(options, [2]) == [changed]
    chosen, errors = Settings.from_query({name: str(value)})
    assert (getattr(chosen, name), errors) == (value, [])
    assert chosen.to_query() == {name: str(value)}
    stored = changed.as_dict()
    del stored[name]  # as a version that did not know it wrote
    assert Problem.from_dict(stored) == changed.at(**{name: usual})


def test_a_new_option_is_one_line(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class More(Options):
        swing: str = option("low", "Swing", choices=("low", "high"), group="numbers")

    @dataclass(frozen=True)
    class Wider(Problem, More):
        pass

    monkeypatch.setattr(problems, "Problem", Wider)
    words = ["measure", "runtime", "--product", "x", "--setting", "MIMO", "--lmax", "2"]
    (made,) = problems.problems(cli.parser().parse_args([*words, "--swing", "HIGH"]), [2])
    assert made == Wider.of_setting("MIMO", 2, swing="high")
    assert made.command().endswith("--swing high")
    assert made.work() != Wider.of_setting("MIMO", 2).work()
    with pytest.raises(ValueError, match="swing must be one of low, high, got 'x'"):
        Wider.of_setting("MIMO", 2, swing="x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "whole number from 1 to 9"),
        ("1_0", "whole number"),
        ("٣", "whole number"),
        ("9" * 5000, "whole number"),
        ("0", "got 0"),
        ("10", "got 10"),
    ],
)
def test_what_is_no_number_is_refused_in_short_words(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        Option(label="N", low=1, high=9).read("n", text)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_a_number_is_a_whole_one(value):
    with pytest.raises(ValueError, match="batch must be a whole number"):
        Problem.of_setting("MIMO", 1, batch=value)


@pytest.mark.parametrize("device", ["", "cpu:0", "cuda:", "cuda:x", 7, "cuda:0\n"])
def test_a_device_that_is_none_is_refused(device):
    with pytest.raises(ValueError, match="device must"):
        Problem.of_setting("MIMO", 1, device=device)


def test_names_of_the_module_stay():
    assert module.Direction
    assert addresses.CUSTOM

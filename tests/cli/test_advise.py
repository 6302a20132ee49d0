"""Advice for all layers of a model, on the command line."""

from __future__ import annotations

import json

import pytest

from etp.cli.main import main
from etp.presets import MODELS
from tests.make import complaint

QUICK = ["--batch", "20", "--budget", "0.05", "--products", "e3nn,cg-sparse"]


def advised(capsys, *words: str) -> str:
    assert main(["advise", *words, *QUICK]) == 0
    return capsys.readouterr().out


def test_a_share_of_the_forward_serves_forwards_alone(capsys):
    forward = json.loads(advised(capsys, "--model", "mace-medium", "--json"))
    share = MODELS["mace-medium"].forward_share
    assert share is not None
    assert (forward["share"], forward["share_of"]) == (share, "forward")
    for total in forward["products"]:
        assert total["gain"] == pytest.approx(1 / (1 - share + share * total["ratio"]))
    step = advised(capsys, "--model", "mace-medium", "--direction", "backward")
    assert "What a step gains: give --share" in step
    assert "none of mace-medium was measured" in step
    assert "forward of mace-torch" not in step


def test_a_share_that_is_given_is_used_and_called_what_it_is(capsys):
    said = advised(capsys, "--model", "mace-large", "--share", "0.5", "--direction", "backward")
    assert "1 x mace-first" in said
    assert "A step gains what is said where these layers take 50 % of it; at most 2.0×" in said
    assert "measured:" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "mace"], "model must be one of mace-medium, mace-large, nequix"),
        (["--model", "nequix", "--share", "1.5"], "--share: must be from 0 to 1, got '1.5'"),
        (["--model", "nequix", "--share", "nan"], "--share: must be from 0 to 1, got 'nan'"),
        (["--model", "nequix", "--layer", "e3tools"], "--model gives the layers: leave --layer"),
        (["--layer", "e3tools", "--share", "0.5"], "--share is of a model: give --model too"),
        (["--model", "nequix", "--products", "cg-spars"], "cg-spars"),
        (["--layer", "mace"], "layer must be one of mace-medium"),
    ],
)
def test_what_cannot_be_advised_is_refused_with_the_mend(capsys, words, said):
    assert said in complaint(["advise", *words], capsys)

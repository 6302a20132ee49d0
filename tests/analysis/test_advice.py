"""Each sentence of the advice, against the numbers below it."""

from __future__ import annotations

import re
from math import exp

import pytest

from etp.analysis.advice import advice, lost
from etp.analysis.comparison import comparisons
from etp.analysis.findings import ways
from etp.cli.terminal import table
from etp.measure.statement import is_wide
from etp.presets import LAYERS, named
from etp.problem import Problem
from etp.results.reference import LAYER_DIRECTIONS, layer_rows
from etp.text import ratio_text
from tests.make import interactions, row, run_of

ALL = {("0e", "0e", "0e"): 1.0, ("0e", "1o", "1o"): 1.0, ("1o", "1o", "1e"): 1.0}
EVEN = {path: 1.0 for path in ALL if path[2] != "1e"}
LAYER = Problem.of_irreps("8x0e+8x1o", "0e+1o", "0e+1o+1e", kind="convolution")


def compared(seconds, paths, *, summed=(), noise=0.01):
    rows = run_of(seconds, twin="e3nn", noise=noise, problem=LAYER)
    rows += [
        interactions(name, paths[name], keeps_paths=name not in summed, allowed=3, problem=LAYER)
        for name in seconds
    ]
    (comparison,) = comparisons(rows, "e3nn")
    return comparison


USUAL = {"e3nn": ALL, "cg-sparse": ALL, "cg-summed": ALL, "gaunt-grid": EVEN}


def test_the_three_sentences_name_the_product_the_speed_and_the_price():
    seconds = {"e3nn": 12e-3, "cg-sparse": 1e-3, "cg-summed": 2e-3, "gaunt-grid": 6e-3}
    said = advice(compared(seconds, USUAL, summed=("cg-summed", "gaunt-grid")))
    assert said.products == ("cg-sparse", "cg-summed", "gaunt-grid")
    assert said.same.startswith("The same operation: cg-sparse does what e3nn does, 12× faster (at")
    assert "cg-summed reaches all 3 paths but adds paths up, 6.0× faster" in said.reach
    assert "2.0× the time of cg-sparse" in said.reach
    assert said.fewer.startswith("Fewer paths buy nothing here: gaunt-grid reaches 2 of 3 paths")
    assert "lost: 1o with 1o to 1e" in said.fewer


def test_where_freedom_costs_the_fastest_says_what_it_gives_up():
    seconds = {"e3nn": 12e-3, "cg-sparse": 4e-3, "cg-summed": 3e-3, "gaunt-grid": 1e-3}
    said = advice(compared(seconds, USUAL, summed=("cg-summed", "gaunt-grid")))
    assert said.fewer.startswith("Fewer paths: gaunt-grid reaches 2 of 3")
    assert "12× faster" in said.fewer
    assert "4.0× faster than cg-sparse" in said.fewer


@pytest.mark.parametrize("noise", [0.06, 0.08, 0.1, 0.12])
def test_the_bound_that_is_said_lies_below_the_estimate(noise):
    seconds = {"e3nn": 12e-3, "cg-sparse": 1e-3}
    comparison = compared(seconds, USUAL, noise=noise)
    said = advice(comparison).same
    bound = float(said.partition("at least ")[2].partition("×")[0])
    assert 8 < bound < 12
    assert bound <= exp(-comparison.judgement.verdicts["cg-sparse"].high)


def test_what_is_not_settled_is_not_claimed():
    seconds = {"e3nn": 1.01e-3, "cg-sparse": 1e-3}
    said = advice(compared(seconds, USUAL, noise=0.3))
    assert "not yet separable" in said.same
    assert said.products == ("cg-sparse", None, None)
    assert "nothing else that was timed reaches every path" in said.reach


def test_two_products_that_no_round_tells_apart_are_not_ranked():
    seconds = {"e3nn": 12e-3, "cg-sparse": 1.01e-3, "cg-summed": 1e-3}
    said = advice(compared(seconds, USUAL, noise=0.3, summed=("cg-summed",)))
    assert said.reach.endswith("and not separable from cg-sparse.")


def test_nothing_that_does_the_same_is_said():
    seconds = {"e3nn": 1e-3, "gaunt-grid": 1e-4}
    said = advice(compared(seconds, USUAL, summed=("gaunt-grid",)))
    assert said.same == "The same operation: nothing else that was timed does what e3nn does."
    assert "faster than cg" not in said.fewer


def test_where_nothing_was_timed_there_is_no_advice():
    refused = row("e3nn", status="failed", result=None, reason="it broke", problem=LAYER)
    (comparison,) = comparisons([refused], "e3nn")
    with pytest.raises(ValueError, match="e3nn was not timed"):
        advice(comparison)


def test_lost_paths_are_those_of_the_baseline_alone():
    seconds = {"e3nn": 1e-3, "gaunt-grid": 1e-4}
    comparison = compared(seconds, USUAL)
    assert lost(comparison, comparison.entry("gaunt-grid")) == [("1o", "1o", "1e")]
    assert lost(comparison, comparison.entry("e3nn")) == []


BUNDLED = {
    (named(comparison.problem) or "", comparison.problem.direction): comparison
    for comparison in comparisons(layer_rows())
}


def test_every_layer_but_one_that_takes_too_long_is_bundled_in_both_directions():
    measured = {name for name in LAYERS if name != "escn-l6-m2"}
    assert set(BUNDLED) == {(n, d) for n in measured for d in LAYER_DIRECTIONS}


FACTOR = re.compile(r"([\d.]+)× (faster|slower) \((?:at least|estimate:) ([\d.]+)×\)")


@pytest.mark.parametrize("layer", BUNDLED, ids=" ".join)
def test_every_sentence_agrees_with_the_table_below_it(layer):
    """Classes, places, factors and counts, from the lines and rows that the table is made of."""
    assert layer[0] in LAYERS
    comparison = BUNDLED[layer]
    said = advice(comparison)
    lines = {line.split()[0]: line for line in table(comparison)}
    base = {
        tuple(t) for t in comparison.entry(comparison.baseline).result("interactions")["triples"]
    }
    classes: list[dict[str, float]] = [{}, {}, {}]
    for entry in comparison.timed:
        if entry.product == comparison.baseline:
            continue
        reached = {tuple(t) for t in entry.result("interactions")["triples"]}
        kind = 0 if comparison.same(entry.product) else 1 if base <= reached else 2
        classes[kind][entry.product] = comparison.judgement.verdicts[entry.product].estimate
    for sentence, product, own in zip(said.sentences, said.products, classes, strict=True):
        assert (product is None) == (not own)
        if product is None:
            continue
        assert own[product] == min(own.values())
        assert product in sentence
        ratio = exp(own[product])
        assert ratio_text(1 / ratio) in lines[product]
        claim = FACTOR.search(sentence)
        word = comparison.judgement.verdicts[product].word
        assert (claim is not None) == (word in ("faster", "slower"))
        if claim is not None:
            assert claim[2] == word
            factor = 1 / ratio if word == "faster" else ratio
            bound, estimate = sorted((float(claim[1]), float(claim[3])))
            assert estimate == pytest.approx(factor, rel=0.06)
            assert bound >= 1
            leads = "at least" in sentence.partition(claim[0])[0][-10:]
            assert leads == is_wide(comparison.judgement.verdicts[product])
    if said.products[2] is not None:
        result = comparison.entry(said.products[2]).result("interactions")
        assert f"{result['count']} of {result['allowed']} {ways(result)}" in said.fewer
        lost_here = lost(comparison, comparison.entry(said.products[2]))
        assert len(lost_here) == len(base) - len(base & {tuple(t) for t in result["triples"]})
        if comparison.problem.kind != "power":
            assert " to ".join([" with ".join(lost_here[0][:2]), lost_here[0][2]]) in said.fewer
    if said.products[1] is not None:
        count = comparison.entry(said.products[1]).result("interactions")["count"]
        assert f"reaches all {count} paths" in said.reach


def test_what_only_approximates_is_in_no_sentence():
    seconds = {"e3nn": 12e-3, "cg-sparse": 4e-3, "near": 1e-4}
    rows = run_of(seconds, twin="e3nn", noise=0.01, problem=LAYER)
    rows += [interactions(name, ALL, allowed=3, problem=LAYER) for name in ("e3nn", "cg-sparse")]
    (comparison,) = comparisons(rows, "e3nn")
    assert "near" in {entry.product for entry in comparison.timed}
    assert advice(comparison).products == ("cg-sparse", None, None)

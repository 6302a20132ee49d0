"""Layers of a model added up, against sums by hand and against the bundled results."""

from __future__ import annotations

from statistics import median

import pytest

from etp.analysis.comparison import comparisons
from etp.analysis.model import MeasuredLayer, largest_batch, largest_batches, model_times
from etp.presets import MODELS, named
from etp.problem import Problem
from etp.results.reference import LAYER_DIRECTIONS, layer_rows
from tests.make import row, run_of

LAYER = Problem.of_irreps("8x0e+8x1o", "0e+1o", "0e+1o+1e", kind="convolution", batch=100)


def part(name, count, **seconds):
    named_so = {product.replace("_", "-"): s for product, s in seconds.items()}
    (comparison,) = comparisons(run_of(named_so, twin="e3nn", noise=1e-6, problem=LAYER), "e3nn")
    return MeasuredLayer(name, count, comparison)


def test_layers_are_added_up_and_a_step_gains_what_amdahl_says():
    parts = [
        part("first", 1, e3nn=2e-3, cg_sparse=1e-3),
        part("main", 3, e3nn=6e-3, cg_sparse=1e-3),
    ]
    fast, base = model_times(parts)
    assert (fast.product, base.product) == ("cg-sparse", "e3nn")
    assert base.seconds == pytest.approx(20e-3, rel=0.02)
    assert fast.ratio == pytest.approx(0.2, rel=0.02)
    assert base.shares == pytest.approx((0.1, 0.9), rel=0.02)
    assert fast.gain(0.5) == pytest.approx(1 / (0.5 + 0.1), rel=0.02)
    assert base.gain(0.5) == pytest.approx(1, rel=0.02)
    with pytest.raises(ValueError, match="share must be from 0 to 1, got 2"):
        fast.gain(2)


def test_only_what_was_timed_in_every_layer_is_added_up():
    parts = [part("first", 1, e3nn=2e-3, cg_sparse=1e-3), part("main", 1, e3nn=2e-3, matrix=1e-3)]
    assert [total.product for total in model_times(parts)] == ["e3nn"]


def test_bundled_models_are_the_sums_of_their_layers():
    bundled = {
        (named(comparison.problem), comparison.problem.direction): comparison
        for comparison in comparisons(layer_rows(), "e3nn")
    }
    whole = [
        (model, direction)
        for model in MODELS.values()
        for direction in LAYER_DIRECTIONS
        if all((layer.name, direction) in bundled for layer, _ in model.layers)
    ]
    assert len(whole) >= 2
    for model, direction in whole:
        parts = [
            MeasuredLayer(layer.name, n, bundled[layer.name, direction])
            for layer, n in model.layers
        ]
        for time in model_times(parts):
            blocks = [
                p.repeats * median(p.comparison.entry(time.product).result("runtime")["blocks_s"])
                for p in parts
            ]
            assert time.seconds == pytest.approx(sum(blocks))
            assert sum(time.shares) == pytest.approx(1)


def test_what_fits_grows_with_memory_and_falls_with_the_peak():
    rows = run_of({"e3nn": 1e-3, "cg-sparse": 1e-3}, twin="e3nn", noise=0.01, problem=LAYER)
    for name, peak in (("e3nn", 9000), ("cg-sparse", 4000)):
        rows.append(row(name, "memory", {"peak_bytes": peak, "table_bytes": 0}, problem=LAYER))
        rows.append(row(name, "cost", {"macs": 1, "bytes": 1000}, problem=LAYER))
    (comparison,) = comparisons(rows, "e3nn")
    base, fast = (comparison.entry(name) for name in ("e3nn", "cg-sparse"))
    assert largest_batch(comparison, base, 10**6) == 8000
    assert largest_batch(comparison, fast, 10**6) == 16000
    assert largest_batch(comparison, fast, 10**7) == 160_000


def test_shares_that_are_bundled_say_where_they_are_from():
    for model in MODELS.values():
        assert model.source
        assert bool(model.share_source) == (model.forward_share is not None)
        assert model.share_of("backward") is None


def test_the_layer_that_needs_most_decides_what_fits_into_a_model():
    parts = []
    for name, peak in (("first", 4000), ("main", 9000)):
        rows = run_of({"e3nn": 1e-3, "cg-sparse": 1e-3}, twin="e3nn", noise=0.01, problem=LAYER)
        rows.append(row("e3nn", "memory", {"peak_bytes": peak, "table_bytes": 0}, problem=LAYER))
        rows.append(row("e3nn", "cost", {"macs": 1, "bytes": 1000}, problem=LAYER))
        parts.append(MeasuredLayer(name, 1, comparisons(rows, "e3nn")[0]))
    assert largest_batches(parts, 10**6) == {"e3nn": 8000}

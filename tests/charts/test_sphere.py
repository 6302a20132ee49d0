"""What is said of the spheres, against quadrature over them."""

from __future__ import annotations

import json

import pytest
import torch

from etp.charts.sphere import Turn, scene
from etp.maths.sphere import exact_resolution, grid, grid_points, spherical_harmonics
from etp.results.reference import reference_rows

ROWS = {row.product: row for row in reference_rows() if row.measure == "sphere"}
BROKEN = "gaunt-grid, one column short"


def turn(product: str) -> Turn:
    return Turn.of_result(ROWS[product].measured, 5e-6)


@pytest.mark.parametrize("product", ["vector-signal", BROKEN])
def test_the_difference_is_that_of_the_signals_over_the_sphere(product):
    turned = turn(product)
    nodes = grid(*exact_resolution(4, 4, 0))
    table = spherical_harmonics(4, grid_points(nodes))
    weight = nodes.weights[:, None]

    def norm(coefficients):
        values = torch.einsum("kc,rsc->krs", torch.as_tensor(coefficients), table)
        return (values**2 * weight).sum((1, 2)).sqrt().max()

    ratio = norm(turned.difference) / norm(turned.multiplied_first)
    assert turned.relative == pytest.approx(float(ratio), rel=1e-10)


def test_every_product_is_told_from_the_one_that_is_broken_on_purpose():
    assert {product for product in ROWS if not turn(product).equivariant} == {BROKEN}


def test_what_is_sent_is_small_and_plain_and_keeps_the_difference():
    sent = scene({name: turn(name) for name in ("gaunt-grid", BROKEN)}, "dark", arrows=True)
    assert len(json.dumps(sent, allow_nan=False)) < 80_000
    right, broken = sent["rows"]
    assert right["right"]
    assert not broken["right"]
    # Roundoff is not lost to the digits that are left out: differences are taken before.
    assert 0 < max(abs(v) for line in right["difference"] for v in line) < 1e-5
    assert len(right["input"][0]) == len(right["last"][0])

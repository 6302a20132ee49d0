"""Multiply-adds of powers: the data against the powers themselves, sentences against the data."""

from __future__ import annotations

import pytest

from etp.analysis.turns import against, counted, natural, sentences, table
from etp.maths import sphere
from etp.powers.clebsch_gordan import ClebschGordan
from etp.text import count_text

SHAPES = {(2, 3, 1), (2, 4, 4), (3, 1, 1), (3, 3, 1), (4, 2, 1)}


@pytest.mark.parametrize("counts", [c for c in counted() if (c.order, c.lmax, c.lout) in SHAPES])
def test_counts_are_those_of_the_power(counts):
    power = ClebschGordan(
        natural(counts.lmax), order=counts.order, irreps_out=natural(counts.lout),
        basis="independent",
    )  # fmt: skip
    assert counts.exact == power.polynomials.macs


@pytest.mark.parametrize("counts", counted()[::5])
def test_the_grid_is_the_smallest_exact_one_of_the_power(counts):
    rest = (counts.order - 1) * counts.lmax
    rows, columns = sphere.exact_resolution(rest, counts.lmax, counts.lout)
    components = (counts.lmax + 1) ** 2 + (counts.lout + 1) ** 2
    assert counts.dense == rows * columns * (components + counts.order - 1)


def test_the_sentences_are_those_of_the_table():
    first, second = sentences()
    known = {(c.order, c.lmax, c.lout): c for c in counted()}
    mace = known[3, 3, 1]
    for value in (mace.exact, mace.dense, mace.separable):
        assert count_text(value) in first
    turned = [c.lmax for c in counted() if (c.order, c.lout) == (4, 1) and c.dense < c.exact]
    assert f"of order 4 from lmax {min(turned)} on (dense)" in second
    assert not [c for c in counted() if (c.order, c.lout) == (2, 1) and c.dense < c.exact]
    assert "of order 2 at no lmax up to 7 (dense)" in second
    assert {line["fewest"] for line in table()} == {"exact", "Gaunt"}


def test_the_chart_tells_gaunt_by_its_cheaper_form_and_crosses_where_the_sentences_say():
    lines = {(line["order"], line["lmax"]): line["gaunt"] / line["exact"] for line in against()}
    assert lines[3, 2] > 1 > lines[3, 3]
    assert min(ratio for (order, _), ratio in lines.items() if order == 2) > 3
    _, second = sentences()
    assert "of order 3 " in second
    assert "from lmax 3 on (separable)" in second

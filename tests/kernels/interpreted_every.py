"""Run by test_interpreted.py: every product in every kind, as on a card; the page says what ran."""

from __future__ import annotations

import pytest

from benchmarks.gpu import correct
from benchmarks.interpreted import Cell, cells, kernels, line, table
from benchmarks.predicted import PAGE
from etp.kernels.on_gpu.triton_source import interpreted as interpreting

assert interpreting(), "this file is run by test_interpreted.py"
pytestmark = pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")


def named(row: str) -> Cell:
    """Whose row it is."""
    product, kind = (word.strip(" `") for word in row.split("|")[1:3])
    return next(cell for cell in cells() if cell == (product, kind))


ROWS = {named(row): row for row in table(PAGE.read_text())}


@pytest.mark.parametrize("cell", cells(), ids="-".join)
def test_derivatives_are_those_of_the_oracle_by_the_kernels_that_the_page_names(cell):
    """A product whose kernel is new, or is gone, differs from its row; without one it has none."""
    assert line(cell) == ROWS.get(cell)


def test_a_wrong_derivative_is_found(monkeypatch):
    right = correct.derivatives

    def wrong(function, inputs, highest, *rest):
        for order, found in enumerate(right(function, inputs, highest, *rest)):
            yield [t * (1 + 1e-9) for t in found] if order == 2 else found

    kept = iter([right, wrong])
    monkeypatch.setattr("benchmarks.interpreted.derivatives", lambda *rest: next(kept)(*rest))
    with pytest.raises(AssertionError, match="float64 second: 1"):
        kernels(Cell("gaunt-grid", "pair"), "float64")

"""Run by test_triton.py: every product in every kind, as on a card; the page says what ran."""

from __future__ import annotations

import pytest

from benchmarks.gpu import correct
from benchmarks.interpreted import Cell, cells, kernels, line, table
from benchmarks.predicted import PAGE
from etp.kernels.on_gpu.triton_source import interpreted as interpreting

assert interpreting(), "this file is run by test_triton.py"
pytestmark = pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")


@pytest.mark.parametrize("cell", cells(), ids="-".join)
def test_derivatives_are_those_of_the_oracle_by_the_kernels_that_the_page_names(cell):
    """A product whose kernel is new, or is gone, differs from its row; a new product has none."""
    assert line(cell) in table(PAGE.read_text())


def test_the_page_has_no_row_of_what_is_not_there():
    assert len(table(PAGE.read_text())) == len(cells())


def test_a_wrong_derivative_is_found(monkeypatch):
    right = correct.derivatives

    def wrong(function, inputs, highest, *rest):
        for order, found in enumerate(right(function, inputs, highest, *rest)):
            yield [t * (1 + 1e-9) for t in found] if order == 2 else found

    kept = iter([right, wrong])
    monkeypatch.setattr("benchmarks.interpreted.derivatives", lambda *rest: next(kept)(*rest))
    with pytest.raises(AssertionError, match="float64 second: 1"):
        kernels(Cell("gaunt-grid", "pair"), "float64")

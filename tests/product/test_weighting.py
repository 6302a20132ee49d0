"""Free weights: rows of factors, what they scale, and how they bring paths to one size."""

from __future__ import annotations

import pytest
import torch

from etp import products
from etp.product import weighting


def test_weights_of_channels_are_rows_of_factors():
    tp = products.get("cg-sparse")("2x0e+2x1o", "2x0e")
    assert len(tp.weighting.factors) == 2
    rows = tp.weighting.rows(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.Size((5,)))
    # Channels are fastest: the first factor has weights 1 and 2.
    assert rows.tolist() == [[1, 3], [2, 4]]


def test_each_component_is_given_the_factor_of_its_irrep():
    tp = products.get("gaunt-grid")("0e+1o", "0e", filter_ir_out="1o")
    (row,) = tp.weighting.spread(torch.arange(3.0)[None], "in1")
    assert len(row) == 4
    assert row[1:].unique().numel() == 1


def test_row_n_is_scaled_by_factor_n_mod_g():
    x = torch.ones(4, 2)
    factors = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert weighting.scaled(x, factors).tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]


def test_balanced_weights_bring_every_path_to_one_size():
    tp = products.get("cg-sparse")("0e+1o+2e", "0e+1o+2e")
    sizes = [
        abs(w) * abs(path.coefficient) / path.ir_out.dim**0.5
        for w, path in zip(tp.weighting.balanced().tolist(), tp.paths, strict=True)
    ]
    assert sizes == pytest.approx([1.0] * len(sizes), rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "said"),
    [(torch.ones(3), r"shape \(2,\)"), (torch.ones(2), "dtype torch.float64")],
)
def test_weights_that_do_not_fit_are_refused(weights, said):
    with pytest.raises(ValueError, match=said):
        weighting.check(weights, torch.zeros(1, dtype=torch.float64), 2)

"""Where components lie: channels of a block, and rows of one channel."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from etp.maths import layout
from etp.product import inputs


def test_channels_of_features_are_rows_and_back():
    irreps = o3.Irreps("2x0e+2x1o")
    x = torch.arange(8.0)
    index = layout.channel_index(irreps, layout.distinct(irreps))
    rows = x[index].reshape(2, 4)
    # e3nn holds the copies of an irrep one after the other: 0e 0e, then two vectors.
    assert rows.tolist() == [[0, 2, 3, 4], [1, 5, 6, 7]]
    back = layout.output_index(layout.distinct(irreps), 2)
    assert rows.flatten()[back].tolist() == x.tolist()


def test_irreps_of_one_channel_lie_one_after_the_other():
    parts = layout.slices([o3.Irrep("1o"), o3.Irrep("0e"), o3.Irrep("2e")])
    assert [(part.start, part.stop) for part in parts] == [(0, 3), (3, 4), (4, 9)]


def test_unequal_multiplicities_are_refused_by_name():
    with pytest.raises(ValueError, match="same multiplicity, got 2 and 3"):
        inputs.common_channels(o3.Irreps("2x0e"), o3.Irreps("3x1o"))

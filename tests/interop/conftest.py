"""e3nn is imported here first: some releases warn, and some load only as etp imports them."""

from __future__ import annotations

import warnings

import pytest
import torch

import etp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    etp.products  # noqa: B018


@pytest.fixture
def in_float64():
    """Modules are built and drawn in double precision, the same each time."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)

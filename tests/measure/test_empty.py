"""The call that computes nothing has the interface of one that computes something."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from etp.measure.empty import _Empty, empty_call_s
from etp.problem import Direction


def test_every_derivative_has_the_shape_of_what_it_is_taken_by():
    x, y = (torch.randn(5, n, requires_grad=True) for n in (3, 4))
    z = _Empty(torch.Size((5, 7)))(x, y)
    assert z.shape == (5, 7)
    grad = torch.randn(5, 7, requires_grad=True)
    firsts = torch.autograd.grad(z, (x, y), grad, create_graph=True)
    assert [g.shape for g in firsts] == [x.shape, y.shape]
    seconds = torch.autograd.grad(firsts, (x, y, grad), tuple(map(torch.randn_like, firsts)))
    assert [g.shape for g in seconds] == [x.shape, y.shape, grad.shape]


@pytest.mark.parametrize("direction", get_args(Direction))
def test_it_is_timed_in_every_direction(direction):
    inputs = torch.randn(5, 3), torch.randn(5, 4)
    assert 0 < empty_call_s(inputs, torch.Size((5, 7)), direction) < 1

"""What must hold of a model of another package, before and after its products are replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from torch import nn

import etp


def check_training_and_states(
    made: Callable[[], nn.Module],
    losses: Callable[[nn.Module], list[float]],
    same: Callable[[nn.Module, nn.Module], None],
) -> None:
    """Train both the same way, then load the state of each into the other kind.

    Args:
        made: Makes the model, the same each time.
        losses: Trains a model some steps.
        same: Asserts that two models are the same.
    """
    theirs = made()
    ours = copy.deepcopy(theirs)
    etp.replace_in(ours)
    before = losses(theirs)
    np.testing.assert_allclose(losses(ours), before, rtol=1e-9)
    assert before[2] != before[0]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    fresh = made()
    etp.replace_in(fresh)
    fresh.load_state_dict(theirs.state_dict(), strict=True)
    same(fresh, theirs)
    back = made()
    back.load_state_dict(ours.state_dict(), strict=True)
    same(ours, back)

"""What every description of a bilinear map says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

ONE_SLOT = ((0,), (0,), (0,))
"""Each component of each side has one weight."""


class Description(Protocol):
    """A bilinear map on the components of one channel, as data that executors read."""

    @property
    def slots(self) -> Sequence[Sequence[int]]:
        """Numbers of the weights that components of both inputs and the output have."""
        ...

"""Multilinear forms given by paths of irreps: which blocks meet, with which coefficients."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from etp.kernels.on_gpu.row_form import ChannelBlock, RowForm
from etp.maths import so3


class BlockPath(NamedTuple):
    """A path between blocks.

    Attributes:
        blocks: Number of the block on each side.
        coefficients: Float64, shape (dim1, dim2, dim3).
    """

    blocks: tuple[int, ...]
    coefficients: Tensor


class PathData(RowForm):
    """Sum over paths of ``w[p] * x[i] * y[j] * z[k] * coefficients[i, j, k]``, for each channel.

    Args:
        channels: Number of channels C.
        sides: Blocks of each side; weights, if any, are the last.
        couplings: The paths.
    """

    def __init__(
        self, channels: int, sides: Sequence[Sequence[ChannelBlock]], couplings: Sequence[BlockPath]
    ) -> None:
        self.couplings = tuple(sorted(couplings, key=lambda c: c.blocks))
        digest = hashlib.sha256(repr((channels, tuple(map(tuple, sides)))).encode())
        for coupling in self.couplings:
            digest.update(repr(coupling.blocks).encode())
            digest.update(coupling.coefficients.numpy().tobytes())
        super().__init__(digest.hexdigest(), channels, sides)

    @property
    def entries(self) -> int:
        """Number of coefficients that are not zero."""
        return sum(int((c.coefficients.abs() > so3.ZERO).sum()) for c in self.couplings)

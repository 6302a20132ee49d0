"""Multilinear forms given by paths of irreps, as straight-line Triton kernels, one for each form.

Coefficients are numbers in the code: no table is read, and zeros cost nothing. Bytes are the
bound: each number is read once and written once, all orders of derivatives included.

Not measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from etp.kernels.multilinear import Evaluation
from etp.kernels.on_gpu.lying import Lying
from etp.kernels.on_gpu.path_data import BlockPath, PathData
from etp.kernels.on_gpu.path_source import sources
from etp.kernels.on_gpu.row_form import ChannelBlock
from etp.kernels.on_gpu.triton_source import Source

MAX_ENTRIES = 10000
"""Coefficients of the largest form worth compiling, about lmax 5: minutes, once for a machine."""


class PathForm(PathData):
    """Sum over paths of ``w[p] * x[i] * y[j] * z[k] * coefficients[i, j, k]``, for each channel."""

    @override
    def sources(self, evaluation: Evaluation) -> list[Source]:
        return sources(self, evaluation)


def path_form(
    lies: Lying, couplings: Sequence[BlockPath], *, weighted: bool = False
) -> PathForm | None:
    """The form; None if its kernel would not fit.

    Args:
        lies: Where the blocks of each side lie.
        couplings: The paths between them.
        weighted: Whether each path has a weight for each channel, as a fourth side. Weights lie
            path by path, channels one after the other.
    """
    sides = lies.blocks()
    if sides is None:
        return None
    if weighted:
        sides.append([ChannelBlock(number * lies.channels, 1) for number in range(len(couplings))])
        couplings = [
            coupling._replace(blocks=(*coupling.blocks, number))
            for number, coupling in enumerate(couplings)
        ]
    form = PathForm(lies.channels, sides, couplings)
    return form if form.entries <= MAX_ENTRIES else None

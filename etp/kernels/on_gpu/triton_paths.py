"""Multilinear forms given by paths of irreps, as straight-line Triton kernels, one for each form.

Coefficients are numbers in the code: no table is read, and zeros cost nothing. Bytes are the
bound: each number is read once and written once, all orders of derivatives included.

Not measured on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import Evaluation, intern
from etp.kernels.on_gpu.path_source import sources
from etp.kernels.on_gpu.row_form import Block, RowForm, input_blocks, output_blocks
from etp.kernels.on_gpu.triton_source import Source
from etp.maths import so3
from etp.product.base import TensorProduct

MAX_ENTRIES = 10000
"""Coefficients of the largest form worth compiling, about lmax 5: minutes, once for a machine."""


class Coupling(NamedTuple):
    """A path between blocks.

    Attributes:
        blocks: Number of the block on each side.
        coefficients: Float64, shape (dim1, dim2, dim3).
    """

    blocks: tuple[int, ...]
    coefficients: Tensor


class PathForm(RowForm):
    """Sum over paths of ``w[p] * x[i] * y[j] * z[k] * coefficients[i, j, k]``, for each channel.

    Args:
        channels: Number of channels C.
        sides: Blocks of each side; weights, if any, are the last.
        couplings: The paths.
    """

    def __init__(
        self, channels: int, sides: Sequence[Sequence[Block]], couplings: Sequence[Coupling]
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

    @override
    def sources(self, evaluation: Evaluation) -> list[Source]:
        return sources(self, evaluation)


_KEYS: WeakKeyDictionary[TensorProduct, dict[bool, str | None]] = WeakKeyDictionary()


def path_form(product: TensorProduct, *, weighted: bool = False) -> str | None:
    """Key of the form of a product, interned; None if its kernel would not fit.

    Args:
        product: Its irreps, as laid out in the features, and its paths are used; where it does
            not keep paths apart, those to one irrep are added up.
        weighted: Whether each path has a weight for each channel, as a fourth side. Weights lie
            path by path, channels one after the other.
    """
    # Not kept in the product: its copies and pickles may be used where the form is not known.
    keys = _KEYS.setdefault(product, {})
    if weighted not in keys:
        form = _build(product, weighted)
        keys[weighted] = None if form is None or form.entries > MAX_ENTRIES else intern(form)
    return keys[weighted]


def _build(product: TensorProduct, weighted: bool) -> PathForm | None:
    found1, found2 = (input_blocks(irreps) for irreps in (product.irreps_in1, product.irreps_in2))
    if found1 is None or found2 is None:
        return None
    channels, paths, irs_out = product.channels, product.paths, product.irs_out
    couplings = []
    for number, path in enumerate(paths):
        out = number if product.keeps_paths else irs_out.index(path.ir_out)
        blocks = [list(found1).index(path.ir_in1), list(found2).index(path.ir_in2), out]
        degrees = path.ir_in1.l, path.ir_in2.l, path.ir_out.l
        matrix = path.coefficient * so3.clebsch_gordan(*degrees)
        couplings.append(Coupling((*blocks, *[number] * weighted), matrix))
    sides = [list(found1.values()), list(found2.values()), output_blocks(irs_out, channels)]
    if weighted:
        sides.append([Block(number * channels, 1) for number in range(len(paths))])
    return PathForm(channels, sides, couplings)

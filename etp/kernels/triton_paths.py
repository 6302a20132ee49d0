"""Multilinear forms given by paths of irreps, as straight-line Triton kernels, one for each form.

Coefficients are numbers in the code: no table is read, and zeros cost nothing. Bytes are the
bound: each number is read once and written once, all orders of derivatives included.

Not measured on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import ceil, gcd
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp import so3
from etp.kernels.multilinear import Evaluation, Form, intern
from etp.kernels.path_source import sources
from etp.kernels.triton_source import accumulator, compiled, on_device_of
from etp.layout import channel_index, distinct, slices
from etp.product import TensorProduct

WARP = 32
MAX_ROWS = 128
"""Rows of a program at the most, one for each thread. Not tuned: no GPU was at hand."""
MAX_ENTRIES = 10000
"""Coefficients of the largest form worth compiling, about lmax 5: minutes, once for a machine."""


class Block(NamedTuple):
    """An irrep of all channels within the features: channels one after the other.

    Attributes:
        start: Where channel 0 begins.
        dim: Components, neighbours in memory.
    """

    start: int
    dim: int


class Coupling(NamedTuple):
    """A path between blocks.

    Attributes:
        blocks: Number of the block on each side.
        coefficients: Float64, shape (dim1, dim2, dim3).
    """

    blocks: tuple[int, ...]
    coefficients: Tensor


class PathForm(Form):
    """Sum over paths of ``w[p] * x[i] * y[j] * z[k] * coefficients[i, j, k]``, for each channel.

    Args:
        channels: Number of channels C.
        sides: Blocks of each side; weights, if any, are the last.
        couplings: The paths.
    """

    def __init__(
        self, channels: int, sides: Sequence[Sequence[Block]], couplings: Sequence[Coupling]
    ) -> None:
        self.channels = channels
        self.sides = tuple(tuple(side) for side in sides)
        self.couplings = tuple(sorted(couplings, key=lambda c: c.blocks))
        digest = hashlib.sha256(repr((channels, self.sides)).encode())
        for coupling in self.couplings:
            digest.update(repr(coupling.blocks).encode())
            digest.update(coupling.coefficients.numpy().tobytes())
        widths = tuple(channels * sum(b.dim for b in side) for side in self.sides)
        super().__init__(digest.hexdigest(), widths)
        # A tile within one sample needs no mask and no division.
        shared = gcd(channels, MAX_ROWS)
        self.ragged = shared < WARP
        self.rows = MAX_ROWS if self.ragged else shared
        self._kernels: dict[Evaluation, list[Any]] = {}

    @property
    def entries(self) -> int:
        """Number of coefficients that are not zero."""
        return sum(int((c.coefficients.abs() > so3.ZERO).sum()) for c in self.couplings)

    @override
    def run(self, evaluation: Evaluation, inputs: Sequence[Tensor]) -> list[Tensor]:
        if evaluation not in self._kernels:
            self._kernels[evaluation] = [compiled(s) for s in sources(self, evaluation)]
        kernels = self._kernels[evaluation]
        samples, dtype = len(inputs[0]), inputs[0].dtype
        wide, acc = accumulator(dtype)
        held = dtype if len(kernels) == 1 else wide
        outputs = [
            inputs[0].new_empty(samples, self.widths[out.side], dtype=held)
            for out in evaluation.outputs
        ]
        rows = samples * self.channels
        strides = [x.stride(0) for x in inputs]
        with on_device_of(inputs[0]):
            for kernel in kernels:
                kernel[(ceil(rows / self.rows),)](
                    *(*inputs, *strides, *outputs, rows),
                    BLOCK=self.rows, ACC=acc, num_warps=self.rows // WARP,
                )  # fmt: skip
        return [out.to(dtype) for out in outputs]


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
    found1, found2 = (_places(irreps) for irreps in (product.irreps_in1, product.irreps_in2))
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
    sides = [list(found1.values()), list(found2.values()), _blocks(irs_out, channels)]
    if weighted:
        sides.append([Block(number * channels, 1) for number in range(len(paths))])
    return PathForm(channels, sides, couplings)


def _blocks(irs: Sequence[o3.Irrep], channels: int) -> list[Block]:
    return [Block(channels * s.start, ir.dim) for ir, s in zip(irs, slices(irs), strict=True)]


def _places(irreps: o3.Irreps) -> dict[o3.Irrep, Block] | None:
    """Block of each irrep; None if the channels of one do not lie in one piece."""
    irs = distinct(irreps)
    index = channel_index(irreps, irs).reshape(-1, sum(ir.dim for ir in irs))
    found = {}
    for ir, part in zip(irs, slices(irs), strict=True):
        block = index[:, part].flatten()
        if not torch.equal(block, block[0] + torch.arange(len(block))):
            return None
        found[ir] = Block(int(block[0]), ir.dim)
    return found

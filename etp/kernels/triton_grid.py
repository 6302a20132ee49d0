r"""Products of signals on a grid in one Triton kernel: grid values never leave the chip.

The form is :math:`T(x, y, z) = \sum_p (A x)_p (B y)_p (C z)_p` over grid points p, the same in its
three sides. A program takes a tile of rows, one row for each channel of each sample, and walks over
blocks of points: a small matrix product for each input, their pointwise products, and a matrix
product back for each output. Arithmetic is the bound from lmax 3 on unless TF32 is allowed.

Not measured on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import ceil
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import SIDES, Evaluation, Form, intern
from etp.kernels.triton_source import Source, accumulator, compiled, on_device_of, padded
from etp.layout import channel_index, output_index
from etp.product import TensorProduct
from etp.signal_product import SignalProduct

POINTS, WARPS = 32, 4
"""Grid points of a step, and warps of a program. Not tuned: no GPU was at hand."""
MIN_DIM = 16
"""Smallest side of a matrix that Triton multiplies."""
MAX_DIM = 128
"""Most components of one channel: beyond it tiles do not fit into registers."""


class GridForm(Form):
    """Sum over points of products of three signals, for each channel.

    Args:
        places: For each side the positions of the components in the features, shape
            (channels, dim).
        matrices: For each side the values of its components at the points, float64, shape
            (points, dim).
    """

    def __init__(self, places: Sequence[Tensor], matrices: Sequence[Tensor]) -> None:
        self.channels = len(places[0])
        digest = hashlib.sha256()
        for tensor in (*places, *matrices):
            digest.update(repr(tensor.shape).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        super().__init__(digest.hexdigest(), tuple(p.numel() for p in places))
        self.dims = tuple(matrix.shape[1] for matrix in matrices)
        self.points = POINTS * ceil(len(matrices[0]) / POINTS)
        self._places = [place.to(torch.int32).contiguous() for place in places]
        self._matrices = [self._filled(matrix) for matrix in matrices]
        self._kernels: dict[Evaluation, Any] = {}
        self._tables: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}

    def _filled(self, matrix: Tensor) -> Tensor:
        """Zeros up to whole tiles: the kernel needs no masks."""
        rows, columns = self.points - len(matrix), tile(matrix.shape[1]) - matrix.shape[1]
        return torch.nn.functional.pad(matrix, (0, columns, 0, rows))

    def _on(self, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        if (device, dtype) not in self._tables:
            tables = [*self._places, *(matrix.to(dtype) for matrix in self._matrices)]
            self._tables[device, dtype] = [table.to(device) for table in tables]
        return self._tables[device, dtype]

    @override
    def run(self, evaluation: Evaluation, inputs: Sequence[Tensor]) -> list[Tensor]:
        if evaluation not in self._kernels:
            self._kernels[evaluation] = compiled(source(self, evaluation))
        wide, acc = accumulator(inputs[0].dtype)
        # TF32 keeps more digits than half precision has; float32 gives digits up only if asked.
        half = inputs[0].dtype != wide
        exact = torch.get_float32_matmul_precision() == "highest" and not half
        rows = len(inputs[0]) * self.channels
        outputs = [
            inputs[0].new_empty(len(inputs[0]), self.widths[out.side]) for out in evaluation.outputs
        ]
        block = rows_of(evaluation)
        with on_device_of(inputs[0]):
            self._kernels[evaluation][(ceil(rows / block),)](
                *(*inputs, *(x.stride(0) for x in inputs), *outputs),
                *self._on(inputs[0].device, wide),
                rows, BLOCK=block, ACC=acc, POINTS=POINTS, PRECISION="ieee" if exact else "tf32",
                num_warps=WARPS,
            )  # fmt: skip
        return outputs


def tile(dim: int) -> int:
    """Columns of the tile that holds ``dim`` components."""
    return max(MIN_DIM, padded(dim))


def rows_of(evaluation: Evaluation) -> int:
    """Rows of a program: fewer where many tiles share the registers (seen in compiled code)."""
    return 64 if len(evaluation.inputs) + len(evaluation.outputs) <= 5 else 32


def source(form: GridForm, evaluation: Evaluation) -> Source:
    """The kernel of one evaluation."""
    sides = SIDES[: len(form.dims)]
    inputs, outputs = range(len(evaluation.inputs)), range(len(evaluation.outputs))
    arguments = [
        *(f"a{n}" for n in inputs),
        *(f"s{n}" for n in inputs),
        *(f"o{n}" for n in outputs),
        *(f"places_{side}" for side in sides),
        *(f"matrix_{side}" for side in sides),
        "rows",
        "POINTS: tl.constexpr",
        "PRECISION: tl.constexpr",
    ]
    written = Source("grid", arguments, ragged=True)
    add = written.add
    add("row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)")
    add(f"sample = (row // {form.channels})[:, None]")
    add(f"channel = (row % {form.channels}).to(tl.int32)[:, None]")
    used = {*evaluation.inputs, *(out.side for out in evaluation.outputs)}
    for side in sorted(used):
        name, dim = sides[side], form.dims[side]
        add(f"c_{name} = tl.arange(0, {tile(dim)})[None, :]")
        add(f"live_{name} = (row < rows)[:, None] & (c_{name} < {dim})")
        place = f"places_{name} + channel * {dim} + c_{name}"
        add(f"at_{name} = tl.load({place}, mask=live_{name}, other=0)")
    for n, side in enumerate(evaluation.inputs):
        name = sides[side]
        address = f"a{n} + sample * s{n} + at_{name}"
        add(f"v{n} = tl.load({address}, mask=live_{name}, other=0.0).to(ACC)")
    for o, out in enumerate(evaluation.outputs):
        add(f"z{o} = tl.zeros((BLOCK, {tile(form.dims[out.side])}), ACC)")
    add(f"for start in range(0, {form.points}, POINTS):")
    step = "    "
    add(step + "p = start + tl.arange(0, POINTS)[:, None]")
    for side in sorted(used):
        name = sides[side]
        add(step + f"m_{name} = tl.load(matrix_{name} + p * {tile(form.dims[side])} + c_{name})")
    options = "input_precision=PRECISION, out_dtype=ACC"
    for n, side in enumerate(evaluation.inputs):
        add(step + f"f{n} = tl.dot(v{n}, tl.trans(m_{sides[side]}), {options})")
    for o, out in enumerate(evaluation.outputs):
        values = " + ".join(" * ".join(f"f{n}" for n in term) for term in out.terms)
        add(step + f"z{o} += tl.dot({values}, m_{sides[out.side]}, {options})")
    for o, out in enumerate(evaluation.outputs):
        name = sides[out.side]
        address = f"o{o} + sample * {form.widths[out.side]} + at_{name}"
        add(f"tl.store({address}, z{o}, mask=live_{name})")
    return written


_KEYS: WeakKeyDictionary[SignalProduct, str | None] = WeakKeyDictionary()


def grid_form(product: SignalProduct) -> str | None:
    """Key of the form of a product of values on a grid, interned; None if it would not fit."""
    # Not kept in the product: its copies and pickles may be used where the form is not known.
    if product not in _KEYS:
        matrices = point_matrices(product)
        fits = max(matrix.shape[1] for matrix in matrices) <= MAX_DIM
        _KEYS[product] = intern(GridForm(_places(product), matrices)) if fits else None
    return _KEYS[product]


@torch.no_grad()
def point_matrices(product: SignalProduct) -> list[Tensor]:
    """Values of each side's components at the points, float64 on the CPU, shape (points, dim).

    A pair of sectors of the inputs that meets has the grid's points to itself: the form is then
    one sum over points whatever the parities. The weights of the quadrature are in the last.
    """

    def unit(size: int) -> Tensor:
        return torch.eye(size, dtype=torch.float64, device=product.device)

    dims = [sum(ir.dim for ir in irs) for irs in (product.irs_in1, product.irs_in2)]
    f = {s: product.to_signal(unit(dims[0]), 1, s) for s in product.sectors1}
    h = {s: product.to_signal(unit(dims[1]), 2, s) for s in product.sectors2}
    pairs = [(a, b) for a in f for b in h if a * b in product.sectors_out]
    back = {}
    for s, part in product.sectors_out.items():
        read = product.from_signal(unit(f[pairs[0][0]].shape[1]), s, torch.float64)
        back[s] = read.new_zeros(len(read), sum(ir.dim for ir in product.irs_out))
        back[s][:, part.positions] = read
    sides = (
        [f[a].T for a, _ in pairs],
        [h[b].T for _, b in pairs],
        [back[a * b] for a, b in pairs],
    )
    return [torch.cat(parts).cpu() for parts in sides]


def _places(product: TensorProduct) -> list[Tensor]:
    """Positions in the features of the components of each channel, for each side."""
    ways = ((product.irreps_in1, product.irs_in1), (product.irreps_in2, product.irs_in2))
    found = [channel_index(irreps, irs) for irreps, irs in ways]
    # Its argument sort inverts a permutation.
    found.append(torch.argsort(output_index(product.irs_out, product.channels)))
    return [places.reshape(product.channels, -1) for places in found]

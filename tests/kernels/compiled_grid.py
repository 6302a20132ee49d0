"""Run by test_compiled.py: the kernel of products on grids, compiled for a Hopper GPU."""

from __future__ import annotations

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from etp import products
from etp.kernels.multilinear import PRODUCT
from etp.kernels.on_gpu.grid_data import tile
from etp.kernels.on_gpu.grid_source import sources
from etp.kernels.on_gpu.triton_grid import WARPS, GridForm
from etp.kernels.on_gpu.triton_source import compiled
from etp.products._described import Described
from tests.kernels.resources import stack_bytes

CONSTANTS = ("BLOCK", "ACC", "PRECISION")
BACKWARD = PRODUCT.derivative([0, 1], [0])
DOUBLE = BACKWARD.derivative([0, 1, 2], [0, 1])
EVALUATIONS = {"forward": PRODUCT, "backward": BACKWARD, "double backward": DOUBLE}
MAX_SPILLED = 32
"""Bytes of a thread: eight registers."""


def kind(name: str) -> str:
    if name in CONSTANTS:
        return "constexpr"
    if name == "places":
        return "*i32"
    return "*fp32" if name == "table" or name.startswith(("a", "o")) else "i32"


@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("gaunt-grid", "ieee"),
        ("gaunt-grid", "tf32"),
        ("gaunt-bracket", "tf32"),
        ("complete", "ieee"),
    ],
)
def test_values_at_points_stay_in_registers(name, evaluation, precision, tmp_path):
    tp = products.get(name)("128x0e+128x1o", "128x0e+128x1o")
    assert isinstance(tp, Described)
    form = tp.fused.form(tp.device)
    assert isinstance(form, GridForm)
    asked = EVALUATIONS[evaluation]
    block = form.rows(asked)
    constants = {"BLOCK": block, "ACC": tl.float32, "PRECISION": precision}
    tiles = [tile(p.shape[1]) for out in asked.outputs for p in form.parts[out.side]]
    stores = []
    for part in sources(form, asked):
        kernel = compiled(part)
        signature = {name: kind(name) for name in kernel.arg_names}
        found = triton.compile(
            ASTSource(kernel, signature=signature, constexprs=constants),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": WARPS},
        ).asm
        assert stack_bytes(found["cubin"], tmp_path) <= MAX_SPILLED
        stores.append([line for line in found["ttir"].splitlines() if "tt.store" in line])
    # Each kernel writes a tile of the outputs once and nothing else: no value at a point.
    assert all(len(lines) <= len(tiles) for lines in stores)
    assert sum(map(len, stores)) >= len(tiles)
    assert all(f"tensor<{block}x16x" in line for lines in stores for line in lines)

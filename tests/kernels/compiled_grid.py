"""Run by test_triton.py: the kernel of products on a grid, compiled for a Hopper GPU."""

from __future__ import annotations

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from etp import products
from etp.kernels.multilinear import PRODUCT
from etp.kernels.triton_grid import (
    POINTS,
    WARPS,
    GridForm,
    _places,
    point_matrices,
    rows_of,
    source,
)
from etp.kernels.triton_source import compiled

CONSTANTS = ("BLOCK", "ACC", "POINTS", "PRECISION")
BACKWARD = PRODUCT.derivative([0, 1], [0])


def kind(name: str) -> str:
    if name in CONSTANTS:
        return "constexpr"
    if name.startswith("places"):
        return "*i32"
    return "*fp32" if name.startswith(("matrix", "a", "o")) else "i32"


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
@pytest.mark.parametrize("evaluation", [PRODUCT, BACKWARD], ids=["forward", "backward"])
def test_grid_values_stay_on_chip(evaluation, precision):
    tp = products.get("gaunt-grid")("128x0e+128x1o", "128x0e+128x1o")
    form = GridForm(_places(tp), point_matrices(tp))  # type: ignore[arg-type]
    kernel = compiled(source(form, evaluation))
    block = rows_of(evaluation)
    constants = {"BLOCK": block, "ACC": tl.float32, "POINTS": POINTS, "PRECISION": precision}
    asked = ASTSource(
        kernel, signature={name: kind(name) for name in kernel.arg_names}, constexprs=constants
    )
    target = GPUTarget("cuda", 90, 32)
    found = triton.compile(asked, target=target, options={"num_warps": WARPS}).asm
    # What is written is the outputs and no more: no tile of points reaches device memory.
    stores = [line for line in found["ttir"].splitlines() if "tt.store" in line]
    assert len(stores) == len(evaluation.outputs)
    assert all(f"tensor<{block}x16x" in line for line in stores)
    assert ".local" not in found["ptx"]

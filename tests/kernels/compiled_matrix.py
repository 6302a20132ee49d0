"""Run by test_compiled.py: the kernels of products of matrices, compiled for a Hopper GPU."""

from __future__ import annotations

import re

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from etp import products
from etp.kernels.multilinear import PRODUCT
from etp.kernels.on_gpu.triton_matrix import MatrixForm
from etp.kernels.on_gpu.triton_source import compiled
from etp.products._described import Described
from tests.kernels.resources import stack_bytes

BACKWARD = PRODUCT.derivative([0, 1], [0])
DOUBLE = BACKWARD.derivative([0, 1, 2], [0, 1])


@pytest.mark.parametrize("evaluation", [PRODUCT, BACKWARD, DOUBLE], ids=str)
def test_matrices_stay_in_registers(evaluation, tmp_path):
    tp = products.get("matrix")("128x0e+128x1o", "128x0e+128x1o")
    assert isinstance(tp, Described)
    form = tp.fused.form(tp.device)
    assert isinstance(form, MatrixForm)
    (source,) = form.sources(evaluation)
    kernel = compiled(source)
    constants = {"BLOCK": form.rows, "ACC": tl.float32}
    kinds = {name: "*fp32" for name in kernel.arg_names if name.startswith(("a", "o"))}
    kinds |= dict.fromkeys(constants, "constexpr")
    found = triton.compile(
        ASTSource(
            kernel,
            signature={name: kinds.get(name, "i32") for name in kernel.arg_names},
            constexprs=constants,
        ),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": form.rows // 32},
    ).asm
    assert stack_bytes(found["cubin"], tmp_path) == 0
    layout = found["ttgir"]
    tiles = len(re.findall(r"tt\.(?:load|store) .*tensor<128x\d+x", layout))
    stored = [out.side for out in evaluation.outputs]
    wide = sum(
        block.dim > 1 for side in [*evaluation.inputs, *stored] for block in form.sides[side]
    )
    assert layout.count("ttg.convert_layout") == tiles == wide

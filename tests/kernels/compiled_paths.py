"""Run by test_compiled.py: the same kernels through Triton's compiler, for a Hopper GPU."""

from __future__ import annotations

import re

import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from etp import products
from etp.kernels import compile_times as compiling
from etp.kernels.multilinear import PRODUCT, WEIGHTED, Evaluation
from etp.kernels.on_gpu.path_source import sources
from etp.kernels.on_gpu.triton_paths import PathForm
from etp.kernels.on_gpu.triton_source import Source, compile_times, compiled
from etp.products._described import Described

HOPPER = GPUTarget("cuda", 90, 32)
BACKWARD = PRODUCT.derivative([0, 1], [0])


def compile_for_hopper(source: Source, form: PathForm, evaluation: Evaluation, dtype: str = "fp32"):
    inputs, outputs = len(evaluation.inputs), len(evaluation.outputs)
    pointers = [f"a{n}" for n in range(inputs)] + [f"o{n}" for n in range(outputs)]
    numbers = [f"s{n}" for n in range(inputs)] + ["rows"]
    signature = dict.fromkeys(pointers, f"*{dtype}") | dict.fromkeys(numbers, "i32")
    kernel = compiled(source)
    ordered = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    constants = {"BLOCK": form.rows, "ACC": tl.float64 if dtype == "fp64" else tl.float32}
    return triton.compile(
        ASTSource(kernel, signature=ordered, constexprs=constants),
        target=HOPPER,
        options={"num_warps": form.rows // 32},
    )


def form_of(tp: object, *, weighted: bool = False) -> PathForm:
    assert isinstance(tp, Described)
    form = (tp.fused_weighted if weighted else tp.fused).form(tp.device)
    assert isinstance(form, PathForm)
    return form


@pytest.mark.parametrize("evaluation", [PRODUCT, BACKWARD], ids=["forward", "backward"])
def test_each_tile_goes_through_shared_memory_once(evaluation):
    tp = products.get("cg-sparse")("128x0e+128x1o", "128x0e+128x1o+128x2e")
    form = form_of(tp)
    (source,) = sources(form, evaluation)
    found = compile_for_hopper(source, form, evaluation).asm
    layout = found["ttgir"]
    tiles = len(re.findall(r"tt\.(?:load|store) .*tensor<128x[48]x", layout))
    assert tiles > 10
    assert layout.count("ttg.convert_layout") == tiles
    assert ".local" not in found["ptx"]


@pytest.mark.parametrize("dtype", ["fp32", "fp64", "bf16", "fp16"])
def test_ragged_tiles_with_weights_compile_in_every_dtype(dtype):
    tp = products.get("cg-sparse")("3x0e+3x1o", "3x1o")
    form = form_of(tp, weighted=True)
    (source,) = sources(form, WEIGHTED)
    found = compile_for_hopper(source, form, WEIGHTED, dtype).asm["ptx"]
    assert ("fma.rn.f64" in found) == (dtype == "fp64")
    assert "st.global" in found


def test_the_compiler_is_heard_and_what_it_made_is_known_later():
    tp = products.get("cg-sparse")("2x0e+2x1o", "2x1o")
    form = form_of(tp)
    (source,) = sources(form, PRODUCT)
    with compiling.recording() as first:
        heard = compile_times("here")
        compile_for_hopper(source, form, PRODUCT)
        heard.note()
    assert first.spent_s > 0
    assert first.artifacts == {"here": pytest.approx(first.spent_s)}
    with compiling.recording() as second:
        compile_times("here").note()
        compile_times("elsewhere").note()
    assert second.spent_s == 0
    assert second.artifacts == first.artifacts

"""Every way a CPU computes: compiled tile programs, the Numba walk and the plain form agree."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func  # type: ignore[import-untyped]
from torch._dynamo.backends.common import aot_autograd

from etp import measure, products
from etp.kernels import compile_times as compiling
from etp.kernels import sparse
from etp.kernels.on_cpu import build, compose, tile
from etp.kernels.on_cpu.program import Bilinear
from etp.kernels.sparse import CompressedRows, SparseTable, apply_form
from etp.measure.drawing import random_inputs, random_weights
from etp.measure.oracle import evaluate
from etp.product.base import TensorProduct
from etp.products._described import Described
from etp.products._executors import NumbaWalk

ROOT = Path(__file__).resolve().parents[2]
NO_COMPILER = shutil.which("g++") is None and shutil.which("c++") is None
needs_compiler = pytest.mark.skipif(NO_COMPILER, reason="no C++ compiler on this machine")
needs_numba = pytest.mark.skipif(
    sparse.cpu_kernel_missing() is not None, reason=str(sparse.cpu_kernel_missing())
)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}
BATCHES = (0, 1, 31, 33, 100)
PRODUCTS = (
    "cg-sparse", "cg-dense", "cg-summed", "gaunt-grid", "gaunt-bracket", "vector-signal", "matrix",
    "matrix-block",
)  # fmt: skip
CASES = {
    "natural": ("0e+1o+2e+3o", "0e+1o+2e", None),
    "mixed": ("0e+0o+1o+1e", "0e+1e+2o", None),
    "one degree": ("2e", "2e", "2e"),
    "scalars": ("0e", "0e", None),
    "wide": ("0e+1o+2e+3o+4e+5o", "0e+1o+2e+3o+4e+5o", None),
}


@pytest.fixture
def plain(monkeypatch):
    """Switch tile programs off."""
    return lambda: monkeypatch.setattr(tile, "applies", lambda _: False)


def make(name: str, case: str) -> TensorProduct:
    irreps1, irreps2, keep = CASES[case]
    return products.get(name)(irreps1, irreps2, filter_ir_out=keep)


def draw(tp: TensorProduct, batch: int, dtype: torch.dtype = torch.float64):
    return random_inputs(tp, batch, torch.Generator().manual_seed(batch), dtype)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-300))


def derivatives(
    product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor
) -> list[torch.Tensor]:
    """Output, gradients, and gradients of a random combination of the gradients."""
    generator = torch.Generator().manual_seed(5)
    z = product(x, y)
    v = torch.randn(z.shape, dtype=z.dtype, generator=generator)
    gradients = torch.autograd.grad(z, (x, y), v, create_graph=True)
    w = [torch.randn(g.shape, dtype=g.dtype, generator=generator) for g in gradients]
    return [t.detach() for t in (z, *gradients, *torch.autograd.grad(gradients, (x, y), w))]


def kept_table(tp: TensorProduct) -> SparseTable:
    assert isinstance(tp, Described)
    return next(each.table for each in tp.executors if isinstance(each, NumbaWalk))


@cache
def table() -> tuple[TensorProduct, CompressedRows]:
    tp = make("cg-sparse", "natural")
    return tp, kept_table(tp).forms(torch.float64).product


def dense(form: CompressedRows, dims: tuple[int, int]) -> torch.Tensor:
    """The table as a full tensor (dim1, dim2, dim_out), independent of every kernel."""
    found = torch.zeros(*dims, len(form.rows) - 1, dtype=torch.float64)
    for k in range(len(form.rows) - 1):
        for e in range(int(form.rows[k]), int(form.rows[k + 1])):
            found[int(form.first[e]), int(form.second[e]), k] += form.values[e].double()
    return found


@needs_compiler
def test_a_compiler_that_is_there_is_used():
    assert build.missing() is None
    assert tile.applies(torch.zeros(1))


@needs_compiler
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_ragged_batches_agree_with_the_oracle_in_every_precision(name, batch, dtype):
    tp = make(name, "natural")
    x, y = draw(tp, batch, dtype)
    z = tp(x, y)
    assert z.dtype == dtype
    assert z.shape == (batch, tp.irreps_out.dim)
    if batch:
        assert relative(z, evaluate(tp, x, y)) < TOLERANCE[dtype]


@needs_compiler
@pytest.mark.parametrize(
    ("name", "case"),
    # The cross product of two constants is zero.
    [(n, c) for n in PRODUCTS for c in CASES if (n, c) != ("vector-signal", "scalars")],
)
def test_compiled_and_plain_agree_up_to_second_derivatives(name, case, plain):
    tp = make(name, case)
    x, y = (t.requires_grad_() for t in draw(tp, 37))
    compiled = derivatives(tp, x, y)
    plain()
    for found, wanted in zip(compiled, derivatives(tp, x, y), strict=True):
        assert relative(found, wanted) < 1e-12


@needs_compiler
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("channels", [16, 33, 8])
@pytest.mark.parametrize("name", PRODUCTS)
def test_channels_are_read_and_written_as_they_lie(name, channels, dtype):
    irreps = f"{channels}x0e + {channels}x1o + {channels}x2e"
    tp = products.get(name)(irreps, irreps)
    x, y = draw(tp, 3, dtype)
    assert isinstance(tp, Described)
    assert tp.across.serves(x, y) == (channels != 8)
    z = tp(x, y)
    assert z.dtype == dtype
    assert relative(z, evaluate(tp, x, y)) < TOLERANCE[dtype]


@needs_compiler
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", PRODUCTS)
def test_channels_with_weights_and_derivatives_agree_with_rows_of_one_channel(
    name, shared, monkeypatch
):
    tp = products.get(name)("32x0e+32x1o+32x2e", "32x0e+32x1o")
    x, y = draw(tp, 5)
    w = random_weights(tp, "shared" if shared else "per-sample", 5, torch.Generator(), x.dtype)
    assert w is not None
    given = [t.requires_grad_() for t in (x, y, w)]

    def orders() -> list[torch.Tensor]:
        z = tp(*given)
        first = torch.autograd.grad(z.square().sum(), given, create_graph=True)
        total = torch.stack([g.square().sum() for g in first]).sum()
        second = torch.autograd.grad(total, given)
        return [t.detach() for t in (z, *first, *second)]

    own = orders()
    assert isinstance(tp, Described)
    assert relative(own[0], evaluate(tp, x.detach(), y.detach(), w.detach())) < 1e-12
    monkeypatch.setattr(tp.across, "serves", lambda *_: False)
    for found, wanted in zip(own, orders(), strict=True):
        assert relative(found, wanted) < 1e-13


@needs_compiler
def test_large_features_of_several_channels_go_past_the_caches_whole():
    tp = products.get("cg-sparse")("32x0e+32x1o+32x2e+32x8e", "32x0e+32x1o")
    x, y = draw(tp, 1400, torch.float32)
    z = tp(x, y)
    assert z.nbytes > 2**24  # twice what is taken to be cached
    for rows in (slice(0, 2), slice(1398, 1400)):
        assert relative(z[rows], evaluate(tp, x[rows], y[rows])) < 2e-6
    few = torch.arange(0, 1400, 100)
    assert torch.equal(z[few], tp(x[few], y[few]))


@needs_compiler
def test_only_what_is_asked_for_gets_a_gradient():
    tp = make("matrix", "natural")
    x, y = draw(tp, 5)
    x.requires_grad_()
    tp(x, y).sum().backward()
    assert x.grad is not None
    assert y.grad is None


@needs_compiler
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", PRODUCTS)
def test_nan_and_infinity_reach_their_own_sample_and_no_other(name, bad):
    tp = make(name, "natural").double()
    x, y = draw(tp, 70)
    clean = tp(x, y)
    x[40, 3] = bad
    spoilt = tp(x, y)
    assert not torch.isfinite(spoilt[40]).all()
    others = torch.arange(70) != 40
    assert torch.equal(spoilt[others], clean[others])


@pytest.fixture
def threads():
    """Restore the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize("name", PRODUCTS)
def test_threads_do_not_change_the_result(name, threads):
    tp = make(name, "wide")
    x, y = (t.requires_grad_() for t in draw(tp, 1500, torch.float32))
    found = []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        z = tp(x, y)
        found.append((z, *torch.autograd.grad(z, (x, y), torch.ones_like(z))))
    for others in found[1:]:
        assert all(torch.equal(mine, first) for mine, first in zip(others, found[0], strict=True))


@needs_compiler
def test_python_threads_that_call_at_once_get_their_own_results():
    tp = make("cg-sparse", "wide")
    batches = [300 + 41 * k for k in range(8)]
    wanted = [tp(*draw(tp, batch)) for batch in batches]

    def many(k: int) -> bool:
        x, y = draw(tp, batches[k])
        return all(torch.equal(tp(x, y), wanted[k]) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(many, range(8)))


IN_A_CHILD = """
import os, sys, torch
from etp import products
from etp.measure.drawing import random_inputs
torch.set_num_threads(2)
tp = products.get("cg-sparse")("0e+1o+2e", "0e+1o+2e")
x, y = random_inputs(tp, 5000, torch.Generator().manual_seed(0), torch.float32)
wanted = tp(x, y)
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        right = all(bytes(tp(x, y).numpy()) == bytes(wanted.numpy()) for _ in range(20))
        os._exit(0 if right else 1)
    children.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
assert torch.equal(tp(x, y), wanted)
"""


@needs_compiler
def test_a_child_of_a_process_that_has_computed_computes_too():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_CHILD],
        capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "[0, 0, 0]\n", done.stderr


@needs_compiler
def test_busy_neighbours_do_not_change_the_result(threads):
    tp = make("gaunt-grid", "natural")
    x, y = draw(tp, 3000, torch.float32)
    torch.set_num_threads(1)
    wanted = tp(x, y)
    torch.set_num_threads(3)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        assert all(torch.equal(tp(x, y), wanted) for _ in range(200))
    finally:
        for process in busy:
            process.kill()
            process.wait()


@needs_compiler
def test_views_that_are_not_contiguous_are_read_right():
    tp = make("gaunt-grid", "natural")
    x, y = draw(tp, 40)
    strided = torch.stack([x, -x], dim=2)[:, :, 0]
    torch.testing.assert_close(tp(strided, y), tp(x, y), rtol=0, atol=0)


@needs_numba
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", BATCHES)
def test_the_walk_is_the_table(dtype, batch):
    tp, form = table()
    x, y = draw(tp, batch, dtype)
    form = form._replace(values=form.values.to(dtype))
    z = apply_form(x, y, *form)
    wanted = torch.einsum("ni,nj,ijk->nk", x.double(), y.double(), dense(form, (16, 9)))
    assert z.dtype == dtype
    assert z.shape == wanted.shape
    if batch:
        assert relative(z, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("weights", ["none", "per-sample"])
@pytest.mark.parametrize("name", ["cg-sparse", "cg-dense", "cg-summed"])
def test_without_any_compiler_the_paths_are_multiplied_pair_by_pair(
    name, weights, plain, monkeypatch
):
    plain()
    monkeypatch.setattr(sparse, "cpu_kernel_missing", lambda: "switched off")
    assert measure.agreement(make(name, "mixed"), weights=weights).max < 1e-12


@needs_numba
def test_the_walk_without_a_compiler_has_both_derivatives(plain):
    plain()
    tp, form = table()
    x, y = (t.requires_grad_() for t in draw(tp, 3))
    full = dense(form, (16, 9))
    found = derivatives(lambda x, y: tp(x, y), x, y)
    wanted = derivatives(lambda x, y: torch.einsum("ni,nj,ijk->nk", x, y, full), x, y)
    for mine, right in zip(found, wanted, strict=True):
        assert relative(mine, right) < 1e-12


def assert_right(both: Bilinear, full: torch.Tensor) -> None:
    """Programs against the sum over all coefficients, with both gradients."""
    build.library()
    generator = torch.Generator().manual_seed(4)
    x, y = (
        torch.randn(50, n, dtype=torch.float64, generator=generator).requires_grad_()
        for n in full.shape[:2]
    )
    z = tile.bilinear(x, y, tile.kept(both, x.dtype))
    wanted = torch.einsum("ni,nj,ijk->nk", x, y, full)
    assert relative(z.detach(), wanted.detach()) < 1e-12
    assert not z[:, ~full.any(dim=0).any(dim=0)].any()
    for found, right in zip(
        torch.autograd.grad(z.square().sum(), (x, y)),
        torch.autograd.grad(wanted.square().sum(), (x, y)),
        strict=True,
    ):
        assert relative(found, right) < 1e-12


@needs_compiler
def test_a_table_with_empty_rows_and_one_large_part_is_right():
    """Outputs shared by everything, as in a path-summed product, and outputs fed by nothing."""
    generator = torch.Generator().manual_seed(4)
    i, j, k = (torch.randint(0, n, (1500,), generator=generator) for n in (30, 25, 9))
    k[k == 4] = 5
    values = torch.randn(1500, dtype=torch.float64, generator=generator)

    both = compose.of_entries(torch.stack([i, j, k]).numpy(), values.numpy(), (30, 25, 9))
    full = torch.zeros(30, 25, 9, dtype=torch.float64)
    full.index_put_((i, j, k), values, accumulate=True)
    assert_right(both, full)


@needs_compiler
@pytest.mark.parametrize("outputs", [9, 70])
def test_a_table_of_couples_is_folded(outputs):
    """Products whose coefficients differ in signs only: their sums and differences are taken."""
    generator = torch.Generator().manual_seed(5)
    half = torch.randn(9, 14, outputs, dtype=torch.float64, generator=generator)
    half *= torch.rand(half.shape, generator=generator) < 0.6
    signs = torch.randint(0, 2, half.shape, generator=generator) * 2 - 1
    full = torch.cat([half, half * signs])
    i, j, k = full.nonzero().T
    both = compose.of_entries(
        torch.stack([i, j, k]).numpy(), full[i, j, k].numpy(), (18, 14, outputs)
    )
    assert both.forward.macs < 0.8 * (len(i) + 18 * 14)
    assert_right(both, full)


@needs_compiler
def test_forms_are_made_once_and_again_after_a_move():
    tp, _ = table()
    kept = kept_table(tp)
    assert kept.forms(torch.float32) is kept.forms(torch.float32)
    before = kept.forms(torch.float32)
    tp.to(torch.float32)
    assert kept.forms(torch.float32) is not before


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing built and nothing remembered, before and after."""
    monkeypatch.setenv("ETP_CACHE", str(tmp_path))
    caches = (build.missing, build.library, build._warn)
    for kept in caches:
        kept.cache_clear()
    yield tmp_path
    for kept in caches:
        kept.cache_clear()


def test_without_a_compiler_products_say_so_and_still_work(fresh, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "no C++ compiler" in str(build.missing())
    tp = make("matrix", "natural")
    with pytest.warns(build.SlowForm, match="no C"):
        assert measure.agreement(tp).max < 1e-12


def test_a_compiler_that_fails_is_named_and_products_still_work(fresh, monkeypatch):
    broken = Path(fresh) / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho broken >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert "broken" in str(build.missing())
    with pytest.warns(build.SlowForm, match="broken"):
        assert measure.agreement(make("cg-dense", "natural")).max < 1e-12


COUNTED = """
import json, torch
from etp import products
from etp.kernels import compile_times as compiling
from etp.measure.drawing import random_inputs
for _ in range(2):
    tp = products.get("cg-sparse")("0e+1o", "0e+1o")
    x1, x2 = random_inputs(tp, 4, torch.Generator().manual_seed(0), torch.float32)
    with compiling.recording() as record:
        tp(x1, x2)
    print(json.dumps([record.artifacts, record.spent_s]))
"""


@needs_compiler
def test_compiling_is_counted_once_and_belongs_to_every_product_that_uses_it(
    tmp_path, quick_compiler
):
    environ = os.environ | {"ETP_CACHE": str(tmp_path)} | quick_compiler
    found = [
        json.loads(line)
        for _ in range(2)
        for line in subprocess.run(
            [sys.executable, "-c", COUNTED], capture_output=True, text=True, check=True, env=environ
        ).stdout.splitlines()
    ]
    (first, spent), *others = found
    assert list(first) == ["C++"]
    assert spent >= first["C++"] > 0
    # A process that finds the library on disk knows what making it took.
    assert [artifacts for artifacts, _ in others] == [first] * 3
    assert [spent for _, spent in found[1::2]] == [0, 0]


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # the compiler's own, of things that are none of ours
@pytest.mark.parametrize("weights", ["none", "per-sample"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_compiled_graph_keeps_the_tile_program(name, weights):
    if weights != "none" and name in ("gaunt-bracket", "vector-signal"):
        pytest.skip("its parts have weights of their own, and one program adds them up")
    torch.compiler.reset()
    tp = make(name, "natural")
    graphs: list[torch.fx.GraphModule] = []
    module = torch.compile(tp, fullgraph=True, backend=make_boxed_backend(graphs))
    x, y = (t.requires_grad_() for t in draw(tp, 37))
    w = random_weights(tp, weights, 37, torch.Generator().manual_seed(3))
    given = (x, y) if w is None else (x, y, w.requires_grad_())
    found = torch.autograd.grad(module(*given).square().sum(), given)
    wanted = torch.autograd.grad(tp(*given).square().sum(), given)
    for mine, right in zip(found, wanted, strict=True):
        assert relative(mine, right) < 1e-12
    called = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert called >= {"etp.tile.default", "etp.tile_gradients.default"}


def make_boxed_backend(graphs: list[torch.fx.GraphModule]) -> Callable[..., Any]:
    """A compiler that runs forward and backward graphs as they are, and hands them out."""

    def keep(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    return aot_autograd(fw_compiler=keep)


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_an_exported_graph_needs_nothing_of_this_package():
    tp = make("gaunt-grid", "natural")
    x, y = draw(tp, 5)
    exported = torch.export.export(tp, (x, y))
    assert not any("etp" in str(node.target) for node in exported.graph.nodes)
    assert relative(exported.module()(x, y), tp(x, y)) < 1e-12


@needs_compiler
def test_a_gradient_can_be_asked_for_when_the_product_is_gone():
    tp = make("matrix", "natural")
    x, y = (t.requires_grad_() for t in draw(tp, 5))
    wanted = torch.autograd.grad(tp(x, y).sum(), x)
    z = tp(x, y).sum()
    del tp
    gc.collect()
    assert torch.equal(torch.autograd.grad(z, x)[0], wanted[0])


@needs_compiler
def test_the_operator_refuses_what_does_not_fit_its_program():
    tp = make("matrix", "natural")
    x, y = draw(tp, 3)
    assert isinstance(tp, Described)
    code, table, dim = tile.kept(tp.tiles.programs, torch.float64)
    for first, second in ((x[:, :-1], y), (x, y[:2]), (x.float(), y), (x[0], y)):
        with pytest.raises(RuntimeError, match=r"input \d of a tile program must be"):
            torch.ops.etp.tile(first, second, code, table, dim)
    grad = x.new_zeros(3, dim)
    for wrong, message in ((code[:-1], "cut short"), (code + 1, "not of this version")):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.etp.tile_gradients(grad, x, y, wrong, table, dim)
    with pytest.raises(RuntimeError, match="cut short"):
        torch.ops.etp.tile(x, y, code, table[:3], dim)


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_the_operators_follow_the_rules_of_torch_library():
    """Schemas, fakes, derivatives and what compilers do with them, by PyTorch's own checks."""
    tp = products.get("matrix")("16x0e+16x1o", "16x0e+16x1o")
    x, y = (t.requires_grad_() for t in draw(tp, 3))
    assert isinstance(tp, Described)
    code, table, dim = tile.kept(tp.across.programs, torch.float64)
    torch.library.opcheck(torch.ops.etp.tile.default, (x, y, code, table, dim))
    grad = torch.randn(3, dim, dtype=torch.float64).requires_grad_()
    torch.library.opcheck(torch.ops.etp.tile_gradients.default, (grad, x, y, code, table, dim))


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_forward_mode_derivatives_take_the_plain_form():
    tp = make("cg-dense", "natural")
    x, y = draw(tp, 4)
    tangent = torch.ones_like(x)
    with torch.autograd.forward_ad.dual_level():
        z = tp(torch.autograd.forward_ad.make_dual(x, tangent), y)
        found = torch.autograd.forward_ad.unpack_dual(z).tangent
    assert found is not None
    assert relative(found, tp(tangent, y)) < 1e-12


@needs_numba
def test_a_full_disk_keeps_nothing_and_stops_nothing(monkeypatch, tmp_path):
    import numba
    from numba.core.caching import IndexDataCacheFile

    from etp.kernels.on_cpu import sparse_cpu

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("ETP_CACHE", str(tmp_path))
    monkeypatch.setattr(IndexDataCacheFile, "save", full)

    @sparse_cpu._kept_on_disk
    @numba.njit
    def twice(x):
        return 2 * x

    assert twice(3) == 6
    assert not list(tmp_path.rglob("*.nbi"))


@needs_numba
def test_the_fallback_says_what_numba_took(fresh, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    tp = make("cg-sparse", "natural")
    x1, x2 = random_inputs(tp, 4, torch.Generator().manual_seed(0), torch.float32)
    with compiling.recording() as record, pytest.warns(build.SlowForm):
        tp(x1, x2)
    assert list(record.artifacts) == ["Numba, float32"]
    assert record.seconds > 0

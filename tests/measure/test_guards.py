"""Products that are wrong on purpose: every guard sees its kind of wrong, nothing is timed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp import measure, products
from etp.analysis.comparison import comparisons
from etp.measure import oracle
from etp.measure.drawing import random_inputs
from etp.problem import Problem
from etp.product import registry
from etp.product.base import TensorProduct
from etp.results.rows import Row
from etp.run.case import Case, run
from etp.run.case.case import use_numbers

CgSparse = products.get("cg-sparse")


class Inexact(CgSparse):  # type: ignore[misc, valid-type]
    """One part in a million off: equivariant, but not what it claims."""

    name = "wrong-inexact"

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return super().multiply(x1, x2) * (1 + 1e-4)


class Mislabelled(CgSparse):  # type: ignore[misc, valid-type]
    """Right under rotations; its outputs carry the wrong parity."""

    name = "wrong-parity"

    @override
    def couple(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep) -> Iterator[o3.Irrep]:
        for ir in ir_in1 * ir_in2:
            yield o3.Irrep(ir.l, -ir.p)


class Tilted(CgSparse):  # type: ignore[misc, valid-type]
    """Prefers a direction."""

    name = "wrong-tilted"

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        z = super().multiply(x1, x2)
        return z * torch.linspace(0.9, 1.1, z.shape[-1], dtype=z.dtype)


class NotFinite(CgSparse):  # type: ignore[misc, valid-type]
    """Overflows on large inputs only: right where it is checked, wrong where it is timed."""

    name = "wrong-not-finite"

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        z = super().multiply(x1, x2)
        # The checks use 16 samples or fewer; the timed inputs are more.
        return z / 0 if len(x1) > 40 else z


WRONG = (Inexact, Mislabelled, Tilted, NotFinite)


@pytest.fixture
def _wrong_products(monkeypatch):
    for cls in WRONG:
        monkeypatch.setitem(registry._REGISTRY, cls.name, cls)


def built(cls: type[TensorProduct]) -> TensorProduct:
    return cls("0e+1o+2e", "0e+1o+2e")


def test_the_oracle_sees_a_wrong_coefficient():
    tp = built(Inexact)
    assert measure.equivariance_error(tp).passed
    found = measure.agreement(tp, dtype=torch.float64)
    assert found.max == pytest.approx(1e-4, rel=0.01)
    assert not found.passed


def test_inversion_sees_a_wrong_parity_and_rotations_do_not():
    found = measure.equivariance_error(built(Mislabelled), elements=8)
    errors = dict(zip(found.inverted, found.per_element, strict=True))
    assert errors[True] > 1
    assert errors[False] < 1e-12
    assert not found.passed


def test_rotations_see_a_preferred_direction():
    found = measure.equivariance_error(built(Tilted))
    assert min(found.per_element) > 1e-3


@pytest.mark.usefixtures("_wrong_products")
def test_a_wrong_product_is_never_timed_and_never_ranked():
    names = ("cg-sparse", *(cls.name for cls in WRONG), "gaunt-grid")
    problem = Problem.of_setting("MIMO", 2, batch=64, dtype="float32")
    case = Case(problem, names, rounds=12, budget_s=60.0, memory=False)
    rows = [item for item in run(case.as_dict()) if isinstance(item, Row)]
    runtimes = {r["product"]: r for r in rows if r["measure"] == "runtime"}
    for cls in WRONG:
        assert runtimes[cls.name]["status"] == "invalid"
        assert runtimes[cls.name]["result"] is None
        assert runtimes[cls.name]["badges"] == ("wrong answer",)
    assert "not finite" in runtimes["wrong-not-finite"]["reason"]
    assert "oracle" in runtimes["wrong-inexact"]["reason"]
    (found,) = comparisons(rows)
    assert {entry.product for entry in found.timed} == {"cg-sparse", "gaunt-grid"}
    assert set(found.judgement.verdicts) == {"gaunt-grid"}
    assert set(found.judgement.fronts) == {"cg-sparse", "gaunt-grid"}


def test_a_grid_one_node_short_is_wrong_in_every_dtype():
    cls = products.get("gaunt-grid")
    exact: Any = cls("0e+1o+2e", "0e+1o+2e").resolution
    for smaller in ((exact[0] - 1, exact[1]), (exact[0], exact[1] - 1)):
        tp = cls("0e+1o+2e", "0e+1o+2e", resolution=smaller)  # type: ignore[call-arg]
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            assert not measure.equivariance_error(tp, dtype=dtype).passed


def test_peak_memory_counts_at_least_what_must_be_there():
    tp = products.get("cg-dense")("0e+1o+2e", "0e+1o+2e")
    found = measure.peak_memory(tp, batch=1000, dtype=torch.float32, device="cpu")
    assert found.peak_bytes >= 4 * 1000 * tp.irreps_out.dim
    assert found.table_bytes > 0


@pytest.mark.filterwarnings("ignore::etp.kernels.on_cpu.build.SlowForm")
def test_counted_operations_agree_with_the_counter_of_torch(monkeypatch):
    from torch.utils.flop_counter import FlopCounterMode

    # It counts torch's own operations only.
    monkeypatch.setattr("etp.kernels.on_cpu.build.missing", lambda: "not for this test")
    tp = products.get("matrix")("0e+1o+2e", "0e+1o+2e")
    x1, x2 = random_inputs(tp, 10, torch.Generator().manual_seed(0), torch.float32)
    with FlopCounterMode(display=False) as counter:
        tp(x1, x2)
    assert counter.get_total_flops() == tp.cost(10, 4).flops


def test_small_coefficients_do_not_hide_the_error_of_half_precision():
    irreps = "0e+1o+2e+3o+4e+5o+6e"
    tp = products.get("matrix")(irreps, irreps)
    found = measure.equivariance_error(tp, dtype=torch.bfloat16, elements=2)
    # Eight bits are rounded in the output whatever the product.
    assert torch.finfo(torch.bfloat16).eps / 8 < found.max < found.gate


def test_tf32_is_float32_on_a_gpu_and_has_a_gate_of_its_own(monkeypatch):
    with pytest.raises(ValueError, match=r"matmul 'tf32' is float32 on an NVIDIA GPU.*'exact'"):
        Problem.of_setting("MIMO", 1, matmul="tf32")
    with pytest.raises(ValueError, match="got bfloat16 on cuda:0"):
        Problem.of_setting("MIMO", 1, matmul="tf32", device="cuda:0", dtype="bfloat16")
    problem = Problem.of_setting("MIMO", 1, matmul="tf32", device="cuda:0")
    assert "--matmul tf32" in problem.command()
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    for one in (problem, Problem.of_setting("MIMO", 1)):
        use_numbers(one)
    assert asked == ["high", "highest"]
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for dtype, device, allowed in (
        (torch.float32, gpu, oracle.TF32_GATE),
        (torch.float32, cpu, oracle.GATES[torch.float32]),
        (torch.float64, gpu, oracle.GATES[torch.float64]),
    ):
        assert oracle.gate(dtype, device, oracle.GATES) == allowed


def test_the_manifest_reads_whether_small_numbers_are_flushed():
    from etp.run.environment import environment

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush them")
    try:
        assert environment()["flags"]["flush_denormal"] is True
    finally:
        torch.set_flush_denormal(False)
    assert environment()["flags"]["flush_denormal"] is False


def test_threads_of_one_case_are_not_those_of_the_next():
    usual = torch.get_num_threads()
    use_numbers(Problem.of_setting("MIMO", 1, threads=1))
    assert torch.get_num_threads() == 1
    use_numbers(Problem.of_setting("MIMO", 1))
    assert torch.get_num_threads() == usual

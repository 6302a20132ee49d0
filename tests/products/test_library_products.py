"""What people use today behind the same interface: layouts, refusals, and what is timed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from e3nn import o3

from etp import products
from etp.measure import oracle
from etp.measure.drawing import random_inputs
from etp.measure.runtime import make_call
from etp.measure.timed import OfLibrary
from etp.problem import Problem
from etp.products import _library as library_product
from etp.products.cuequivariance import CuEquivariance
from etp.products.e3nn import E3nn, E3nnWeighted
from etp.products.openequivariance import OpenEquivariance
from etp.results.rows import Row
from etp.run.case import Case, run

ROOT = Path(__file__).resolve().parents[2]
OPTIONAL = {"cuequivariance": "pip install cuequivariance cuequivariance-torch",
            "openequivariance": "pip install openequivariance"}  # fmt: skip
MIXED = ("0e+0o+1o+1e", "0e+1e+2o")
CHANNELS = ("3x0e+3x1o+3x2e", "3x1o+3x1e")


def draw(tp, dtype=torch.float64):
    return random_inputs(tp, 5, torch.Generator().manual_seed(1), dtype)


def test_looking_at_the_products_imports_no_optional_library():
    code = (
        "import sys; from etp import products; products.available(); "
        f"sys.exit(','.join(m for m in {list(OPTIONAL)} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "mend"), OPTIONAL.items())
def test_a_library_that_is_not_installed_says_how_to_get_it(name, mend, monkeypatch):
    monkeypatch.setattr(library_product, "find_spec", lambda module: None)
    reason = str(products.get(name).unavailable())
    assert f"{name} is not installed" in reason
    assert mend in reason
    assert name not in products.available()


def test_openequivariance_asks_for_cuda(monkeypatch):
    monkeypatch.setattr(library_product, "find_spec", lambda module: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs CUDA" in str(OpenEquivariance.unavailable())


def test_cuequivariance_refuses_its_slow_fallback_on_a_gpu(monkeypatch):
    pytest.importorskip("cuequivariance_torch")
    tp = CuEquivariance(*MIXED)
    kernels = "cuequivariance_ops_torch"
    monkeypatch.setattr(
        library_product, "find_spec", lambda name: None if name == kernels else find_spec(name)
    )
    with pytest.raises(ValueError, match="pip install cuequivariance-ops-torch-cu"):
        tp.library_call(torch.float32, torch.device("cuda"))


@pytest.mark.parametrize("keep", [None, "1e+2e"])
def test_openequivariance_is_given_the_problem_that_e3nn_solves_as_claimed(keep):
    """Its ``TPProblem`` takes e3nn's arguments; two of them name number types, of which e3nn has
    one."""
    tp = OpenEquivariance(*MIXED, filter_ir_out=keep)
    arguments = tp.problem(torch.float64)
    assert arguments.pop("irrep_dtype").__name__ == arguments.pop("weight_dtype").__name__
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        theirs = o3.TensorProduct(**arguments)
    finally:
        torch.set_default_dtype(before)
    x1, x2 = draw(tp)
    z = tp.from_library(theirs(*tp.to_library(x1, x2)))
    torch.testing.assert_close(z, oracle.evaluate(tp, x1, x2), rtol=1e-12, atol=1e-12)


def test_openequivariance_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="use 1 channel instead of 3"):
        OpenEquivariance(*CHANNELS)
    tp = OpenEquivariance(*MIXED)
    with pytest.raises(ValueError, match="runs on cuda only, got cpu"):
        tp(*draw(tp))
    with pytest.raises(ValueError, match="float32 and float64 only"):
        tp.library_call(torch.bfloat16, torch.device("cuda"))


@pytest.mark.parametrize("cls", [E3nn, CuEquivariance])
def test_blocks_lie_as_the_library_says(cls):
    tp = cls("2x1o+2x0e", "2x0e")
    x = torch.arange(8.0)[None]
    first, second = tp.to_library(x, torch.arange(2.0)[None])
    block = x[:, :6].reshape(2, 3)
    wanted = block.T.flatten() if tp.components_first else block.flatten()
    assert first[0].tolist() == [*wanted.tolist(), 6, 7]
    assert second[0].tolist() == [0, 1]


def test_e3nn_builds_in_float64_and_leaves_the_default_alone():
    tp = products.get("e3nn")("2e", "2e")
    x1, x2 = draw(tp)
    error = tp(x1, x2) - oracle.evaluate(tp, x1, x2)
    assert error.abs().max() < 1e-14
    assert torch.get_default_dtype() == torch.float32


def test_weights_are_an_input_that_is_derived_by():
    tp = E3nnWeighted(*CHANNELS)
    x1, x2 = draw(tp)
    *_, weights = tp.to_library(x1, x2)
    assert weights.shape == (5, 3 * len(tp.paths))
    gradients = make_call(tp, x1, x2, "backward").run()
    assert isinstance(gradients, tuple)
    assert [g.shape for g in gradients] == [x1.shape, x2.shape, weights.shape]
    plain = products.get("e3nn")(*CHANNELS)
    assert tp.cost(5, 8).bytes - plain.cost(5, 8).bytes == 8 * weights.numel()
    # A weight scales its own path and channel: without weights nothing is left of any output.
    assert not tp.call_library(*tp.to_library(x1, x2)[:2], 0 * weights).any()


def rows_of(*names: str) -> dict[str, Row]:
    case = Case(Problem.of_setting("MIMO", 1, batch=8), names, rounds=1, budget_s=0.0)
    rows = [row for row in run(case.as_dict()) if isinstance(row, Row)]
    return {row.product: row for row in rows if row.measure == "runtime"}


def test_a_timed_call_that_differs_from_the_checked_one_is_found(monkeypatch):
    right = OfLibrary.call
    monkeypatch.setattr(OfLibrary, "call", lambda self, *inputs: 1.01 * right(self, *inputs))
    found = rows_of("cg-dense", "e3nn")
    assert found["cg-dense"]["status"] == "ok"
    assert found["e3nn"]["status"] == "invalid"
    assert "the timed call differs" in found["e3nn"]["reason"]


@pytest.mark.parametrize(
    ("error", "status", "badge"),
    [(ValueError("not in this dtype"), "invalid", "does not apply"),
     (TypeError("not a tensor"), "failed", "failed")],
)  # fmt: skip
def test_a_product_that_breaks_leaves_the_others_alone(monkeypatch, error, status, badge):
    def refuse(*_):
        raise error

    monkeypatch.setattr(OfLibrary, "call", refuse)
    found = rows_of("e3nn", "cg-dense")
    assert found["cg-dense"]["status"] == "ok"
    assert (found["e3nn"]["status"], found["e3nn"]["badges"]) == (status, (badge,))
    assert str(error) in found["e3nn"]["reason"]

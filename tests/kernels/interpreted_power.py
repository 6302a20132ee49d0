"""Run by test_interpreted.py: powers, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etp import powers
from etp.kernels.on_gpu import power_source, triton_power
from etp.kernels.on_gpu.triton_source import interpreted
from etp.kernels.power import power
from etp.kernels.power_table import places, plain
from tests.kernels.test_edge import orders

assert interpreted(), "this file is run by test_interpreted.py"
GATE = 1e-12
pytestmark = pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")


@pytest.fixture(autouse=True)
def runs(monkeypatch):
    """Kernels that ran: a test that met only the plain form would show nothing."""
    found: list[tuple[str, bool]] = []
    run = triton_power._PowerCall.run

    def noted(self, which, *rest):
        found.append((which, self.shape.change))
        run(self, which, *rest)

    monkeypatch.setattr(triton_power._PowerCall, "run", noted)
    yield found
    assert found


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("rows", ["element", "shared", "node"])
def test_values_and_derivatives_are_those_of_the_plain_form(layout, rows, runs, monkeypatch):
    monkeypatch.setattr(power_source, "MAX_SUMS", 11)
    monkeypatch.setattr(triton_power, "SLICE", 1)
    torch.manual_seed(0)
    order = 3 if (rows, layout) == ("element", "mul_ir") else 2
    tp: Any = powers.get("cg")("3x0e+3x1o", order=order, irreps_out="3x0e+3x1o", layout=layout)
    made = tp.polynomials
    lie = torch.tensor(
        places([1, 3], 3, layout == "ir_mul") + places([1, 3], 3, layout == "ir_mul"),
        dtype=torch.int32,
    )
    elements = torch.tensor([2, 0, 2, 2]) if rows == "element" else None
    count = {"element": (4,), "node": (4,), "shared": ()}[rows]
    x = torch.randn(4, 12, dtype=torch.float64, requires_grad=True)
    w = torch.randn(*count, made.numel * 3, dtype=torch.float64, requires_grad=True)
    assert orders(
        lambda x, w: power(made, x, w, elements, lie, 3),
        lambda x, w: plain(made, x, w, elements, lie),
        [x, w],
    ) < GATE  # fmt: skip
    kinds = ("forward", "features", "coefficients")
    assert set(runs) == {(which, change) for which in kinds for change in (False, True)}


def test_a_module_is_its_plain_form_where_channels_fill_programs_or_not(runs):
    torch.manual_seed(1)
    for channels in (32, 40):
        tp = powers.get("cg")(
            f"{channels}x0e+{channels}x1o", order=2, irreps_out=f"{channels}x1o"
        )  # fmt: skip
        a = torch.randn(2, tp.irreps_in.dim, dtype=torch.float64)
        w = torch.randn(3, tp.weight_numel, dtype=torch.float64)
        elements = torch.tensor([1, 0])
        z = tp(a, w, elements)
        # One node at a time in float64, by the definition over dense tables.
        wanted = torch.cat([tp(a[n : n + 1], w[e]) for n, e in enumerate([1, 0])])
        torch.testing.assert_close(z, wanted, rtol=GATE, atol=GATE)
    assert ("forward", False) in runs


def test_no_nodes_and_elements_that_are_not_there():
    tp = powers.get("cg")("2x0e+2x1o", order=2, irreps_out="2x0e")
    a, w = (
        torch.randn(2, 8, requires_grad=True),
        torch.randn(3, tp.weight_numel, requires_grad=True),
    )
    z = tp(a[:0], w, torch.zeros(0, dtype=torch.int64))
    gradient = torch.autograd.grad(z.sum(), w)[0]
    assert z.shape == (0, 2)
    assert gradient.abs().max() == 0
    with pytest.raises((RuntimeError, ValueError), match="elements"):
        tp(a, w, torch.tensor([0, 3]))

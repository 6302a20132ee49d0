"""The closed form of powers of a scalar and a vector, against polynomials term by term."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from etp.irreps import LAYOUTS
from etp.kernels import power as kernel
from etp.kernels import power_table
from etp.kernels.on_cpu import build
from etp.kernels.power_table import PowerTable, Segment, places
from etp.powers.clebsch_gordan import ClebschGordan
from etp.powers.table import TablePower

pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
needs_kernel = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
GATES = [(torch.float64, 1e-12), (torch.float32, 2e-5)]


def precision(table: PowerTable) -> int:
    """As the program says: 0 without a closed form, 2 where it holds in float64."""
    return int(table.program.ints[8])


def compare(power: TablePower, a: Tensor, w: Tensor, elements: Tensor | None) -> float:
    """Largest difference, values and first and second derivatives, to the plain form."""
    ins = [a.requires_grad_(), w.requires_grad_()]
    plain = power_table.plain(power.polynomials, a.flatten(1), w, elements, power.lies(a))
    results: list[Sequence[Tensor]] = [[power(a, w, elements)], [plain]]
    worst = [rel(*pair) for pair in zip(*results, strict=True)]
    for _ in range(2):
        along = [torch.randn_like(z).requires_grad_() for z in results[0]]
        results = [torch.autograd.grad(z, ins, along, create_graph=True) for z in results]
        ins = [*ins, *along]
        worst += [rel(*pair) for pair in zip(*results, strict=True)]
    return max(worst)


def rel(a: Tensor, b: Tensor) -> float:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def irreps(channels: int, names: Sequence[str]) -> str:
    return "+".join(f"{channels}x{name}" for name in names)


@needs_kernel
@pytest.mark.parametrize("channels", [1, 5, 16, 17, 89, 128])
@pytest.mark.parametrize("layout", [*LAYOUTS, "whole"])
@pytest.mark.parametrize("kind", ["elements", "shared", "per-node"])
@pytest.mark.parametrize(("dtype", "gate"), GATES)
def test_all_derivatives_in_every_layout(channels, layout, kind, dtype, gate):
    torch.manual_seed(0)
    names, whole, nodes = ["0e", "1o"], layout == "whole", 23
    power = ClebschGordan(irreps(channels, names), order=3, irreps_out=irreps(channels, names),
                          layout="mul_ir" if whole else layout)  # fmt: skip
    assert precision(power.polynomials) == 2
    a = torch.randn(nodes, *((channels, 4) if whole else (4 * channels,)), dtype=dtype)
    shape = {"elements": (4,), "shared": (), "per-node": (nodes,)}[kind]
    w = torch.randn(*shape, power.weight_numel, dtype=dtype)
    elements = torch.randint(0, 4, (nodes,)) if kind == "elements" else None
    assert compare(power, a, w, elements) < gate


@needs_kernel
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("names", [("0e", "1o"), ("1o", "0e"), ("0o", "1e"), ("1e", "0e")])
@pytest.mark.parametrize("outputs", [(0,), (1,), (0, 1), (1, 0)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_inputs_outputs_and_orders(order, names, outputs, layout):
    torch.manual_seed(0)
    wanted = [names[k] for k in outputs]
    power = ClebschGordan(
        irreps(19, names), order=order, irreps_out=irreps(19, wanted), layout=layout
    )
    assert precision(power.polynomials) == 2
    for whole in (False, True):
        a = torch.randn(11, *((19, 4) if whole else (76,)), dtype=torch.float64)
        w = torch.randn(3, power.weight_numel, dtype=torch.float64)
        assert compare(power, a, w, torch.randint(0, 3, (11,))) < 1e-12


@needs_kernel
def test_forces_alone_and_weights_alone():
    torch.manual_seed(0)
    power = ClebschGordan("16x0e+16x1o", order=3, irreps_out="16x0e+16x1o")
    a = torch.randn(40, 64, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, power.weight_numel, dtype=torch.float64, requires_grad=True)
    elements = torch.randint(0, 2, (40,))
    g = torch.randn(40, 64, dtype=torch.float64)
    z = power(a, w, elements)
    both = torch.autograd.grad(z, [a, w], g, create_graph=True)
    for k, t in enumerate((a, w)):
        (alone,) = torch.autograd.grad(z, t, g, create_graph=True)
        torch.testing.assert_close(alone, both[k], atol=1e-12, rtol=1e-12)
        along = torch.randn_like(t)
        for asked in ([a], [w], [a, w]):
            ours = torch.autograd.grad(alone, asked, along, retain_graph=True, allow_unused=True)
            joint = torch.autograd.grad(both[k], asked, along, retain_graph=True, allow_unused=True)
            for one, two in zip(ours, joint, strict=True):
                if two is None:  # values are linear in the weights
                    assert one is None or not one.any()
                else:
                    torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-3])
def test_what_is_the_same_but_for_rounding_is_one_term(spread):
    values = np.zeros((1, 1, 10))
    values[0, 0, [4, 7, 9]] = 1.0, 1.0 - spread, 1.0 + spread  # the squares of the vector
    table = PowerTable.of_segments((4, 1), [Segment(0, 2, values)])
    assert precision(table) == {0.0: 2, 1e-9: 1, 1e-3: 0}[spread]


@pytest.mark.parametrize(
    "monomial", [1, 2, 5], ids=["a scalar times an axis", "another", "two axes"]
)
def test_what_is_not_equivariant_has_no_closed_form(monomial):
    values = np.zeros((1, 1, 10))
    values[0, 0, [4, 7, 9]] = 1.0
    values[0, 0, monomial] = 0.5
    assert precision(PowerTable.of_segments((4, 1), [Segment(0, 2, values)])) == 0


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_double_precision_no_coefficient_is_rounded(dtype):
    """Coefficients that differ in the ninth digit stay different where it is kept."""
    torch.manual_seed(0)
    values = np.zeros((1, 1, 10))
    values[0, 0, [4, 7, 9]] = 1.0, 1.0 - 1e-8, 1.0 + 1e-8
    table = PowerTable.of_segments((4, 1), [Segment(0, 2, values)])
    lie = torch.tensor([*places([4], 16, False), *places([1], 16, False)], dtype=torch.int32)
    x, w = torch.randn(5, 64, dtype=dtype), torch.ones(16, dtype=dtype)
    expected = x.double().view(5, 16, 4)[..., 1:] ** 2 @ torch.tensor(values[0, 0, [4, 7, 9]])
    found = kernel.power(table, x, w, None, lie, 16).double()
    assert rel(found, expected) < (1e-15 if dtype == torch.float64 else 1e-6)

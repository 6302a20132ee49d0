"""Powers as they are measured: against sums of wigner_3j, characters, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typing_extensions import override

from etp import measure, powers
from etp.irreps import Ir, allowed_polynomials, symmetric_powers
from etp.measure.couplings import echelon, ranks, reach
from etp.measure.graph import OnNodes
from etp.powers.clebsch_gordan import ClebschGordan
from etp.run.case.questions import interaction_result

GAUNT = [name for name in powers.own() if name.startswith("gaunt")]


def natural(lmax: int) -> str:
    return "+".join(f"{l}{'eo'[l % 2]}" for l in range(lmax + 1))


def measured(name: str, irreps: str, out: str, order: int) -> OnNodes:
    return OnNodes(powers.get(name)(irreps, order=order, irreps_out=out))


@settings(max_examples=20)
@given(data=st.data())
def test_every_power_is_what_it_claims_and_equivariant(data):
    names = data.draw(st.lists(st.sampled_from(["0e", "0o", "1o", "1e", "2e", "2o"]), min_size=1,
                               max_size=3, unique=True))  # fmt: skip
    channels, order = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    irreps = "+".join(f"{channels}x{name}" for name in names)
    layout = data.draw(st.sampled_from(["mul_ir", "ir_mul"]))
    for name in powers.own():
        tp = OnNodes(powers.get(name)(irreps, order=order, irreps_out=irreps, layout=layout))
        for weights in ("none", "shared", "per-sample"):
            assert measure.agreement(tp, weights=weights, batch=5).passed, (name, weights)
        assert measure.equivariance_error(tp, elements=4, batch=4).passed, name


@pytest.mark.parametrize("name", powers.own())
def test_each_node_is_raised_with_the_weights_of_its_element(name):
    power = powers.get(name)("2x0e+2x1o", order=2, irreps_out="2x0e")
    tp = OnNodes(power, elements=3)
    assert measure.agreement(tp, weights="shared", batch=40).passed
    x, y = torch.randn(40, 8), torch.empty(40, 0)
    weights = torch.randn(3, power.weight_numel)
    z = tp(x, y, weights)
    own = torch.stack([power(x, each) for each in weights])
    element = (own - z).abs().amax(2).argmin(0)
    assert element.unique().tolist() == [0, 1, 2]
    expected = tp.element_of(x, weights)
    assert expected is not None
    assert torch.equal(element, expected)
    torch.testing.assert_close(z, own[element, torch.arange(40)])


def test_a_power_that_computes_something_else_is_found():
    class Off(ClebschGordan):
        @override
        def evaluate(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> Tensor:
            return super().evaluate(a, weights, elements) * (1 + 1e-9)

    tp = OnNodes(Off("2x0e+2x1o", order=3, irreps_out="2x1o"))
    assert not measure.agreement(tp).passed


def test_outputs_that_are_no_equivariant_polynomial_are_refused():
    class Shifted(ClebschGordan):
        @override
        def evaluate(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> Tensor:
            return super().evaluate(a, weights, elements) + 1e-3

    tp = OnNodes(Shifted("0e+1o", order=2, irreps_out="1o"))
    with pytest.raises(ValueError, match="no equivariant polynomial"):
        reach(tp)


@pytest.mark.parametrize("irreps", ["0e+1o", "1o+2e+1e", "0o+2e"])
@pytest.mark.parametrize(("degree", "formula"), [(2, "ij=ji"), (3, "ijk=jik=ikj")])
def test_irreps_of_symmetric_powers_are_those_of_e3nn(irreps, degree, formula):
    expected: dict[Ir, int] = {}
    for mul, ir in o3.ReducedTensorProducts(formula, i=irreps).irreps_out:
        expected[Ir(ir.l, ir.p)] = expected.get(Ir(ir.l, ir.p), 0) + mul
    own = tuple(Ir(ir.l, ir.p) for _, ir in o3.Irreps(irreps))
    assert symmetric_powers(own, degree)[-1] == expected


@pytest.mark.parametrize(
    ("irreps", "out", "order"),
    [("0e+1o", "0e+1o", 3), (natural(2), "0e+1o", 3), (natural(3), natural(3), 3),
     ("1o+2o+1e", "3o+0e+0o+1e+1o", 3), ("0e+1o", "0e+1o", 4)],
)  # fmt: skip
def test_the_exact_power_reaches_every_polynomial_there_is(irreps, out, order):
    found = measure.expressivity(measured("cg", irreps, out, order))
    counts = [[Ir(ir.l, ir.p) for _, ir in o3.Irreps(text)] for text in (irreps, out)]
    every = allowed_polynomials(counts[0], order, counts[1])
    assert found.rank == found.paths == found.allowed == found.closed_form == every
    assert found.agree


@pytest.mark.parametrize("name", [*GAUNT, "matrix"])
def test_a_power_of_one_signal_or_matrix_reaches_one_polynomial_of_each_degree_and_irrep(name):
    tp = measured(name, natural(2), natural(2), 3)
    found = measure.expressivity(tp)
    assert found.paths == tp.weights_per_channel == 9
    assert found.closed_form is None
    # Layers before it turn one polynomial into more, but three scales are not all of 27.
    assert found.paths < found.rank <= found.paths + 3
    mixed = [ranks(reach(tp), channels)[0] for channels in (1, 2, 4, 8, 16)]
    assert mixed == sorted(mixed)
    assert found.rank == mixed[0] < mixed[-1] < found.allowed == 27


def test_forms_of_the_gaunt_power_are_one_operation_and_others_are_not():
    from etp.analysis.operation import Operation, same_operation

    of = {
        name: Operation.of_result(interaction_result(measured(name, natural(2), "0e+1o", 3)))
        for name in powers.own()
    }
    for name in GAUNT:
        assert same_operation(of["gaunt-grid"], of[name]), name
        assert not same_operation(of["cg"], of[name])
    # The same couplings in the one polynomial, with other numbers.
    squares = [
        Operation.of_result(interaction_result(measured(name, natural(2), "0e", 2)))
        for name in ("matrix", "gaunt-grid")
    ]
    assert squares[0].coefficients.keys() == squares[1].coefficients.keys()
    assert not same_operation(*squares)
    assert same_operation(of["cg"], of["cg"])


def test_the_echelon_form_does_not_depend_on_the_basis_of_a_space():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 7)) * [1, 1, 1e-3, 1, 10, 1, 1]
    mixed = rng.standard_normal((5, 3)) @ rows
    np.testing.assert_allclose(echelon(mixed), echelon(rows), atol=1e-9)
    assert echelon(rows).shape == (3, 7)
    np.testing.assert_allclose(echelon(rows)[:, :3], np.eye(3))


def test_counted_multiply_adds_of_the_matrix_and_the_exact_power():
    """By hand: order 2 of 0e + 1o to 0e, two squares and a product of three components more."""
    cg = powers.get("cg")("0e+1o", order=2, irreps_out="0e")
    assert cg.macs == 4 + 5  # monomials 00, 11, 22, 33; with 0 they make five terms
    matrix = powers.get("matrix")("0e+1o", order=2, irreps_out="0e")
    side = 3
    # One matrix of a diagonal and of six entries beside it, squared; its trace; two weights.
    assert matrix.macs == (side + 6) + side**3 + side + 2
    grid = powers.get("gaunt-grid")("0e+1o", order=2, irreps_out="0e")
    points = (2 // 2 + 1) * (2 + 1)
    # To the grid, squared, weighed and summed up; the first degree weighed.
    assert grid.macs == 4 * points + 3 * points + 1
    assert cg.cost(10, 8, "per-sample").bytes == 10 * 8 * (4 + 1 + cg.weight_numel)


@pytest.mark.parametrize("name", GAUNT)
def test_multiply_adds_grow_with_the_order(name):
    counts = [powers.get(name)(natural(2), order=o, irreps_out="0e").macs for o in (2, 3, 4)]
    assert counts == sorted(counts)
    assert counts[0] > 0


def test_a_power_is_timed_with_its_one_input_and_its_weights():
    from etp.measure.timed import as_timed

    tp = measured("cg", "2x0e+2x1o", "2x0e", 2)
    given = as_timed(tp).inputs(torch.randn(3, 8), torch.empty(3, 0))
    assert [tuple(t.shape) for t in given] == [(3, 8), (tp.weight_numel,)]
    assert as_timed(tp).call(*given).shape == (3, 2)

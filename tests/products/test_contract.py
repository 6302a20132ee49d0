"""Every registered product, every law: a product added as one new file is tested with no edit."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from etp import measure, products
from etp.irreps import setting_irreps
from etp.measure.drawing import random_inputs, random_weights
from etp.measure.timed import as_timed
from etp.product.base import TensorProduct

AVAILABLE = products.available()
EXACT = [name for name in AVAILABLE if not products.get(name).approximate]


class Case(NamedTuple):
    irreps1: str
    irreps2: str
    keep: str | None = None


def setting(name: str, lmax: int, outputs: str = "all") -> Case:
    return Case(*setting_irreps(name, lmax, outputs))  # type: ignore[arg-type]


SMALL = Case("0e+1o", "0e+1o")
CASES = {
    "SISO 1": setting("SISO", 1),
    "SISO 2": setting("SISO", 2, "natural"),
    "SISO 4": setting("SISO", 4),
    "SIMO 3": setting("SIMO", 3),
    "MIMO 1": setting("MIMO", 1),
    "MIMO 3": setting("MIMO", 3),
    "MIMO 4 natural": setting("MIMO", 4, "natural"),
    "MIMO 6": setting("MIMO", 6),
    "scalars": Case("0e", "0e"),
    "odd order": Case("1o+0e", "2e+0e+1o"),
    "mixed parities": Case("0e+0o+1o+1e", "0e+1e+2o"),
    "pseudo": Case("0o+1e", "0o+1e+2o"),
    "unequal": Case("0e+1o", "0e+1o+2e+3o+4e"),
    "channels": Case("4x0e+4x1o", "4x0e+4x1o+4x2e"),
    "repeated": Case("1o+1o+0e+0e", "2x0e+2x1o"),
    "gaps": Case("1o+3o", "2e+4e"),
    "filter": Case("0e+1o+2e", "0e+1o+2e", "0e+2e"),
    "one odd path": Case("1o", "1o", "1e"),
}
FEW_PATHS = [CASES[label] for label in ("SISO 1", "one odd path", "scalars")]
WEIGHTED = [CASES[label] for label in ("MIMO 3", "mixed parities", "channels", "gaps")]
RANDOM = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("eo")), min_size=1, max_size=3, unique=True
)


@cache
def build(name: str, case: Case, dtype: torch.dtype = torch.float64) -> TensorProduct:
    """Build once, or skip where the product says that it does not apply; an error is an error."""
    cls = products.get(name)
    if (reason := cls.applies(case.irreps1, case.irreps2)) is not None:
        pytest.skip(reason)
    try:
        return cls(case.irreps1, case.irreps2, filter_ir_out=case.keep).to(dtype)
    except ValueError as error:
        # Where the selection rules leave few paths, a product that reaches fewer may reach none.
        if case in FEW_PATHS and not cls.keeps_paths and "no path" in str(error):
            pytest.skip(str(error))
        raise


def draw(tp: TensorProduct, batch: int = 5, dtype: torch.dtype = torch.float64):
    return random_inputs(tp, batch, torch.Generator().manual_seed(3), dtype)


@pytest.fixture(params=AVAILABLE)
def name(request) -> str:
    return request.param


@pytest.fixture(params=EXACT)
def exact(request) -> str:
    """A product that is held to what it claims."""
    return request.param


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_product_computes_what_it_claims_to_1e_12(exact, case):
    tp = build(exact, case)
    assert measure.agreement(tp, dtype=torch.float64).max < 1e-12


@pytest.mark.parametrize("weights", ["shared", "per-sample"])
@pytest.mark.parametrize("case", WEIGHTED, ids=lambda case: case.irreps1)
def test_weights_scale_what_the_product_says(exact, case, weights):
    tp = build(exact, case)
    assert measure.agreement(tp, weights=weights).max < 1e-12


def test_no_weights_are_weights_of_one(name):
    tp = build(name, CASES["channels"])
    x1, x2 = draw(tp)
    ones = torch.ones(tp.weight_numel, dtype=torch.float64)
    torch.testing.assert_close(tp(x1, x2, ones), tp(x1, x2), rtol=1e-11, atol=1e-11)
    assert tp.weight_numel == tp.channels * len(tp.weighting.factors)
    with pytest.raises(ValueError, match="weights must have shape"):
        tp(x1, x2, ones[1:])
    with pytest.raises(ValueError, match="weights must have dtype"):
        tp(x1, x2, ones.float())


def test_weights_broadcast_with_the_batch(name):
    tp = build(name, CASES["channels"])
    x1, x2 = draw(tp, 6)
    weights = torch.randn(3, tp.weight_numel, dtype=torch.float64)
    whole = tp(x1.reshape(2, 3, -1), x2.reshape(2, 3, -1), weights)
    for b in range(3):
        one = tp(x1.reshape(2, 3, -1)[:, b], x2.reshape(2, 3, -1)[:, b], weights[b])
        torch.testing.assert_close(whole[:, b], one, rtol=1e-11, atol=1e-11)
    assert tp(x1[:0], x2[:0], weights[:1]).shape == (0, tp.irreps_out.dim)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_product_is_equivariant_under_rotations_and_inversion(exact, case):
    tp = build(exact, case)
    error = measure.equivariance_error(tp, dtype=torch.float64, elements=4)
    assert error.max < 1e-12
    assert any(error.inverted) == (tp.group == "O(3)")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_measured_interactions_are_the_claimed_paths_and_no_others(exact, case):
    tp = build(exact, case)
    assert measure.interactions(tp) == {path[:3] for path in tp.paths}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_closed_form_of_expressivity_is_the_rank(exact, case):
    tp = build(exact, case)
    found = measure.expressivity(tp)
    assert 0 < found.rank <= found.allowed
    if found.closed_form is not None:
        assert found.closed_form == found.rank


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)], ids=str
)
@pytest.mark.parametrize("case", [CASES["MIMO 3"], CASES["channels"]], ids=["MIMO 3", "channels"])
def test_lower_precision_stays_close_and_keeps_its_dtype(exact, case, dtype, tolerance):
    tp = build(exact, case, dtype)
    assert measure.agreement(tp, dtype=dtype).max < tolerance
    x1, x2 = draw(tp, dtype=dtype)
    assert tp(x1, x2).dtype == dtype


@given(first=RANDOM, second=RANDOM)
@hypothesis_settings(max_examples=15)
def test_random_irreps_agree_with_the_oracle(exact, first, second):
    case = Case("+".join(f"{l}{p}" for l, p in first), "+".join(f"{l}{p}" for l, p in second))
    if products.get(exact).applies(case.irreps1, case.irreps2) is not None:
        return
    try:
        tp = products.get(exact)(case.irreps1, case.irreps2).to(torch.float64)
    except ValueError as error:
        # Paths with a coefficient of 0 may be all that these irreps have.
        if products.get(exact).keeps_paths or "no path" not in str(error):
            raise
        return
    assert measure.agreement(tp, dtype=torch.float64, batch=4).max < 1e-12
    assert measure.equivariance_error(tp, elements=2, batch=2).max < 1e-12


@pytest.mark.parametrize("case", [SMALL, CASES["channels"], CASES["repeated"]], ids=str)
def test_what_is_timed_gives_the_output_that_is_checked(name, case):
    tp = build(name, case)
    x1, x2 = draw(tp)
    work = as_timed(tp)
    z = work.output(work.call(*work.inputs(x1, x2)))
    torch.testing.assert_close(z, tp(x1, x2), rtol=1e-12, atol=1e-12)


def test_leading_axes_broadcast_and_may_be_empty(name):
    tp = build(name, SMALL)
    x1, x2 = draw(tp, 6)
    whole = tp(x1, x2)
    shaped = tp(x1.reshape(2, 3, -1), x2.reshape(2, 3, -1))
    torch.testing.assert_close(shaped.reshape(6, -1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tp(x1, x2[0]), tp(x1, x2[:1].expand(6, -1)))
    torch.testing.assert_close(tp(x1[0], x2[0]), whole[0], rtol=1e-12, atol=1e-12)
    assert tp(x1[:0], x2[:0]).shape == (0, tp.irreps_out.dim)


def test_a_product_is_linear_in_each_input(name):
    tp = build(name, SMALL)
    if not tp.bilinear:
        pytest.skip("its second input is a direction, not a vector space")
    x1, x2 = draw(tp)
    y1, y2 = (x.flip(0) for x in (x1, x2))
    torch.testing.assert_close(tp(2 * x1 + y1, x2), 2 * tp(x1, x2) + tp(y1, x2))
    torch.testing.assert_close(tp(x1, x2 - 3 * y2), tp(x1, x2) - 3 * tp(x1, y2))


@pytest.mark.parametrize("case", [SMALL, CASES["mixed parities"]], ids=["small", "mixed"])
def test_first_and_second_derivatives_are_right(name, case):
    tp = build(name, case)
    x1, x2 = (x.requires_grad_() for x in draw(tp, 2 if case == SMALL else 1))
    assert torch.autograd.gradcheck(tp, (x1, x2))
    assert torch.autograd.gradgradcheck(tp, (x1, x2))


@pytest.mark.parametrize("weights", ["shared", "per-sample"])
def test_first_and_second_derivatives_by_weights_are_right(name, weights):
    tp = build(name, Case("2x0e+2x1o", "2x0e+2x1o", "0e+1e"))
    free = random_weights(tp, weights, 2, torch.Generator().manual_seed(1))
    inputs = tuple(x.requires_grad_() for x in (*draw(tp, 2), free))
    assert torch.autograd.gradcheck(tp, inputs)
    assert torch.autograd.gradgradcheck(tp, inputs)


def test_gradients_exist_in_float32_with_channels(name):
    tp = build(name, CASES["channels"], torch.float32)
    x1, x2 = (x.requires_grad_() for x in draw(tp, 4, torch.float32))
    tp(x1, x2).square().sum().backward()
    assert x1.grad is not None
    assert x2.grad is not None
    assert torch.isfinite(x1.grad).all()
    assert x1.grad.any()
    assert x2.grad.any()


def test_copies_and_pickles_compute_the_same(name):
    tp = build(name, CASES["channels"])
    x1, x2 = draw(tp)
    for twin in (copy.deepcopy(tp), pickle.loads(pickle.dumps(tp))):
        torch.testing.assert_close(twin(x1, x2), tp(x1, x2), rtol=0, atol=0)


def test_nothing_but_weights_is_saved_with_a_model(name):
    tp = build(name, SMALL)
    assert set(tp.state_dict()) == {key for key, _ in tp.named_parameters()}


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_product_computes_the_same(name):
    tp = build(name, SMALL, torch.float32)
    x1, x2 = draw(tp, 3, torch.float32)
    compiled = torch.compile(tp, backend="aot_eager", fullgraph=False)
    torch.testing.assert_close(compiled(x1, x2), tp(x1, x2))
    weights = random_weights(tp, "per-sample", 3, torch.Generator().manual_seed(1), torch.float32)
    torch.testing.assert_close(compiled(x1, x2, weights), tp(x1, x2, weights))
    torch._dynamo.reset()


def test_channels_do_not_mix(name):
    tp = build(name, CASES["channels"])
    x1, x2 = draw(tp)
    parts = list(zip(tp.irreps_in1, tp.irreps_in1.slices(), strict=True))
    alone = x1.clone()
    for (mul, ir), part in parts:
        block = alone[:, part].reshape(len(alone), mul, ir.dim)
        block[:, 1:] = 0
        alone[:, part] = block.reshape(len(alone), -1)
    z, z_alone = tp(x1, x2), tp(alone, x2)
    for (mul, ir), part in zip(tp.irreps_out, tp.irreps_out.slices(), strict=True):
        shape = (len(z), mul // tp.channels, tp.channels, ir.dim)
        whole, single = z[:, part].reshape(shape), z_alone[:, part].reshape(shape)
        torch.testing.assert_close(single[:, :, 0], whole[:, :, 0])
        assert not single[:, :, 1:].any()


def test_wrong_inputs_are_refused_with_the_rule(name):
    tp = build(name, SMALL)
    x1, x2 = draw(tp)
    with pytest.raises(ValueError, match="x1 must have shape"):
        tp(x1[:, :-1], x2)
    with pytest.raises(ValueError, match="same dtype"):
        tp(x1.float(), x2)
    with pytest.raises(ValueError, match="floating point"):
        tp(x1.long(), x2.long())
    with pytest.raises(ValueError, match=r"x1 must be a torch\.Tensor, got ndarray"):
        tp(x1.numpy(), x2)
    with pytest.raises(ValueError, match=r"x1 and x2 must have leading axes that broadcast, got"):
        tp(x1[:2], x2[:3])


def test_an_empty_product_cannot_be_built(name):
    with pytest.raises(ValueError, match=r"path|parity|apply"):
        products.get(name)("1o", "1o", filter_ir_out="4e")


def test_unequal_multiplicities_are_refused(name):
    with pytest.raises(ValueError, match="multiplicit"):
        products.get(name)("2x0e+1o", "2x0e+2x1o")


def test_cost_counts_every_sample_and_channel(name):
    one = build(name, SMALL).cost(10, 4)
    many = build(name, Case("3x0e+3x1o", "3x0e+3x1o")).cost(20, 4)
    assert one.macs > 0
    assert many.macs == 6 * one.macs
    assert many.bytes == 6 * one.bytes
    assert one.flops == 2 * one.macs


def test_cost_counts_weights(name):
    tp = build(name, CASES["channels"])
    none, shared, own = (tp.cost(10, 4, weights) for weights in ("none", "shared", "per-sample"))
    assert own.macs == shared.macs >= none.macs
    numbers = tp.irreps_in1.dim + tp.irreps_in2.dim + tp.irreps_out.dim
    assert own.bytes == 4 * 10 * (numbers + tp.weight_numel)
    # A library may read weights of each sample whatever it is given.
    assert none.bytes in (4 * 10 * numbers, own.bytes)
    assert shared.bytes in (4 * (10 * numbers + tp.weight_numel), own.bytes)

"""Every registered product as edge product and as convolution, through every law."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from typing import NamedTuple

import pytest
import torch

import etp
from etp import measure, products
from etp.measure import oracle
from etp.measure.drawing import random_inputs, random_weights
from etp.product import chunks
from etp.product.base import TensorProduct


class Case(NamedTuple):
    irreps1: str
    irreps2: str
    keep: str | None = None


CASES = {
    "uniform": Case("4x0e+4x1o+4x2e", "0e+1o+2e"),
    "different multiplicities": Case("5x0e+3x1o+1e", "0e+1o+2e", "0e+1o+1e+2e"),
    "repeated blocks": Case("2x1o+3x0e+1x1o", "1o+0e"),
    "both parities": Case("2x0o+3x0e+2x1o+1x1e", "0e+1o", "0o+0e+1o+1e"),
    "scalars on edges, fewer copies of the top degree": Case("2x2e+1x3e", "0e"),
    "scalars on edges, fewer copies of one parity": Case("5x0o+3x2o+1x2e", "0e"),
    "more edge degrees": Case("3x0e+2x1o", "0e+1o+2e+3o", "0e+1o+2e"),
}
SMALL = Case("2x0e+1x1o", "0e+1o", "0e+1o")
KINDS = [name for name in products.available() if "edge" in products.get(name).kinds]
EXACT = [name for name in KINDS if not products.get(name).approximate]


@cache
def build(name: str, case: Case, layout: str = "mul_ir") -> TensorProduct:
    try:
        made = products.get(name)(
            case.irreps1, case.irreps2, filter_ir_out=case.keep, layout=layout
        )  # type: ignore[call-arg]
    except ValueError as error:
        pytest.skip(str(error))
    return made.double()


def draw(tp: TensorProduct, edges: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    weights = random_weights(tp, "per-sample", edges, generator)
    assert weights is not None
    return *random_inputs(tp, edges, generator), weights


def graph(nodes: int, edges: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    senders, receivers = torch.randint(nodes, (2, edges), generator=generator).unbind(0)
    return senders, receivers


@pytest.fixture(params=KINDS)
def name(request) -> str:
    return request.param


@pytest.fixture(params=EXACT)
def exact(request) -> str:
    return request.param


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_edge_product_computes_what_it_claims(exact, case, layout):
    tp = build(exact, case, layout)
    assert tp.kind == "edge"
    for weights in ("none", "shared", "per-sample"):
        assert measure.agreement(tp, weights=weights).max < 1e-12


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_edge_product_is_equivariant(exact, case, layout):
    tp = build(exact, case, layout)
    error = measure.equivariance_error(tp, elements=4)
    assert error.max < 1e-12
    assert any(error.inverted) == (tp.group == "O(3)")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_edge_product_has_the_paths_that_it_claims(exact, case):
    tp = build(exact, case)
    assert measure.interactions(tp) == {path[:3] for path in tp.paths}


def test_every_channel_is_the_pair_product_of_that_channel(name):
    tp = build(name, CASES["uniform"])
    pair = products.get(name)("0e+1o+2e", "0e+1o+2e").double()
    x, y, _ = draw(tp)
    z = oracle.blocks_of(tp(x, y), tp.irreps_out)
    for u in range(tp.channels):
        own = torch.cat([block[:, u] for block in oracle.blocks_of(x, tp.irreps_in1)], dim=1)
        wanted = torch.cat([block[:, u] for block in z], dim=1)
        torch.testing.assert_close(pair(own, y), wanted, rtol=1e-11, atol=1e-11)


def test_layouts_hold_the_same_numbers(name):
    case = CASES["different multiplicities"]
    plain, turned = build(name, case), build(name, case, "ir_mul")
    x, y, weights = draw(plain)
    there = oracle.joined(oracle.blocks_of(x, plain.irreps_in1), "ir_mul")
    z = oracle.blocks_of(turned(there, y, weights), turned.irreps_out, "ir_mul")
    torch.testing.assert_close(oracle.joined(z), plain(x, y, weights), rtol=1e-11, atol=1e-11)


def test_leading_axes_broadcast_and_copies_compute_the_same(name):
    tp = build(name, SMALL)
    x, y, weights = draw(tp, 6)
    whole = tp(x, y, weights)
    shaped = tp(x.reshape(2, 3, -1), y.reshape(2, 3, -1), weights.reshape(2, 3, -1))
    torch.testing.assert_close(shaped.reshape(6, -1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tp(x, y[0]), tp(x, y[:1].expand(6, -1)))
    assert tp(x[:0], y[:0]).shape == (0, tp.irreps_out.dim)
    for twin in (copy.deepcopy(tp), pickle.loads(pickle.dumps(tp))):
        torch.testing.assert_close(twin(x, y, weights), whole, rtol=0, atol=0)


def test_derivatives_of_an_edge_product_are_right(name):
    tp = build(name, SMALL)
    inputs = tuple(x.requires_grad_() for x in draw(tp, 2))
    assert torch.autograd.gradcheck(tp, inputs)
    assert torch.autograd.gradgradcheck(tp, inputs)


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("chunk", [1, 1 << 30], ids=["edge by edge", "at once"])
def test_a_convolution_adds_up_its_edge_products(exact, layout, chunk, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)
    tp = build(exact, CASES["different multiplicities"], layout)
    x, y, weights = draw(tp, 7)
    senders, receivers = graph(4, 7)
    for given in (None, weights[0], weights):
        z = etp.Convolution(tp)(x[:4], y, given, senders, receivers, 5)
        wanted = z.new_zeros(5, tp.irreps_out.dim)
        wanted.index_add_(0, receivers, oracle.evaluate(tp, x[:4][senders], y, given))
        torch.testing.assert_close(z, wanted, rtol=1e-11, atol=1e-11)


def test_a_convolution_does_not_depend_on_the_order_of_edges_or_the_numbers_of_nodes(name):
    tp = build(name, SMALL)
    x, y, weights = draw(tp, 9)
    x = x[:5]
    senders, receivers = graph(5, 9)
    conv = etp.Convolution(tp)
    z = conv(x, y, weights, senders, receivers, 5)
    order, numbers = torch.randperm(9), torch.randperm(5)
    mixed = conv(x, y[order], weights[order], senders[order], receivers[order], 5)
    torch.testing.assert_close(mixed, z, rtol=1e-12, atol=1e-12)
    there = torch.empty_like(x).index_copy_(0, numbers, x)
    renamed = conv(there, y, weights, numbers[senders], numbers[receivers], 5)
    torch.testing.assert_close(renamed[numbers], z, rtol=1e-12, atol=1e-12)


def test_derivatives_of_a_convolution_are_those_of_gather_product_and_scatter(name, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1000)
    tp = build(name, SMALL)
    x, y, weights = draw(tp, 9)
    inputs = tuple(part.requires_grad_() for part in (x[:5].clone(), y, weights))
    senders, receivers = graph(5, 9)
    grad = torch.randn(5, tp.irreps_out.dim, dtype=torch.float64, requires_grad=True)
    seconds = [torch.randn_like(part) for part in inputs]

    def derivatives(z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        firsts = torch.autograd.grad(z, inputs, grad, create_graph=True)
        return *firsts, *torch.autograd.grad(firsts, (*inputs, grad), seconds)

    found = derivatives(etp.Convolution(tp)(*inputs, senders, receivers, 5))
    plain = tp(inputs[0][senders], *inputs[1:])
    wanted = derivatives(plain.new_zeros(5, plain.shape[1]).index_add(0, receivers, plain))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_wrong_graphs_are_refused(name):
    tp = build(name, SMALL)
    conv = etp.Convolution(tp)
    x, y, weights = draw(tp, 3)
    index = torch.arange(3)
    with pytest.raises(ValueError, match="senders must be from 0 to 2, got 3"):
        conv(x, y, weights, index + 1, index, 3)
    with pytest.raises(ValueError, match="receivers must be from 0 to 2, got -1"):
        conv(x, y, weights, index, index - 1, 3)
    with pytest.raises(ValueError, match="receivers must be from 0 to 1, got 2"):
        conv(x, y, weights, index, index, 2)
    with pytest.raises(ValueError, match="y must have shape"):
        conv(x, y[:2], weights, index, index, 3)
    with pytest.raises(ValueError, match="weights must have shape"):
        conv(x, y, weights[:, 1:], index, index, 3)
    with pytest.raises(ValueError, match="senders must hold 3 whole numbers"):
        conv(x, y, weights, index.double(), index, 3)
    with pytest.raises(ValueError, match=r"x must have a floating point dtype, got torch\.int64"):
        conv(x.long(), y.long(), weights.long(), index, index, 3)
    with pytest.raises(ValueError, match=r"num_nodes must be a whole number, got None"):
        conv(x, y, weights, index, index, None)
    with pytest.raises(ValueError, match=r"x must be a torch\.Tensor, got ndarray"):
        conv(x.numpy(), y, weights, index, index, 3)
    with pytest.raises(ValueError, match=r"senders must be a torch\.Tensor, got list"):
        conv(x, y, weights, [0, 1, 2], index, 3)


def test_nodes_without_edges_are_zero(name):
    tp = build(name, SMALL)
    x, y, weights = draw(tp, 3)
    index = torch.arange(3)
    z = etp.Convolution(tp)(x, y[:0], weights[:0], index[:0], index[:0], 3)
    torch.testing.assert_close(z, torch.zeros(3, tp.irreps_out.dim, dtype=torch.float64))
    shared = etp.Convolution(tp)(x, y[:0], weights[0], index[:0], index[:0], 3)
    torch.testing.assert_close(shared, z)
    some = etp.Convolution(tp)(x, y[:1], weights[:1], index[:1], index[:1], 3)
    assert not some[1:].any()
    assert some[0].any()


def test_no_edges_have_derivatives_of_every_order(name):
    tp = build(name, SMALL)
    index = torch.arange(0)
    for weights in (torch.randn(0, tp.weight_numel), torch.randn(tp.weight_numel)):
        x, y, w = ins = [part.double().requires_grad_() for part in
                         (torch.randn(3, tp.irreps_in1.dim), draw(tp)[1][:0], weights)]  # fmt: skip
        for z in (etp.Convolution(tp)(x, y, w, index, index, 3), tp(x[:0], y, w)):
            first = torch.autograd.grad(z.sum(), ins, create_graph=True)
            second = torch.autograd.grad(torch.cat([g.flatten() for g in first]).sum(), ins)
            for given, *grads in zip(ins, first, second, strict=True):
                assert all(grad.shape == given.shape and not grad.any() for grad in grads)


def test_one_channel_is_an_edge_product_too(name):
    tp = products.get(name)("0e+1o", "0e+1o").double()
    x, y, weights = draw(tp, 6)
    senders, receivers = graph(6, 6)
    z = etp.Convolution(tp)(x, y, weights, senders, receivers, 6)
    wanted = z.new_zeros(z.shape).index_add_(0, receivers, tp(x[senders], y, weights))
    torch.testing.assert_close(z, wanted, rtol=1e-12, atol=1e-12)


def test_multiplicities_that_do_not_meet_name_the_mode_and_the_mend():
    with pytest.raises(ValueError, match=r"uvu.*uuu.*give 0e\+1o"):
        products.get("cg-sparse")("4x0e+2x1o", "2x0e+2x1o")
    with pytest.raises(ValueError, match="Swap the inputs"):
        products.get("cg-sparse")("0e+1o", "4x0e+4x1o")
    with pytest.raises(ValueError, match="product must be an edge product"):
        etp.Convolution(products.get("cg-sparse")("4x0e", "4x0e"))
    for other in ("cg-sparse", products.get("cg-sparse"), torch.nn.Linear(1, 1)):
        with pytest.raises(ValueError, match="product must be a product of etp"):
            etp.Convolution(other)  # type: ignore[arg-type]
    for keep in ([], ["x"], [3], 3):
        with pytest.raises(ValueError, match="filter_ir_out: must name the irreps to keep"):
            products.get("cg-sparse")("4x0e", "0e", filter_ir_out=keep)
    with pytest.raises(ValueError, match="layout must be one of"):
        products.get("cg-sparse")("4x0e", "0e", layout="mul")  # type: ignore[call-arg]


def test_the_shapes_of_the_issue():
    tp = products.get("cg-sparse")("128x0e+64x1o", "0e+1o+2e", filter_ir_out="0e+1o+2e")
    assert tp.weight_numel == sum(mul for mul, _ in tp.irreps_out)
    assert str(tp.irreps_out) == ("128x0e+64x0e+128x1o+64x1o+64x1o+128x2e+64x2e")

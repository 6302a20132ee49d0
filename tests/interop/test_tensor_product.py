"""Tensor products of e3nn, computed here: values, derivatives, weights and state."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

import etp
from etp.interop import ConvertedProduct
from etp.interop._parts import Selected

pytestmark = [
    pytest.mark.usefixtures("in_float64"),
    pytest.mark.filterwarnings("ignore"),  # of TorchScript and of compilers
]


MODES = {
    "uvu": lambda u, v: u,
    "uuu": lambda u, v: u,
    "uvuv": lambda u, v: u * v,
    "uvw": lambda u, v: random.randint(1, 4),
}


def random_product(seed: int, modes: list[str], **options: Any) -> o3.TensorProduct:
    """Blocks in any order, some read or written twice, some not at all."""
    random.seed(seed)
    lone = "uuu" in modes

    def draw(low: int, high: int) -> list[tuple[int, o3.Irrep]]:
        return [
            (3 if lone else random.randint(low, high),
             o3.Irrep(random.randint(0, 2), random.choice([1, -1])))
            for _ in range(random.randint(1, 3))
        ]  # fmt: skip

    in1, in2 = draw(1, 4), draw(1, 3)
    out: list[tuple[int, o3.Irrep]] = [(2, o3.Irrep("1o"))]
    instructions: list[Any] = []
    for a, (u, ir1) in enumerate(in1):
        for b, (v, ir2) in enumerate(in2):
            for ir in ir1 * ir2:
                mode = random.choice(modes)
                mul = MODES[mode](u, v)
                same = [n for n, slot in enumerate(out) if slot == (mul, ir)]
                if not same or random.random() < 0.5:
                    out.append((mul, ir))
                    same = [len(out) - 1]
                weighted = mode == "uvw" or random.random() < 0.7
                for _ in range(random.choice([1, 1, 2])):
                    instructions.append((a, b, same[0], mode, weighted, random.uniform(0.5, 2)))
    random.shuffle(instructions)
    var = {
        f"{name}_var": [random.uniform(0.5, 2) for _ in own]
        for name, own in (("in1", in1), ("in2", in2), ("out", out))
    }
    return o3.TensorProduct(in1, in2, out, instructions, **var, **options)


def draw_inputs(product: o3.TensorProduct, rows: int = 4) -> list[Tensor]:
    shapes = [(rows, product.irreps_in1.dim), (rows, product.irreps_in2.dim)]
    if not product.internal_weights and product.weight_numel:
        lead = () if product.shared_weights else (rows,)
        shapes.append((*lead, product.weight_numel))
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def rel(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) if b.numel() else 0.0


def assert_same(ours: Any, theirs: Any, given: list[Tensor]) -> None:
    """Values to 1e-12, gradients and second derivatives to 1e-10."""
    a, b = ours(*given), theirs(*given)
    assert a.shape == b.shape
    assert rel(a, b) < 1e-12
    parameters = [p for p in theirs.parameters() if p.numel()]
    inputs = given + parameters
    along = torch.randn_like(b)
    first = [
        torch.autograd.grad(z, inputs, along, create_graph=True, allow_unused=True) for z in (a, b)
    ]
    for mine, other in zip(first[0], first[1], strict=True):
        assert (mine is None) == (other is None)
        if other is not None:
            assert rel(mine, other) < 1e-10
    kept = [n for n, g in enumerate(first[1]) if g is not None and g.requires_grad]
    further = [torch.randn_like(first[1][n]) for n in kept]
    second = [
        torch.autograd.grad([g[n] for n in kept], inputs, further, allow_unused=True) for g in first
    ]
    for mine, other in zip(second[0], second[1], strict=True):
        if other is not None:
            assert rel(mine, other) < 1e-10


WEIGHTS = [
    {"shared_weights": True, "internal_weights": True},
    {"shared_weights": True, "internal_weights": False},
    {"shared_weights": False, "internal_weights": False},
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("modes", [["uvu"], ["uuu"], ["uvw"], ["uvuv"], ["uvu", "uvw", "uvuv"]])
@pytest.mark.parametrize("weights", WEIGHTS, ids=["internal", "shared", "per-row"])
def test_random_products_are_computed_alike(seed, modes, weights):
    irrep = ["component", "norm", "none"][seed % 3]
    path = ["element", "path"][seed % 2]
    theirs = random_product(
        seed, modes, irrep_normalization=irrep, path_normalization=path, **weights
    )
    ours = etp.from_e3nn(theirs)
    assert_same(ours, theirs, draw_inputs(theirs))


@pytest.mark.parametrize(
    "product",
    [
        lambda: o3.FullyConnectedTensorProduct("4x0e+3x1o+2x2e", "3x0e+2x1o", "5x0e+4x1o+2x1e"),
        lambda: o3.FullTensorProduct("4x0e+3x1o", "2x0e+2x1o+1x2e"),
        lambda: o3.FullTensorProduct("2x1o+3x1o", "3x1o+2x1o", ["0e", "1e"]),
        lambda: o3.ElementwiseTensorProduct("4x0e+3x1o", "5x1o+2x0e"),
        lambda: o3.ElementwiseTensorProduct("4x0e+3x1o", "7x0e", irrep_normalization="norm"),
        lambda: o3.TensorProduct("2x0e+2x1o", "0e", "3x1o", []),
        lambda: o3.TensorProduct("0x0e+2x1o", "1o", "0x1o+2x0e", [(0, 0, 0, "uvu", True),
                                                                  (1, 0, 1, "uvu", True)]),
    ],
    ids=["fully-connected", "full", "full-filtered", "elementwise", "gate", "empty", "none-of"],
)  # fmt: skip
def test_the_products_of_e3nn_that_have_names(product):
    theirs = product()
    ours = etp.from_e3nn(theirs)
    given = draw_inputs(theirs)
    if theirs.instructions:
        assert_same(ours, theirs, given)
    assert ours(*given).shape == (4, theirs.irreps_out.dim)
    assert isinstance(ours, o3.TensorProduct)
    assert str(theirs.irreps_in1.simplify()) in repr(ours)


@pytest.mark.parametrize("weights", WEIGHTS, ids=["internal", "shared", "per-row"])
def test_state_goes_both_ways_and_weights_are_the_same_parameters(weights):
    theirs = random_product(1, ["uvw", "uvu"], **weights)
    ours = etp.from_e3nn(copy.deepcopy(theirs))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    given = draw_inputs(theirs)
    assert rel(ours(*given), theirs(*given)) < 1e-12
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert rel(ours(*given), theirs(*given)) < 1e-12
    again = etp.from_e3nn(theirs)
    assert all(a is b for a, b in zip(again.parameters(), theirs.parameters(), strict=True))


def test_leading_axes_broadcast_lists_of_weights_and_views():
    theirs = random_product(2, ["uvu", "uvw"], shared_weights=False)
    ours = etp.from_e3nn(theirs)
    x, y = torch.randn(3, 1, theirs.irreps_in1.dim), torch.randn(2, theirs.irreps_in2.dim)
    w = torch.randn(3, 1, theirs.weight_numel)
    assert rel(ours(x, y, w), theirs(x, y, w)) < 1e-12
    assert rel(ours(x, y, w[:1]), theirs(x, y, w[:1])) < 1e-12
    assert ours(x[:0], y[:0], w[:0]).shape == (0, 0, theirs.irreps_out.dim)
    views = list(theirs.weight_views(w[:, 0]))
    own = list(ours.weight_views(w[:, 0]))
    assert [a.shape for a in own] == [a.shape for a in views]
    assert rel(ours(x[:, 0], y[:1], own), theirs(x[:, 0], y[:1], views)) < 1e-12
    shared = o3.FullyConnectedTensorProduct("2x0e+1o", "1o", "0e+3x1o")
    x, y = torch.randn(shared.irreps_in1.dim), torch.randn(shared.irreps_in2.dim)
    assert rel(etp.from_e3nn(shared)(x, y), shared(x, y)) < 1e-12


def test_right_is_the_map_of_input_1():
    theirs = o3.FullyConnectedTensorProduct("2x0e+2x1o", "2x0e+1o", "3x1o", compile_right=True)
    y = torch.randn(5, theirs.irreps_in2.dim)
    assert rel(etp.from_e3nn(theirs).right(y), theirs.right(y)) < 1e-12


@pytest.mark.parametrize("elements", [1, 3, 9])
@pytest.mark.parametrize("kind", ["one-hot", "scaled", "sparse", "dense", "zero"])
def test_zeros_of_scalars_are_skipped_exactly(elements, kind):
    theirs = o3.FullyConnectedTensorProduct("4x0e+3x1o+2x2e", f"{elements}x0e", "4x0e+5x1o")
    ours = etp.from_e3nn(theirs)
    x = torch.randn(20, theirs.irreps_in1.dim)
    y = torch.eye(elements)[torch.randint(0, elements, (20,))]
    y = {
        "one-hot": y, "scaled": y * torch.randn(20, 1), "zero": y * 0,
        "sparse": y * torch.randn(20, 1) + y.roll(1, 0), "dense": torch.randn(20, elements),
    }[kind]  # fmt: skip
    assert_same(lambda x: ours(x, y), Bound(theirs, y), [x.requires_grad_()])
    assert_same(ours, theirs, [x, y.clone().requires_grad_()])


class Bound(torch.nn.Module):
    """A product with its second input given."""

    def __init__(self, product: torch.nn.Module, y: Tensor) -> None:
        super().__init__()
        self.product, self.y = product, y

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.y)


def test_one_hot_inputs_multiply_no_zeros(monkeypatch):
    theirs = o3.FullyConnectedTensorProduct("4x0e+3x1o", "30x0e", "4x0e+5x1o")
    ours = etp.from_e3nn(theirs)
    (part,) = ours.parts
    assert isinstance(part, Selected)
    monkeypatch.setattr(part, "edges", None)  # the general way would fail
    y = torch.eye(30)[torch.randint(0, 3, (20,))]
    x = torch.randn(20, theirs.irreps_in1.dim)
    assert rel(ours(x, y), theirs(x, y)) < 1e-12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("modes", [["uvu"], ["uvu", "uvw"]])
def test_convolutions_are_gather_product_and_sum(seed, modes):
    theirs = random_product(seed, modes, shared_weights=False)
    ours = etp.from_e3nn(theirs)
    x, y, w = draw_inputs(theirs, 30)
    senders, receivers = torch.randint(0, 6, (30,)), torch.randint(0, 6, (30,))
    out = ours.convolve(x[:6], y, w, senders, receivers)
    expected = torch.zeros_like(out).index_add(0, receivers, theirs(x[senders], y, w))
    assert rel(out, expected) < 1e-12


def test_precision_follows_the_inputs_and_tables_are_not_rounded():
    torch.set_default_dtype(torch.float32)
    theirs = o3.FullyConnectedTensorProduct("4x0e+3x1o", "2x1o", "4x0e+5x1o+2x2e")
    ours = etp.from_e3nn(theirs)
    given = [t.detach() for t in draw_inputs(theirs)]
    assert ours(*given).dtype == torch.float32
    assert rel(ours(*given), theirs(*given)) < 1e-5
    torch.set_default_dtype(torch.float64)
    exact = o3.FullyConnectedTensorProduct("4x0e+3x1o", "2x1o", "4x0e+5x1o+2x2e")
    exact.load_state_dict({"weight": theirs.weight.double()}, strict=False)  # not its tables
    wide = [t.double() for t in given]
    assert rel(ours.double()(*wide), exact(*wide)) < 1e-12


def test_copies_and_pickles():
    ours = etp.from_e3nn(random_product(3, ["uvu", "uvw"]))
    given = draw_inputs(ours)
    z = ours(*given)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert isinstance(other, ConvertedProduct)
        assert torch.equal(other(*given), z)
    elementwise = etp.from_e3nn(o3.ElementwiseTensorProduct("4x0e+4x1o", "4x0e+4x1o"))
    given = draw_inputs(elementwise)
    z = elementwise(*given)
    assert torch.equal(pickle.loads(pickle.dumps(elementwise))(*given), z)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("product", "backend"),
    [
        (lambda: random_product(1, ["uvu"], shared_weights=False), "inductor"),
        # Traced, derived and partitioned alike, and run without PyTorch's code generator.
        (lambda: o3.FullyConnectedTensorProduct("4x0e+3x1o", "5x0e", "4x0e+5x1o"), "aot_eager"),
        (lambda: o3.ElementwiseTensorProduct("3x0e+3x1o", "3x0e+3x1o"), "aot_eager"),
    ],
    ids=["uvu", "scalars", "uuu"],
)
def test_compiled_whole(product, backend):
    ours = etp.from_e3nn(product())
    given = draw_inputs(ours)
    compiled = torch.compile(ours, fullgraph=True, backend=backend)
    a, b = compiled(*given), ours(*given)
    assert rel(a, b) < 1e-12
    for mine, other in zip(
        torch.autograd.grad(a.sum(), given), torch.autograd.grad(b.sum(), given), strict=True
    ):
        assert rel(mine, other) < 1e-12


def test_what_cannot_be_converted_is_named():
    theirs = o3.TensorProduct("2x1o", "3x1o", "3x0e", [(0, 0, 0, "uvv", True)])
    with pytest.raises(ValueError, match="mode 'uvv' is not one of uuu, uvu, uvuv, uvw"):
        etp.from_e3nn(theirs)
    with pytest.raises(TypeError, match=r"must be an e3nn.o3.TensorProduct, got Linear"):
        etp.from_e3nn(o3.Linear("0e", "0e"))
    theirs.forward = lambda x, y: x
    with pytest.raises(ValueError, match="has forward of its own, which would be lost"):
        etp.from_e3nn(theirs)
    ours = etp.from_e3nn(o3.FullTensorProduct("1o", "1o"))
    with pytest.raises(ValueError, match=r"y must have shape \(..., 3\), got \(2, 4\)"):
        ours(torch.randn(2, 3), torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"x must be a torch.Tensor, got ndarray"):
        ours(torch.randn(2, 3).numpy(), torch.randn(2, 3))
    assert etp.from_e3nn(ours) is ours


@pytest.mark.parametrize("name", ["e3nn", "e3nn-uuu"])
def test_products_of_e3nn_claim_the_signs_of_the_release_at_hand(name: str) -> None:
    """Releases before 0.6 have other signs on some paths of 2 and 2."""
    made = etp.products.get(name)
    pair = made("2x1o+2x2e", "2x1o+2x2e")
    if name == "e3nn-uuu":
        assert etp.measure.agreement(pair, weights="per-sample").passed
        return
    edge = made("3x1o+2x2e", "1o+2e", filter_ir_out="0e+1o+1e+2o+2e")
    assert etp.measure.agreement(pair).passed
    assert etp.measure.agreement(edge, weights="per-sample").passed

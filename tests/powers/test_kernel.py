"""The compiled power against its plain form: all derivatives, precisions, layouts and weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from etp import powers
from etp.irreps import Layout
from etp.kernels import power as kernel
from etp.kernels import power_table
from etp.kernels.on_cpu import build
from etp.kernels.operators import serves
from etp.powers import Power, _degreewise
from etp.powers._degreewise import DegreewisePower
from etp.powers.clebsch_gordan import ClebschGordan
from etp.powers.table import TablePower

pytestmark = pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
needs_kernel = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))


KERNELS = ("cg", "gaunt-grid", "matrix")


def made(channels: int, layout: Layout = "mul_ir", name: str = "cg", also: str = "") -> Power:
    """To irreps that some degree does not reach; ``also`` are irreps that go in."""
    irreps = f"{channels}x0e+{channels}x1o+{channels}x2e" + f"+{channels}x{also}" * bool(also)
    out = f"{channels}x1o+{channels}x0e"
    return powers.get(name)(irreps, order=3, irreps_out=out, layout=layout)


def draw(
    power: Power, kind: str, nodes: int = 13, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor | None]:
    shape = {"elements": (4,), "shared": (), "per-node": (nodes,)}[kind]
    a = torch.randn(nodes, power.irreps_in.dim, dtype=dtype, requires_grad=True)
    w = torch.randn(*shape, power.weight_numel, dtype=dtype, requires_grad=True)
    return a, w, torch.randint(0, 4, (nodes,)) if kind == "elements" else None


def plain(power: Power, a: Tensor, w: Tensor, elements: Tensor | None) -> Tensor:
    if isinstance(power, DegreewisePower):
        return power.plain(a, w, elements)
    assert isinstance(power, TablePower)
    return power_table.plain(power.polynomials, a, w, elements, power.index("lie"))


def rel(a: Tensor, b: Tensor) -> float:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def orders(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], tensors: Sequence[Tensor]
) -> float:
    """Largest relative difference of values and derivatives up to the third order."""
    ins = list(tensors)
    results: list[Sequence[Tensor]] = [[f(*tensors)] for f in (ours, theirs)]
    worst = [rel(*pair) for pair in zip(*results, strict=True)]
    for _ in range(3):
        along = [torch.randn_like(z).requires_grad_() for z in results[0]]
        results = [torch.autograd.grad(z, ins, along, create_graph=True) for z in results]
        ins = [*ins, *along]
        worst += [rel(*pair) for pair in zip(*results, strict=True)]
    return max(worst)


@needs_kernel
@pytest.mark.parametrize("channels", [1, 5, 16, 21])
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("kind", ["elements", "shared", "per-node"])
@pytest.mark.parametrize(("dtype", "gate"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_derivatives_are_those_of_the_plain_form(channels, layout, kind, dtype, gate):
    compare(made(channels, layout), kind, dtype, gate)


@needs_kernel
@pytest.mark.parametrize("name", ["gaunt-grid", "matrix"])
@pytest.mark.parametrize("also", ["", "1e"], ids=["natural", "both"])
@pytest.mark.parametrize(("channels", "layout"), [(5, "ir_mul"), (18, "mul_ir")])
@pytest.mark.parametrize("kind", ["elements", "shared", "per-node"])
@pytest.mark.parametrize(("dtype", "gate"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_so_are_those_of_steps(name, also, channels, layout, kind, dtype, gate):
    compare(made(channels, layout, name, also), kind, dtype, gate)


def compare(power: Power, kind: str, dtype: torch.dtype, gate: float) -> None:
    torch.manual_seed(0)
    a, w, elements = draw(power, kind, dtype=dtype)
    assert serves(a, w)
    worst = orders(
        lambda a, w: power(a, w, elements), lambda a, w: plain(power, a, w, elements), [a, w]
    )
    assert worst < gate


@needs_kernel
@pytest.mark.parametrize("order", [1, 2, 4, 5])
def test_products_of_any_number_of_factors(order):
    torch.manual_seed(0)
    power = ClebschGordan("3x0e+3x1o", order=order, irreps_out="3x1o+3x0e")
    a, w, elements = draw(power, "elements")
    worst = orders(
        lambda a, w: power(a, w, elements), lambda a, w: plain(power, a, w, elements), [a, w]
    )
    assert worst < 1e-12


@needs_kernel
@pytest.mark.parametrize("kind", ["elements", "shared", "per-node"])
def test_derivatives_are_those_of_finite_differences(kind):
    torch.manual_seed(0)
    power = ClebschGordan("2x0e+2x1o", order=3, irreps_out="2x0e+2x1o")
    a, w, elements = draw(power, kind, nodes=5)

    def call(a: Tensor, w: Tensor) -> Tensor:
        return power(a, w, elements)

    assert torch.autograd.gradcheck(call, (a, w))
    assert torch.autograd.gradgradcheck(call, (a, w))
    for fixed in (0, 1):
        tensors = [t.detach() if n == fixed else t for n, t in enumerate((a, w))]
        assert torch.autograd.gradgradcheck(call, tensors)


@needs_kernel
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("kind", ["elements", "shared", "per-node"])
def test_forces_ask_nothing_of_gradients_by_weights(name, kind):
    """Then there is no change of the weights: the same numbers, also by further derivatives."""
    torch.manual_seed(0)
    power = made(5, name=name)
    a, w, elements = draw(power, kind)
    results = []
    for call in (power, lambda *given: plain(power, *given)):
        torch.manual_seed(1)
        z = call(a, w, elements)
        (force,) = torch.autograd.grad(z, a, torch.randn_like(z), create_graph=True)
        along = torch.randn_like(force)
        by_x = torch.autograd.grad(force, [a], along, create_graph=True)
        both = torch.autograd.grad(force, [a, w], along, create_graph=True)
        third = torch.autograd.grad([t.square().sum() for t in both], [a, w], create_graph=True)
        results.append([*by_x, *both, *third])
    assert all(rel(*pair) < 1e-12 for pair in zip(*results, strict=True))


@needs_kernel
@pytest.mark.parametrize("name", KERNELS)
def test_many_nodes_of_one_element_and_elements_without_nodes(name):
    """More than a chunk of nodes: gradients of the weights are added up from several."""
    torch.manual_seed(0)
    power = made(3, name=name)
    a, w, _ = draw(power, "elements", nodes=1111)
    elements = torch.where(torch.rand(1111) < 0.9, 2, 0)
    worst = orders(
        lambda a, w: power(a, w, elements), lambda a, w: plain(power, a, w, elements), [a, w]
    )
    assert worst < 1e-12
    (gw,) = torch.autograd.grad(power(a, w, elements).sum(), w)
    assert (gw[[1, 3]] == 0).all()
    assert gw[2].abs().max() > 0


@needs_kernel
@pytest.mark.parametrize("name", KERNELS)
def test_results_are_bitwise_the_same_for_all_threads(name):
    torch.manual_seed(0)
    power = made(40, name=name)
    a, w, elements = draw(power, "elements", nodes=1500, dtype=torch.float32)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            z = power(a, w, elements)
            results.append([z, *torch.autograd.grad(z.square().sum(), [a, w])])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


@needs_kernel
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("kind", ["elements", "shared", "per-node"])
def test_no_nodes_and_views(name, kind):
    power = made(4, name=name)
    a, w, elements = draw(power, kind, nodes=0)
    z = power(a, w, elements)
    ga, gw = torch.autograd.grad(z.sum(), [a, w])
    assert z.shape == (0, power.irreps_out.dim)
    assert ga.shape == a.shape
    assert gw.shape == w.shape
    assert (gw == 0).all()
    a, w, elements = draw(power, kind, nodes=8)
    b = torch.stack([a, a], dim=2)[:, :, 0]
    assert not b.is_contiguous()
    torch.testing.assert_close(power(b, w, elements), power(a, w, elements), atol=0, rtol=0)


@needs_kernel
@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_of_whole_channels(lmax, dtype):
    """All irreps of a channel together: the same numbers, and the same gradients."""
    torch.manual_seed(0)
    channels, sizes = 21, [2 * l + 1 for l in range(lmax + 1)]
    irreps = "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    power = ClebschGordan(irreps, order=2, irreps_out=irreps)
    a, w, elements = draw(power, "elements", dtype=dtype)
    parts = a.split([channels * size for size in sizes], dim=1)
    whole = torch.cat([part.unflatten(1, (channels, -1)) for part in parts], dim=2)
    z = power(a, w, elements)
    gate = 1e-12 if dtype == torch.float64 else 1e-5
    assert rel(power(whole, w, elements), plain(power, a, w, elements)) < gate
    assert rel(z, plain(power, a, w, elements)) < gate
    ours, theirs = (
        torch.autograd.grad(power(t, w, elements).square().sum(), a)[0] for t in (whole, a)
    )
    assert rel(ours, theirs) < gate


@needs_kernel
@pytest.mark.parametrize("name", [*KERNELS, "closed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_repeats_one_number_is_read_as_what_it_is(name, dtype):
    """That of a sum, whose strides are zero; more numbers than one thread writes."""
    torch.manual_seed(0)
    closed = ClebschGordan("40x0e+40x1o", order=3, irreps_out="40x1o+40x0e")
    power = closed if name == "closed" else made(40, name=name)
    a, w, elements = draw(power, "elements", nodes=500, dtype=dtype)
    z = power(a, w, elements)
    assert z.numel() > 1 << 16
    number = torch.full((), 0.7, dtype=dtype)
    for given in (number.expand(z.shape), torch.rand(160, dtype=dtype).expand(z.shape)):
        asked = []
        for g in (given, given.contiguous()):
            first = torch.autograd.grad(z, [a, w], g, create_graph=True)
            second = torch.autograd.grad(first, [a, w], first, retain_graph=True)
            asked.append([*first, *second])
        assert all(torch.equal(*pair) for pair in zip(*asked, strict=True))


@needs_kernel
def test_wrong_elements_are_named():
    power = made(4)
    a, w, elements = draw(power, "elements")
    assert elements is not None
    for wrong in (elements + 4, elements - 4):
        with pytest.raises(ValueError, match="elements must be from 0 to 3, got"):
            power(a, w, wrong)


@needs_kernel
def test_programs_of_another_version_are_refused():
    power = made(4)
    assert isinstance(power, TablePower)
    a, w, _ = draw(power, "shared")
    table = power.polynomials
    short = torch.cat([table.index("code")[:8], table.index("code")[9:]])  # as it was once
    tables = w.new_empty(0, 0), short, power.index("lie"), table.table("numbers", a.dtype)
    with pytest.raises(RuntimeError, match="not of this version of the library; make the graph"):
        torch.ops.etp.power_forward(a, w, *tables, power.irreps_out.dim)


@needs_kernel
@pytest.mark.parametrize("name", KERNELS)
def test_half_precision_is_computed_in_float32(name):
    power = made(4, name=name)
    wide_a, wide_w, elements = draw(power, "elements", dtype=torch.float32)
    a, w = wide_a.detach().bfloat16(), wide_w.detach().bfloat16()
    z = power(a, w, elements)
    assert z.dtype == torch.bfloat16
    assert rel(z.float(), power(a.float(), w.float(), elements)) < 1e-2
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(power(a.float(), w, elements), power(a.float(), w.float(), elements))


@pytest.mark.parametrize("built", [True, False], ids=["kernel", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_rows_with_one_one_and_no_others(built, dtype, monkeypatch):
    if built and build.missing() is not None:
        pytest.skip(str(build.missing()))
    if not built:
        monkeypatch.setattr(kernel, "serves", lambda *tensors: False)
    where = torch.randint(0, 7, (30,))
    rows = torch.nn.functional.one_hot(where, 7).to(dtype)
    for given in (rows, rows.T.contiguous().T):
        found = kernel.one_hot_places(given)
        assert found is not None
        assert torch.equal(found.long(), where)
    second, negative, missing = rows.clone(), rows.clone(), rows.clone()
    second[3, (where[3] + 1) % 7] = 1
    negative[4, (where[4] + 2) % 7] = -1
    missing[29] = 0
    for wrong in (second, negative, missing, 2 * rows, rows / 0, rows[:0], rows[:, :0]):
        assert kernel.one_hot_places(wrong) is None


@pytest.mark.parametrize("name", KERNELS)
def test_powers_survive_casts_copies_and_pickles(name):
    power = made(4, name=name)
    a, w, elements = draw(power, "elements")
    z = power(a, w, elements)
    for other in (
        copy.deepcopy(power).to(torch.float32),
        copy.deepcopy(power).half(),
        pickle.loads(pickle.dumps(power)),
    ):
        torch.testing.assert_close(other(a, w, elements), z, atol=0, rtol=0)
    assert power.state_dict() == {}


@pytest.mark.parametrize("name", KERNELS)
def test_transforms_of_functions_take_the_plain_form(name):
    torch.manual_seed(0)
    power = made(2, name=name)
    a, w, elements = draw(power, "elements", nodes=5)
    a, w = a.detach(), w.detach()
    t = torch.randn_like(a)
    change = torch.func.jvp(lambda a: power(a, w, elements), (a,), (t,))[1]
    near = [power(a + s * 1e-5 * t, w, elements) for s in (1, -1)]
    torch.testing.assert_close(change, (near[0] - near[1]) / 2e-5, atol=1e-6, rtol=1e-6)
    assert elements is not None
    rows = torch.vmap(lambda a, w: power(a[None], w)[0])(a, w[elements])
    torch.testing.assert_close(rows, power(a, w, elements), atol=1e-12, rtol=1e-12)
    hessian = torch.func.hessian(lambda a: power(a, w, elements).sum())(a)
    (ga,) = torch.autograd.grad(power(b := a.requires_grad_(), w, elements).sum(), b,
                                create_graph=True)  # fmt: skip
    (along,) = torch.autograd.grad((ga * t).sum(), b)
    torch.testing.assert_close(torch.einsum("nimj,mj->ni", hessian, t), along)


class _Layer(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.power = made(4, name=name)

    def forward(self, a: Tensor, w: Tensor, elements: Tensor) -> Tensor:
        return self.power(a, w, elements)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("built", [True, False], ids=["kernel", "plain"])
def test_compiled_and_exported_whole_with_any_number_of_nodes(name, built, monkeypatch):
    if built and build.missing() is not None:
        pytest.skip(str(build.missing()))
    if not built:
        for place in (kernel, _degreewise):
            monkeypatch.setattr(place, "serves", lambda *tensors, codable: False)
    layer = _Layer(name)
    count = torch.export.Dim("nodes", min=2)
    moving = {"a": {0: count}, "w": None, "elements": {0: count}}

    def inputs(nodes: int) -> tuple[Tensor, Tensor, Tensor]:
        a, w, elements = draw(layer.power, "elements", nodes, torch.float32)
        assert elements is not None
        return a.detach(), w.detach(), elements

    program = torch.export.export(layer, inputs(20), dynamic_shapes=moving)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    assert not any("etp." in str(node.target) for node in program.graph.nodes)
    for nodes in (20, 33):
        given = inputs(nodes)
        expected = plain(layer.power, *given)
        torch.testing.assert_close(program.module()(*given), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(compiled(*given), expected, atol=1e-4, rtol=1e-4)


@needs_kernel
@pytest.mark.parametrize("name", KERNELS)
def test_graphs_of_forces_keep_the_operators(name):
    from torch.fx.experimental.proxy_tensor import make_fx

    torch.manual_seed(0)
    power = made(4, name=name)
    elements = torch.randint(0, 4, (13,))

    def forces(a: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        z = power(a, w, elements)
        (ga,) = torch.autograd.grad(z.square().sum(), a, create_graph=True)
        return torch.autograd.grad(ga.square().sum(), [a, w])

    a, w, _ = draw(power, "elements")
    graph = make_fx(forces)(a, w)
    names = {str(node.target) for node in graph.graph.nodes}
    assert {"etp.power_backward.default", "etp.power_second.default"} <= names
    a, w, _ = draw(power, "elements")
    for ours, theirs in zip(graph(a, w), forces(a, w), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)

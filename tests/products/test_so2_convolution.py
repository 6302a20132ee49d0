"""SO(2) convolutions that mix channels: against maps written out, Clebsch-Gordan and all laws."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import etp
from etp.e3 import o3
from etp.maths import so3, sphere
from etp.measure import oracle
from etp.products import _so2_nodes, so2_convolution

NODES, EDGES = 5, 9


class Case(NamedTuple):
    irreps_in: str
    irreps_out: str
    options: dict[str, Any]


CASES = {
    "all orders": Case("3x0e+2x1o+2x2e", "2x0e+1x1o+3x2e+1x3o", {}),
    "orders up to 1": Case("3x0e+2x1o+2x2e", "2x0e+1x1o+3x2e", {"mmax": 1}),
    "order 0": Case("2x1o+3x2e", "3x0e+2x1o", {"mmax": 0}),
    "both parities": Case("2x1e+3x0e+2x0o+1x2o+2x2e", "2x0e+1x0o+2x1o+1x1e+2x3e", {"mmax": 1}),
    "no parity": Case("3x0e+2x1o+2x2e", "2x0e+1x1e+3x2e", {"parity": False}),
    "both ends": Case("3x0e+2x1o", "2x0e+1x1o+1x1e", {"both_ends": True}),
    "repeated blocks": Case("1x1o+2x0e+2x1o", "1x1o+1x2e+2x1o", {}),
    "no parity, both ends": Case(
        "2x0e+1x2e", "1x1o+2x2e", {"parity": False, "both_ends": True, "mmax": 1}
    ),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(params=["at edges", "at nodes"])
def both_ways(request, monkeypatch) -> None:
    """Channels are mixed at the edges, then at the nodes, whichever is less work."""
    at_nodes = request.param == "at nodes"
    monkeypatch.setattr(etp.SO2Convolution, "_fewer", lambda *given: at_nodes)


def build(case: Case, **more: Any) -> etp.SO2Convolution:
    return etp.SO2Convolution(case.irreps_in, case.irreps_out, **(case.options | more)).double()


class Drawn(NamedTuple):
    """Inputs, as the convolution takes them."""

    x: Tensor
    directions: Tensor
    weights: Tensor
    senders: Tensor
    receivers: Tensor
    num_nodes: int
    scale: Tensor


def draw(convolution: etp.SO2Convolution, seed: int = 0) -> Drawn:
    """Random inputs; the first edges look along the poles, and close to them."""
    torch.manual_seed(seed)
    directions = torch.randn(EDGES, 3, dtype=torch.float64)
    directions[:3] = torch.tensor([[0.0, 1.0, 0.0], [0.0, -2.0, 0.0], [1e-9, 1.0, -1e-8]])
    senders, receivers = torch.randint(NODES, (2, EDGES))
    return Drawn(
        torch.randn(NODES, convolution.irreps_in.dim, dtype=torch.float64),
        directions,
        torch.randn(convolution.weight_numel, dtype=torch.float64),
        senders,
        receivers,
        NODES,
        torch.randn(EDGES, convolution.scale_numel, dtype=torch.float64),
    )


def wigner(irreps: o3.Irreps, rotation: Tensor, inverted: bool = False) -> Tensor:
    """What a rotation does to features, and an inversion after it."""
    degrees = so3.wigner_d(irreps.lmax, rotation[None])
    signs = [ir.p if inverted else 1 for _, ir in irreps]
    return torch.block_diag(
        *(
            degrees[ir.l][0] * sign
            for (mul, ir), sign in zip(irreps, signs, strict=True)
            for _ in range(mul)
        )
    )


def looking_along(direction: Tensor) -> Tensor:
    """A rotation that turns the polar axis y to a direction, and by any angle about it."""
    y = direction / direction.norm()
    x = torch.linalg.cross(torch.randn(3, dtype=torch.float64), y)
    x = x / x.norm()
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)


def pair_maps(
    convolution: etp.SO2Convolution, weights: Tensor
) -> Iterator[tuple[int, int, int, Tensor, Tensor]]:
    """Order, block read, block written, real and imaginary (mul_in, mul_out) of each pair."""
    for part in convolution.maps:
        own = weights[part.weights].reshape(part.shape)
        real, imaginary = own if part.order and not convolution.parity else (own, None)
        row = 0
        for read in part.reads:
            rows = slice(row, row := row + convolution.irreps_read[read].mul)
            column = 0
            for written in part.writes:
                columns = slice(column, column := column + convolution.irreps_out[written].mul)
                a = real[rows, columns]
                yield (
                    part.order, read, written, a,
                    torch.zeros_like(a) if imaginary is None else imaginary[rows, columns],
                )  # fmt: skip


def written_out(convolution: etp.SO2Convolution, given: Drawn) -> Tensor:
    """Edge by edge, pair of blocks by pair of blocks, number by number."""
    reads, outs = convolution.irreps_read, convolution.irreps_out
    factors = {
        (part.order, block): (part.scale, sum(reads[n].mul for n in part.reads if n < block))
        for part in convolution.maps
        for block in part.reads
    }
    z = torch.zeros(NODES, outs.dim, dtype=torch.float64)
    for e, (sender, receiver) in enumerate(zip(given.senders, given.receivers, strict=True)):
        x = given.x[sender]
        if convolution.both_ends:
            x = torch.cat([x, given.x[receiver]])
        turn = looking_along(given.directions[e])
        inside = wigner(reads, turn).T @ x
        along = torch.zeros(outs.dim, dtype=torch.float64)
        for m, read, written, real, imaginary in pair_maps(convolution, given.weights):
            (mul1, ir1), (mul3, ir3) = reads[read], outs[written]
            part, start = factors[m, read]
            scale = given.scale[e, part][start : start + mul1]
            own = inside[reads.slices()[read]].reshape(mul1, ir1.dim) * scale[:, None]
            u = torch.complex(own[:, ir1.l + m], own[:, ir1.l - m] if m else 0 * own[:, ir1.l])
            v = torch.complex(real, imaginary).T @ u
            if convolution.parity and m:
                # The pair of a pseudo irrep, as a complex number, is taken times i.
                v = v * 1j ** (_pseudo(ir1) - _pseudo(ir3))
            into = along[outs.slices()[written]].view(mul3, ir3.dim)
            into[:, ir3.l + m] += v.real
            if m:
                into[:, ir3.l - m] += v.imag
        z[receiver] += wigner(outs, turn) @ along
    return z


def _pseudo(ir: o3.Irrep) -> int:
    return int(ir.p != (-1) ** ir.l)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    size = max(1.0, float(b.detach().abs().max()))
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * size)


@pytest.mark.usefixtures("both_ways")
def test_it_is_what_is_written_out(case):
    convolution = build(case)
    given = draw(convolution)
    close(convolution(*given), written_out(convolution, given))
    plain = given._replace(scale=torch.ones_like(given.scale))
    close(convolution(*given[:-1]), written_out(convolution, plain))


def test_it_turns_with_its_inputs_and_is_mirrored_with_them_where_parity_is_kept(case):
    convolution = build(case)
    given = draw(convolution)
    z = convolution(*given)
    (rotation,) = so3.random_rotations(1, torch.Generator().manual_seed(1))
    for inverted in (False, True):
        first, last = (
            wigner(irreps, rotation, inverted)
            for irreps in (convolution.irreps_in, convolution.irreps_out)
        )
        sign = -1 if inverted else 1
        turned = given._replace(
            x=given.x @ first.T, directions=sign * given.directions @ rotation.T
        )
        error = (convolution(*turned) - z @ last.T).abs().max() / z.abs().max()
        assert (error < 1e-12) == (convolution.parity or not inverted)


def uvw_paths(convolution: etp.SO2Convolution) -> list[tuple[int, int, int]]:
    """Block read, degree of the harmonics, block written, of all that Clebsch-Gordan joins."""
    return [
        (a, l, b)
        for a, (_, ir1) in enumerate(convolution.irreps_read)
        for b, (_, ir3) in enumerate(convolution.irreps_out)
        for l in range(abs(ir1.l - ir3.l), ir1.l + ir3.l + 1)
        if not convolution.parity or ir1.p * (-1) ** l == ir3.p
    ]


def clebsch_gordan_columns(convolution: etp.SO2Convolution, x: Tensor, d: Tensor) -> Tensor:
    """Messages of the fully connected product with Y_l(d), a column for each of its weights."""
    reads, outs = convolution.irreps_read, convolution.irreps_out
    features = oracle.blocks_of(x, reads)
    y = sphere.spherical_harmonics(reads.lmax + outs.lmax, d / d.norm(dim=1, keepdim=True))
    columns = []
    for a, l, b in uvw_paths(convolution):
        w3j = oracle.wigner_3j(reads[a].ir.l, l, outs[b].ir.l)
        product = torch.einsum("nui,nj,ijk->nuk", features[a], y[:, l * l : (l + 1) ** 2], w3j)
        for u in range(reads[a].mul):
            for w in range(outs[b].mul):
                z = [x.new_zeros(len(x), mul, ir.dim) for mul, ir in outs]
                z[b][:, w] = product[:, u]
                columns.append(oracle.joined(z).flatten())
    return torch.stack(columns, dim=1)


def columns(convolution: etp.SO2Convolution, x: Tensor, d: Tensor) -> Tensor:
    """Messages for each weight alone."""
    units = torch.eye(convolution.weight_numel, dtype=torch.float64)
    return torch.stack([convolution.messages(x, d, w).flatten() for w in units], dim=1)


def test_its_weights_are_independent_maps_and_all_of_clebsch_gordan_with_all_orders(case):
    convolution = build(case)
    torch.manual_seed(2)
    count = 3 * convolution.weight_numel // convolution.irreps_out.dim + 20
    x = torch.randn(count, convolution.irreps_read.dim, dtype=torch.float64)
    d = torch.randn(count, 3, dtype=torch.float64)
    own, every = columns(convolution, x, d), clebsch_gordan_columns(convolution, x, d)
    assert int(torch.linalg.matrix_rank(own)) == convolution.weight_numel
    assert int(torch.linalg.matrix_rank(every)) == every.shape[1]
    fitted = torch.linalg.lstsq(every, own).solution
    close(every @ fitted, own)
    whole = build(case, mmax=None)
    assert whole.weight_numel == every.shape[1]
    assert (convolution.weight_numel == whole.weight_numel) == (convolution.mmax == whole.mmax)


def test_weights_are_as_many_as_the_docstring_says(case):
    convolution = build(case)
    count = 0
    for mul1, ir1 in convolution.irreps_read:
        for mul3, ir3 in convolution.irreps_out:
            n = min(ir1.l, ir3.l, convolution.mmax)
            same = _pseudo(ir1) == _pseudo(ir3)
            each = (2 * n + 1) if not convolution.parity else n + 1 if same else n
            count += mul1 * mul3 * each
    assert convolution.weight_numel == count


def test_fewer_orders_are_all_of_them_with_the_others_at_zero():
    case = CASES["both parities"]
    few, whole = build(case), build(case, mmax=None)
    assert few.mmax < whole.mmax
    given = draw(few)
    weights = torch.zeros(whole.weight_numel, dtype=torch.float64)
    weights[: few.weight_numel] = given.weights
    scale = torch.ones(EDGES, whole.scale_numel, dtype=torch.float64)
    scale[:, : few.scale_numel] = given.scale
    close(few(*given), whole(*given._replace(weights=weights, scale=scale)))


def differentiated(convolution: etp.SO2Convolution, given: Drawn) -> tuple[Tensor, ...]:
    """Output, gradients, and gradients of a function of the gradients."""
    wanted = [t.clone().requires_grad_() for t in floating(given)]
    z = convolution(*with_floating(given, *wanted))
    first = torch.autograd.grad(z.sin().sum(), wanted, create_graph=True)
    second = torch.autograd.grad(torch.cat([g.flatten() for g in first]).sin().sum(), wanted)
    return z, *first, *second


def floating(given: Drawn) -> tuple[Tensor, ...]:
    return given.x, given.directions, given.weights, given.scale


def with_floating(
    given: Drawn, x: Tensor, directions: Tensor, weights: Tensor, scale: Tensor
) -> Drawn:
    return given._replace(x=x, directions=directions, weights=weights, scale=scale)


@pytest.mark.usefixtures("both_ways")
def test_first_and_second_derivatives_are_those_of_differences(case):
    convolution = build(case)
    given = draw(convolution)
    wanted = tuple(t.requires_grad_() for t in floating(given))

    def call(*changed: Tensor) -> Tensor:
        return convolution(*with_floating(given, *changed))

    assert torch.autograd.gradcheck(call, wanted, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, wanted, fast_mode=True)

    def without_factors(x: Tensor, directions: Tensor, weights: Tensor) -> Tensor:
        return convolution(*with_floating(given, x, directions, weights, given.scale)[:-1])

    assert torch.autograd.gradcheck(without_factors, wanted[:-1], fast_mode=True)
    assert torch.autograd.gradgradcheck(without_factors, wanted[:-1], fast_mode=True)


def test_chunks_change_nothing(case, monkeypatch):
    convolution = build(case)
    given = draw(convolution)
    whole = differentiated(convolution, given)
    monkeypatch.setattr(so2_convolution, "CHUNK_BYTES", 1)
    monkeypatch.setattr(so2_convolution, "NODE_BYTES", 0)
    for one, other in zip(differentiated(convolution, given), whole, strict=True):
        close(one, other)


@pytest.mark.usefixtures("both_ways")
def test_layouts_hold_the_same_numbers(case):
    plain, turned = build(case), build(case, layout="ir_mul")
    given = draw(plain)
    there = oracle.joined(oracle.blocks_of(given.x, plain.irreps_in), "ir_mul")
    z = oracle.blocks_of(turned(*given._replace(x=there)), plain.irreps_out, "ir_mul")
    close(oracle.joined(z), plain(*given))


@pytest.mark.usefixtures("both_ways")
def test_messages_are_what_is_added_up(case):
    convolution = build(case)
    given = draw(convolution)
    ends = [given.senders, given.receivers][: 1 + convolution.both_ends]
    read = torch.cat([given.x[end] for end in ends], dim=1)
    messages = convolution.messages(read, given.directions, given.weights, given.scale)
    z = torch.zeros(NODES, convolution.irreps_out.dim, dtype=torch.float64)
    close(convolution(*given), z.index_add(0, given.receivers, messages))


def test_transforms_meet_the_same_numbers(case):
    convolution = build(case)
    given = draw(convolution)

    def total(*changed: Tensor) -> Tensor:
        return convolution(*with_floating(given, *changed)).sin().sum()

    wanted = tuple(t.clone().requires_grad_() for t in floating(given))
    expected = torch.autograd.grad(total(*wanted), wanted)
    found = torch.func.grad(total, argnums=(0, 1, 2, 3))(*floating(given))
    for one, other in zip(found, expected, strict=True):
        close(one, other)


@pytest.mark.usefixtures("both_ways")
def test_an_edge_without_a_direction_adds_nothing():
    convolution = build(CASES["both parities"])
    given = draw(convolution)
    directions = given.directions.clone()
    directions[4] = 0.0
    rest = torch.arange(EDGES) != 4
    others = given._replace(
        directions=directions[rest], senders=given.senders[rest],
        receivers=given.receivers[rest], scale=given.scale[rest],
    )  # fmt: skip
    close(convolution(*given._replace(directions=directions)), convolution(*others))
    for gradient in differentiated(convolution, given._replace(directions=directions)):
        assert gradient.isfinite().all()


@pytest.mark.usefixtures("both_ways")
def test_lengths_of_directions_and_the_order_of_edges_do_not_matter(case):
    convolution = build(case)
    given = draw(convolution)
    order = torch.randperm(EDGES)
    other = given._replace(
        directions=(given.directions * torch.rand(EDGES, 1).double())[order],
        senders=given.senders[order], receivers=given.receivers[order], scale=given.scale[order],
    )  # fmt: skip
    close(convolution(*other), convolution(*given))


def test_without_edges_there_is_nothing_and_it_has_gradients(case):
    convolution = build(case)
    given = draw(convolution)
    none = given._replace(
        directions=given.directions[:0], senders=given.senders[:0],
        receivers=given.receivers[:0], scale=given.scale[:0],
    )  # fmt: skip
    z, *gradients = differentiated(convolution, none)
    assert z.shape == (NODES, convolution.irreps_out.dim)
    assert not any(t.any() for t in (z, *gradients))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_other_number_types(case, dtype, tolerance):
    convolution = build(case)
    drawn = draw(convolution)
    given = with_floating(drawn, *(t.to(dtype) for t in floating(drawn)))
    exact = convolution(*with_floating(given, *(t.double() for t in floating(given))))
    z = convolution(*given)
    assert z.dtype == dtype
    assert (z.double() - exact).norm() < tolerance * exact.norm()


def test_autocast_takes_no_digits():
    convolution = build(CASES["no parity"])
    given = draw(convolution)
    given = with_floating(given, *(t.float() for t in floating(given)))
    mixed = given._replace(x=given.x.bfloat16(), scale=given.scale.bfloat16())
    exact = convolution(*given._replace(x=mixed.x.float(), scale=mixed.scale.float()))
    with torch.autocast("cpu", torch.bfloat16):
        close(convolution(*mixed), exact, 1e-6)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_convolution_computes_the_same(monkeypatch):
    monkeypatch.setattr(etp.SO2Convolution, "_fewer", lambda *given: True)
    convolution = build(CASES["both parities"])
    given = draw(convolution)
    compiled = torch.compile(convolution, fullgraph=True, backend="aot_eager")
    for one, other in zip(
        differentiable(compiled, given), differentiable(convolution, given), strict=True
    ):
        close(one, other)


def differentiable(call: Any, given: Drawn) -> tuple[Tensor, ...]:
    """Output and gradients."""
    wanted = [t.clone().requires_grad_() for t in floating(given)]
    z = call(*with_floating(given, *wanted))
    return z, *torch.autograd.grad(z.sin().sum(), wanted)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mmax": -1}, "mmax must be at least 0, got -1"),
        ({"layout": "rows"}, "layout must be one of mul_ir, ir_mul, got 'rows'"),
        ({"irreps_out": "1x0e+2x0o"}, "irreps_out .* got 0o: leave them out, or give parity=False"),
        ({"irreps_out": "1e", "mmax": 0}, "orders up to 0, got 1e"),
        ({"irreps_in": "4y0e"}, "irreps_in"),
    ],
)
def test_what_cannot_be_is_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        etp.SO2Convolution(**({"irreps_in": "2x0e+1o", "irreps_out": "1o"} | arguments))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"x": torch.zeros(5, 3)}, r"x must have shape \(nodes, 19\), got \(5, 3\)"),
        ({"directions": torch.zeros(9, 2)}, r"directions must have shape \(9, 3\)"),
        ({"directions": torch.zeros(9, 3)}, "directions must have dtype torch.float64"),
        ({"weights": torch.zeros(3)}, r"weights must have shape \(58,\), got \(3,\)"),
        ({"scale": torch.zeros(9, 1)}, r"scale must have shape \(9, 11\)"),
        ({"receivers": torch.full((9,), 5)}, "receivers must be from 0 to 4, got 5"),
        ({"num_nodes": 1}, "receivers must be from 0 to 0"),
        ({"senders": None}, "senders must be a torch.Tensor, got NoneType"),
    ],
)
def test_what_does_not_fit_is_refused(changes, told):
    convolution = build(CASES["orders up to 1"])
    given = draw(convolution)
    with pytest.raises(ValueError, match=told):
        convolution(*given._replace(**changes))


@pytest.mark.parametrize(("edges", "at_nodes"), [(1000, True), (50, False)])
def test_matrices_run_where_they_run_less_often(edges, at_nodes, monkeypatch):
    convolution = etp.SO2Convolution("64x0e+64x1o+64x2e", "64x0e+64x1o+64x2e", mmax=1)
    ran = []

    def forward(self: torch.nn.Module, x: Tensor, *rest: Any) -> Tensor:
        ran.append(self)
        return torch.zeros_like(x)

    monkeypatch.setattr(_so2_nodes.AtNodes, "forward", forward)
    x, directions = torch.randn(50, 576), torch.randn(edges, 3)
    weights = torch.randn(convolution.weight_numel)
    convolution(x, directions, weights, *torch.randint(50, (2, edges)), 50)
    assert bool(ran) == at_nodes


def test_it_is_copied_and_saved_with_a_model():
    convolution = build(CASES["both ends"])
    given = draw(convolution)
    assert not convolution.state_dict()
    for twin in (copy.deepcopy(convolution), pickle.loads(pickle.dumps(convolution))):
        torch.testing.assert_close(twin(*given), convolution(*given), rtol=0, atol=0)


def test_cost_counts_the_maps():
    convolution = etp.SO2Convolution("128x0e+128x1o+128x2e", "128x0e+128x1o+128x2e", mmax=2)
    maps = 128**2 * (9 + 2 * 4 + 2 * 1)
    assert sum(part.macs for part in convolution.maps) == maps
    assert 1.0 < convolution.cost(1000, 1000, 4).macs / (1000 * maps) < 1.1
    # With neighbours to add up first, the matrices run at the nodes.
    assert convolution.cost(50, 1000, 4).macs < 0.25 * 1000 * maps
    ignoring = etp.SO2Convolution("128x0e+128x1o+128x2e", "128x0e+128x1o+128x2e", parity=False)
    assert sum(part.macs for part in ignoring.maps) == 128**2 * (9 + 4 * 4 + 4 * 1)

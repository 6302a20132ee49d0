import pytest
import torch

from etp import measure, products
from etp.measure import oracle
from etp.measure.drawing import random_inputs
from etp.measure.graph import OnGraph
from etp.presets import Layer
from etp.results.rows import Row
from etp.run.case import Case, build, run

SMALL = Layer("small", "3x0e+2x1o", "0e+1o+2e", "0e+1o+1e+2e")


def on_graph(name="cg-sparse", neighbours=3):
    tp = products.get(name)(SMALL.nodes, SMALL.edges, filter_ir_out=SMALL.outputs)
    return OnGraph(tp, neighbours)


def test_nodes_and_edges_are_as_many_as_asked():
    tp = on_graph()
    x, y = random_inputs(tp, 31, torch.Generator().manual_seed(0))
    assert x.shape == (10, tp.irreps_in1.dim)
    assert y.shape == (31, tp.irreps_in2.dim)
    senders, receivers = tp.graph(31)
    assert len(senders) == len(receivers) == 31
    assert int(senders.min()) >= 0
    assert int(senders.max()) < 10
    assert torch.equal(receivers, receivers.sort().values)


@pytest.mark.parametrize("name", ["cg-sparse", "gaunt-grid", "e3nn"])
@pytest.mark.parametrize("weights", ["none", "shared", "per-sample"])
def test_a_convolution_agrees_with_the_oracle_and_is_equivariant(name, weights):
    tp = on_graph(name)
    assert measure.agreement(tp, weights=weights, batch=30).max < 1e-12
    assert measure.equivariance_error(tp, dtype=torch.float64).max < 1e-12


def test_a_wrong_convolution_is_found():
    tp = on_graph()
    right = tp.convolution.forward

    def without_the_last_edge(x, y, weights, senders, receivers, nodes):
        return right(x, y[:-1], weights, senders[:-1], receivers[:-1], nodes)

    tp.convolution.forward = without_the_last_edge
    assert not measure.agreement(tp, batch=30).passed


def test_the_oracle_adds_messages_up_at_receivers():
    tp = on_graph()
    x, y = random_inputs(tp, 12, torch.Generator().manual_seed(1))
    senders, receivers = tp.graph(12)
    expected = torch.zeros(len(x), tp.irreps_out.dim, dtype=torch.float64)
    for e in range(12):
        message = oracle.evaluate(tp.per_edge, x[senders[e]][None], y[e][None])
        expected[receivers[e]] += message[0]
    torch.testing.assert_close(oracle.evaluate(tp, x, y), expected, rtol=1e-12, atol=1e-12)


def test_bytes_count_nodes_once():
    tp = on_graph(neighbours=4)
    cost = tp.cost(40, 4, "per-sample")
    edge, out = tp.per_edge, tp.irreps_out.dim
    numbers = 10 * (tp.irreps_in1.dim + out) + 40 * (tp.irreps_in2.dim + edge.weight_numel)
    assert cost.bytes == 4 * numbers + 16 * 40
    assert cost.macs > edge.cost(40, 4, "per-sample").macs


@pytest.mark.parametrize("kind", ["edge", "convolution"])
def test_a_case_times_layers(kind):
    problem = SMALL.problem(kind, batch=40, dtype="float64", direction="backward")
    case = Case(problem, ("cg-sparse", "matrix", "e3nn"), rounds=2, budget_s=0.1)
    rows = [item for item in run(case.as_dict()) if isinstance(item, Row)]
    timed = {row.product for row in rows if row.measure == "runtime" and row.status == "ok"}
    assert timed == {"cg-sparse", "matrix", "e3nn"}
    worst = {row.measure: row.measured["max"] for row in rows if row.measure == "agreement"}
    assert worst["agreement"] < 1e-12
    ranks = {row.product: row.measured for row in rows if row.measure == "expressivity"}
    assert ranks["cg-sparse"] == ranks["e3nn"]


def test_channels_widen_the_nodes_only():
    tp = build(SMALL.problem("edge", channels=2), "cg-sparse")
    assert str(tp.irreps_in1) == "6x0e+4x1o"
    assert str(tp.irreps_in2) == "1x0e+1x1o+1x2e"

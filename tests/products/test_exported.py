"""Graphs that leave the numbers of nodes and edges open, exported as a user would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import etp
from etp import powers, products

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
IRREPS = "3x0e+2x1o", "0e+1o", "0e+1o"


def sized(names: str) -> dict[str, torch.export.Dim]:
    return {name: torch.export.Dim(name, min=2, max=10_000) for name in names}


class Layer(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        product = products.get(name)(*IRREPS[:2], filter_ir_out=IRREPS[2])
        self.convolution = etp.Convolution(product.double())

    def forward(self, x: Tensor, y: Tensor, w: Tensor, senders: Tensor, receivers: Tensor):
        return self.convolution(x, y, w, senders, receivers, x.shape[0])

    def draw(self, nodes: int, edges: int) -> tuple[Tensor, ...]:
        tp = self.convolution.product
        widths = (nodes, tp.irreps_in1.dim), (edges, tp.irreps_in2.dim), (edges, tp.weight_numel)
        x, y, w = (torch.randn(*shape, dtype=torch.float64) for shape in widths)
        senders, receivers = torch.randint(nodes, (2, edges)).unbind(0)
        return x, y, w, senders, receivers


@pytest.mark.parametrize("name", ["cg-sparse", "gaunt-grid", "e3nn"])
def test_a_convolution_takes_any_number_of_nodes_and_edges(name):
    layer, size = Layer(name), sized("ne")
    moving = ({0: size["n"]}, *[{0: size["e"]}] * 4)
    graph = torch.export.export(layer, layer.draw(5, 11), dynamic_shapes=moving).module()
    # As many edges as weights among them, which no shape may be mistaken for.
    for nodes, edges in ((4, layer.convolution.product.weight_numel), (9, 40)):
        given = layer.draw(nodes, edges)
        torch.testing.assert_close(graph(*given), layer(*given), rtol=1e-12, atol=1e-12)


def test_an_so2_convolution_takes_any_number_of_nodes_and_edges():
    layer, size = etp.SO2Convolution("3x0e+2x1o", "2x0e+2x1o+1x1e", both_ends=True), sized("ne")

    def draw(nodes: int, edges: int) -> tuple[Tensor, ...]:
        shapes = (nodes, layer.irreps_in.dim), (edges, 3), (layer.weight_numel,)
        x, directions, weights = (torch.randn(*shape, dtype=torch.float64) for shape in shapes)
        return x, directions, weights, *torch.randint(nodes, (2, edges)).unbind(0)

    class Whole(torch.nn.Module):
        def forward(self, x: Tensor, d: Tensor, w: Tensor, senders: Tensor, receivers: Tensor):
            return layer(x, d, w, senders, receivers, x.shape[0])

    edges = {0: size["e"]}
    graph = torch.export.export(
        Whole(), draw(5, 11), dynamic_shapes=({0: size["n"]}, edges, None, edges, edges)
    ).module()
    for given in (draw(4, layer.weight_numel), draw(9, 3)):
        torch.testing.assert_close(graph(*given), Whole()(*given), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["cg", "gaunt-grid", "matrix"])
def test_a_power_with_weights_of_each_node_takes_any_number_of_nodes(name):
    power, size = powers.get(name)("2x0e+2x1o", order=2, irreps_out="2x0e+2x1o"), sized("n")

    def draw(nodes: int) -> tuple[Tensor, ...]:
        shapes = (nodes, power.irreps_in.dim), (nodes, power.weight_numel)
        return tuple(torch.randn(*shape, dtype=torch.float64) for shape in shapes)

    moving = ({0: size["n"]},) * 2
    graph = torch.export.export(power, draw(5), dynamic_shapes=moving).module()
    for nodes in (power.weight_numel, 7):
        given = draw(nodes)
        torch.testing.assert_close(graph(*given), power(*given), rtol=1e-12, atol=1e-12)

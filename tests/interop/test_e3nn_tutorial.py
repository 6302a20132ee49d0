"""Networks as e3nn's tutorials build them, of its own layers, whose products are replaced."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from e3nn import math as e3nn_math
from e3nn import nn as e3nn_nn
from e3nn import o3
from torch import Tensor, nn

import etp

pytestmark = [
    pytest.mark.usefixtures("in_float64"),
    pytest.mark.filterwarnings("ignore"),
]
CUTOFF = 2.0


class Attention(nn.Module):
    """Queries meet keys that the neighbours send, weights of the products by distance."""

    def __init__(self, irreps_in: str, irreps_out: str) -> None:
        super().__init__()
        self.harmonics, self.key = o3.Irreps("0e+1o+2e"), o3.Irreps("5x0e+3x1o")
        self.query = o3.Linear(irreps_in, self.key)
        self.to_key = self.sent(irreps_in, self.key)
        self.to_value = self.sent(irreps_in, irreps_out)
        self.radial_key = self.radial(self.to_key)
        self.radial_value = self.radial(self.to_value)
        self.dot = o3.FullyConnectedTensorProduct(self.key, self.key, "0e")

    def sent(self, irreps_in: str, irreps_out: str | o3.Irreps) -> nn.Module:
        product: nn.Module = o3.FullyConnectedTensorProduct(
            irreps_in, self.harmonics, irreps_out, shared_weights=False
        )
        return product

    def radial(self, product: nn.Module) -> nn.Module:
        net: nn.Module = e3nn_nn.FullyConnectedNet([6, 8, product.weight_numel], torch.sin)
        return net

    def forward(self, f: Tensor, positions: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        vectors = positions[source] - positions[target]
        length = vectors.norm(dim=1)
        basis = e3nn_math.soft_one_hot_linspace(
            length, start=0.0, end=CUTOFF, number=6, basis="smooth_finite", cutoff=True
        )
        harmonics = o3.spherical_harmonics(self.harmonics, vectors, True, "component")
        cutoff = e3nn_math.soft_unit_step(10 * (1 - length / CUTOFF))
        key = self.to_key(f[source], harmonics, self.radial_key(basis))
        value = self.to_value(f[source], harmonics, self.radial_value(basis))
        score = cutoff[:, None] * self.dot(self.query(f)[target], key).exp()
        total = f.new_zeros(len(f), 1).index_add(0, target, score)
        alpha = score / total.masked_fill(total == 0, 1.0)[target]
        share = alpha.relu().sqrt() * value
        return f.new_zeros(len(f), value.shape[1]).index_add(0, target, share)


class Network(nn.Module):
    """Attention, a gate (an elementwise product), and a product of what is left with itself."""

    def __init__(self) -> None:
        super().__init__()
        gate = e3nn_nn.Gate("4x0e", [torch.tanh], "3x0e", [torch.sigmoid], "3x1o")
        self.layers = nn.ModuleList([Attention("2x0e", str(gate.irreps_in)), gate])
        self.square = o3.FullTensorProduct(gate.irreps_out, gate.irreps_out, ["0e"])
        self.readout = o3.Linear(self.square.irreps_out, "0e")

    def forward(self, f: Tensor, positions: Tensor, edges: Tensor) -> Tensor:
        h = self.layers[1](self.layers[0](f, positions, edges))
        return self.readout(self.square(h, h)).sum()


def given() -> tuple[Tensor, Tensor, Tensor]:
    positions = torch.randn(7, 3, requires_grad=True)
    edges = (torch.cdist(positions, positions) < CUTOFF).fill_diagonal_(False).nonzero().T
    return torch.randn(7, 2), positions, edges


def test_energy_forces_and_training_are_the_same():
    theirs = Network()
    ours = copy.deepcopy(theirs)
    report = etp.replace_in(ours)
    assert report.of("replaced") == [
        "layers.0.to_key", "layers.0.to_value", "layers.0.dot", "layers.1.mul", "square",
    ]  # fmt: skip
    inputs, losses = given(), []
    for model in (theirs, ours):
        optimizer, own = torch.optim.SGD(model.parameters(), lr=1e-3), []
        for _ in range(3):
            optimizer.zero_grad()
            energy = model(*inputs)
            (forces,) = torch.autograd.grad(energy, inputs[1], create_graph=True)
            loss = energy.square() + forces.square().sum()
            loss.backward()
            optimizer.step()
            own += [float(energy), float(forces.norm()), float(loss)]
        losses.append(own)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)
    assert losses[0][2] != losses[0][-1]
    fresh = Network()
    etp.replace_in(fresh)
    fresh.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(fresh(*inputs), theirs(*inputs), rtol=1e-12, atol=0)

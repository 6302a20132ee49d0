"""A small NequIP of its own package whose products are replaced: the same model, before and after.

Its paths come in the order of its own instructions, which a replaced product keeps: weights of a
path are found by the instruction, not by the order of etp's products.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import etp
from tests.interop.training import check_training_and_states

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    models = pytest.importorskip("nequip.model", reason="nequip is not installed")
    from nequip.data import AtomicDataDict
    from nequip.utils.global_state import set_global_state

pytestmark = pytest.mark.filterwarnings("ignore")
CUTOFF = 4.0


def nequip(**options: Any) -> torch.nn.Module:
    set_global_state()
    model: torch.nn.Module = models.NequIPGNNModel(
        seed=0, model_dtype="float64", r_max=CUTOFF, type_names=["H", "O"], num_layers=3, l_max=1,
        parity=True, num_features=8, radial_mlp_width=16, avg_num_neighbors=8.0, **options,
    )  # fmt: skip
    return model


POSITIONS = torch.tensor(np.random.RandomState(0).rand(8, 3) * 4)


def graph(positions: Tensor = POSITIONS) -> dict[str, Tensor]:
    """Atoms in vacuum with all pairs within the cutoff."""
    far = torch.cdist(positions, positions) + 100 * torch.eye(len(positions))
    return {
        AtomicDataDict.POSITIONS_KEY: positions.clone(),
        AtomicDataDict.ATOM_TYPE_KEY: torch.tensor([0, 1] * 4),
        AtomicDataDict.EDGE_INDEX_KEY: (far < CUTOFF).nonzero().T.contiguous(),
    }


def rel(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def assert_same_model(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    a, b = ours(graph()), theirs(graph())
    energy, forces = AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY
    assert float(b[forces].abs().max()) > 1e-6
    assert rel(a[energy], b[energy]) < 1e-12
    assert rel(a[forces], b[forces]) < 1e-10


@pytest.mark.parametrize("fuse", [True, False])
def test_the_model_is_the_same(fuse):
    theirs = nequip()
    ours = copy.deepcopy(theirs)
    report = etp.replace_in(ours, fuse=fuse)
    kinds = {path.rsplit(".", 1)[1] for path in report.of("replaced")}
    assert {"tp", "sc"} <= kinds
    assert len(report.of("fused")) == (3 if fuse else 0)
    assert all(row.reason for row in report if row.became == "left")
    assert_same_model(ours, theirs)


def test_weights_of_paths_are_not_in_the_order_of_the_output():
    """The trap: the same shapes, another order, no error."""
    model = nequip()
    orders = [
        [ins.i_out for ins in module.instructions]
        for name, module in model.named_modules()
        if name.endswith("tp_scatter.tp")
    ]
    assert any(order != sorted(order) for order in orders)


def test_forces_are_those_of_finite_differences():
    ours = nequip()
    etp.replace_in(ours)
    forces, step = ours(graph())[AtomicDataDict.FORCE_KEY], 1e-4
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        energies = []
        for sign in (1, -1):
            moved = POSITIONS.clone()
            moved[atom, axis] += sign * step
            energies.append(float(ours(graph(moved))[AtomicDataDict.TOTAL_ENERGY_KEY].detach()))
        slope = (energies[0] - energies[1]) / (2 * step)
        assert abs(slope + float(forces[atom, axis])) < 1e-6 * float(forces.abs().max())


def losses(model: torch.nn.Module, steps: int = 3) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    target = torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        made = model(graph())
        energy, forces = (
            made[key] for key in (AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY)
        )
        loss = energy.square().sum() + (forces - target).square().mean()
        loss.backward()
        optimizer.step()
        out.append(float(loss))
    return out


def test_training_goes_the_same_way_and_states_load_both_ways():
    check_training_and_states(nequip, losses, assert_same_model)

"""A small MACE of its own package whose products are replaced: the same model, before and after."""

from __future__ import annotations

import copy
import json
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import etp
from etp import presets
from tests.interop.training import check_training_and_states

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    modules = pytest.importorskip("mace.modules", reason="mace-torch is not installed")
    from ase import Atoms
    from e3nn import o3
    from mace import data, tools
    from mace.tools import torch_geometric

pytestmark = [
    pytest.mark.usefixtures("in_float64"),
    pytest.mark.filterwarnings("ignore"),
]
CUTOFF = 4.0


def mace(
    later: str = "RealAgnosticResidualInteractionBlock",
    first: str = "RealAgnosticInteractionBlock",
    numbers: tuple[int, ...] = (1, 8),
) -> torch.nn.Module:
    """The same model each time that the same is asked for."""
    return copy.deepcopy(_built(later, first, numbers))


@cache
def _built(later: str, first: str, numbers: tuple[int, ...]) -> torch.nn.Module:
    classes = modules.interaction_classes
    model: torch.nn.Module = modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=3,
        interaction_cls=classes[later], interaction_cls_first=classes[first], num_interactions=2,
        num_elements=len(numbers), hidden_irreps=o3.Irreps("8x0e+8x1o"),
        MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=8.0, atomic_numbers=list(numbers), correlation=3,
        gate=torch.nn.functional.silu, atomic_inter_scale=1.0, atomic_inter_shift=0.0,
        edge_irreps=o3.Irreps("8x0e+8x1o"),
    )  # fmt: skip
    return model


def batch(
    positions: np.ndarray,
    numbers: tuple[int, ...] = (1, 8),
    formula: str = "H4O4",
    pbc: bool = True,
) -> dict[str, Tensor]:
    atoms = Atoms(formula, positions=positions, cell=[6, 6, 6], pbc=pbc)
    table = tools.AtomicNumberTable(list(numbers))
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=CUTOFF)
    loader = torch_geometric.dataloader.DataLoader(dataset=[graph], batch_size=1)
    made: dict[str, Tensor] = next(iter(loader)).to_dict()
    return made


POSITIONS = np.random.RandomState(0).rand(8, 3) * 4


def rel(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def assert_same_model(ours: torch.nn.Module, theirs: torch.nn.Module, **given: Any) -> None:
    graph = batch(POSITIONS, **given)
    a, b = ours(graph, training=True), theirs(graph, training=True)
    assert float(b["forces"].abs().max()) > 1e-3
    assert rel(a["energy"], b["energy"]) < 1e-12
    assert rel(a["forces"], b["forces"]) < 1e-10


def test_everything_that_costs_time_is_replaced_and_the_model_is_the_same():
    theirs = mace()
    ours = copy.deepcopy(theirs)
    report = etp.replace_in(ours)
    assert report.of("replaced") == [
        "interactions.0.conv_tp", "interactions.0.skip_tp", "interactions.1.conv_tp",
        "interactions.1.skip_tp", "products.0.symmetric_contractions",
        "products.1.symmetric_contractions",
    ]  # fmt: skip
    assert report.of("fused") == ["interactions.0", "interactions.1"]
    assert all(row.what == "e3nn Linear" for row in report if row.became == "left")
    assert_same_model(ours, theirs)


def test_no_messages_are_made(monkeypatch):
    ours = mace()
    etp.replace_in(ours)
    monkeypatch.setattr("mace.modules.blocks.scatter_sum", None)
    assert ours(batch(POSITIONS))["energy"].isfinite().all()


@pytest.mark.parametrize(
    "later",
    ["RealAgnosticDensityResidualInteractionBlock", "RealAgnosticAttResidualInteractionBlock",
     "RealAgnosticResidualNonLinearInteractionBlock"],
)  # fmt: skip
def test_other_blocks(later):
    theirs = mace(later, "RealAgnosticDensityInteractionBlock")
    ours = copy.deepcopy(theirs)
    report = etp.replace_in(ours)
    assert report.of("fused") == ["interactions.0", "interactions.1"]
    assert_same_model(ours, theirs)


def test_without_fusion_and_with_many_elements():
    numbers = tuple(range(1, 31))
    theirs = mace(numbers=numbers)
    ours = copy.deepcopy(theirs)
    assert etp.replace_in(ours, fuse=False).of("fused") == []
    assert_same_model(ours, theirs, numbers=numbers)


def test_forces_are_those_of_finite_differences():
    ours = mace()
    etp.replace_in(ours)
    forces = ours(batch(POSITIONS))["forces"]
    step = 1e-4
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        energies = []
        for sign in (1, -1):
            moved = POSITIONS.copy()
            moved[atom, axis] += sign * step
            energies.append(float(ours(batch(moved))["energy"].detach()))
        slope = (energies[0] - energies[1]) / (2 * step)
        assert abs(slope + float(forces[atom, axis])) < 1e-6 * float(forces.abs().max())


def test_an_atom_alone_has_no_edges_and_no_forces():
    theirs = mace()
    ours = copy.deepcopy(theirs)
    etp.replace_in(ours)
    graph = batch(np.zeros((1, 3)), formula="O", pbc=False)
    assert graph["edge_index"].shape == (2, 0)
    made, wanted = (model(dict(graph), training=True) for model in (ours, theirs))
    torch.testing.assert_close(made["energy"], wanted["energy"], rtol=0, atol=1e-12)
    assert not made["forces"].any()
    made["forces"].sum().backward()


def losses(model: torch.nn.Module, steps: int = 3) -> list[float]:
    """Training on energies and forces, whose loss needs second derivatives."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    graph, out = batch(POSITIONS), []
    target = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        made = model(graph, training=True)
        loss = made["energy"].square().sum() + (made["forces"] - target).square().mean()
        loss.backward()
        optimizer.step()
        out.append(float(loss))
    return out


def test_training_goes_the_same_way_and_states_load_both_ways():
    check_training_and_states(mace, losses, assert_same_model)


def test_parameters_are_the_same_objects_so_that_optimizers_go_on():
    model = mace()
    before = dict(model.named_parameters())
    etp.replace_in(model)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


@pytest.mark.parametrize("kind", ["one-hot", "any", "differentiated"])
def test_contractions_take_any_attributes(kind):
    from mace.modules.symmetric_contraction import SymmetricContraction

    theirs = SymmetricContraction(
        o3.Irreps("4x0e+4x1o+4x2e"), o3.Irreps("4x0e+4x1o"), correlation=3, num_elements=3
    )
    holder = torch.nn.ModuleDict({"power": copy.deepcopy(theirs)})
    etp.replace_in(holder)
    x = torch.randn(5, 4, 9, requires_grad=True)
    y = torch.eye(3)[[0, 1, 2, 0, 1]] if kind == "one-hot" else torch.randn(5, 3)
    y.requires_grad_(kind == "differentiated")
    ins = [x, y] if kind == "differentiated" else [x]
    grads = []
    for module in (holder["power"], theirs):
        z = module(x, y)
        first = torch.autograd.grad(z.square().sum(), ins, create_graph=True)
        parameters = [p for p in module.parameters() if p.requires_grad]
        total = torch.stack([g.square().sum() for g in first]).sum()
        grads.append([z, *first, *torch.autograd.grad(total, [*ins, *parameters])])
    for a, b in zip(grads[0], grads[1], strict=True):
        assert rel(a, b) < 1e-10


@pytest.mark.parametrize(
    "hidden", ["8x0e+8x1o", "8x0e", "8x0e+8x1o+8x2e", "4x0e+4x0o+4x1o", "4x0e+4x1o"]
)
@pytest.mark.parametrize("interactions", [2, 3])
def test_a_configuration_is_read_as_the_convolutions_that_the_package_builds(hidden, interactions):
    """Irreps of nodes, edges and messages of each ``conv_tp``."""
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=4, num_polynomial_cutoff=5, max_ell=2, interaction_cls=block,
        interaction_cls_first=block, num_interactions=interactions, num_elements=2,
        hidden_irreps=o3.Irreps(hidden), MLP_irreps=o3.Irreps("4x0e"),
        gate=torch.nn.functional.silu, atomic_energies=np.zeros(2), avg_num_neighbors=4,
        atomic_numbers=[1, 8], correlation=1, atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )  # fmt: skip
    config = {"hidden_irreps": hidden, "max_ell": 2, "num_interactions": interactions}
    read = presets.read(json.dumps(config))
    assert len(read) == interactions
    for layer, interaction in zip(read, model.interactions, strict=True):
        built, problem = interaction.conv_tp, layer.problem("edge")
        assert o3.Irreps(problem.irreps1) == built.irreps_in1
        assert o3.Irreps(problem.irreps2) == built.irreps_in2
        copies = problem.copies()
        made = o3.Irreps([(copies[ir1], str(ir3)) for ir1, _, ir3 in problem.triples()])
        assert made.sort().irreps == built.irreps_out

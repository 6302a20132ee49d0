"""A whole MACE of mace-torch beside itself with its products replaced by ``etp.replace_in``.

``PYTHONPATH=. PYTHON -m benchmarks.mace``, PYTHON being that of an environment with mace-torch. Two
interactions, 128x0e+128x1o, order 3, 216 atoms in a zincblende crystal of two elements: 6048 edges.
Each round times energy with forces, and a training step on both, of each model in random order;
the ratio is that of times of the same round. Where `symmetrix-xl` is installed, its energy and
forces of the same model stand beside (an engine for inference: it does not train).
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import etp

warnings.filterwarnings("ignore")

from mace import data, modules, tools  # noqa: E402  # before e3nn, so that torch loads its tables
from mace.tools import torch_geometric  # noqa: E402

# isort: split
from ase import Atoms  # noqa: E402
from ase.build import bulk  # noqa: E402
from e3nn import o3  # noqa: E402

CUTOFF = 5.0
LATTICE = 5.43
TARGET = 5.0
Graph = dict[str, Tensor]


def crystal(cells: int) -> Atoms:
    """A crystal of 8 atoms a cell, 28 neighbours each, a little disturbed."""
    atoms = bulk("ZnS", "zincblende", a=LATTICE, cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=0)
    return atoms


def graph_of(atoms: Atoms, elements: int) -> Graph:
    """A batch of one structure, for a model of ``elements``."""
    graph = data.AtomicData.from_config(
        data.config_from_atoms(atoms), z_table=tools.AtomicNumberTable(numbers(elements)),
        cutoff=CUTOFF,
    )  # fmt: skip
    loader = torch_geometric.dataloader.DataLoader(dataset=[graph], batch_size=1)
    made: Graph = next(iter(loader)).to_dict()
    return made


def numbers(elements: int) -> list[int]:
    """Atomic numbers of a model, sulfur and zinc among them."""
    return sorted([16, 30, *[n for n in range(1, 90) if n not in (16, 30)][: elements - 2]])


def mace(channels: int, elements: int) -> nn.Module:
    """The model of mace-torch."""
    known = modules.interaction_classes
    model: nn.Module = modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=3,
        interaction_cls=known["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=known["RealAgnosticInteractionBlock"], num_interactions=2,
        num_elements=elements, hidden_irreps=o3.Irreps(f"{channels}x0e+{channels}x1o"),
        MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(elements), avg_num_neighbors=28.0,
        atomic_numbers=numbers(elements), correlation=3, gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0, atomic_inter_shift=0.0,
    )  # fmt: skip
    return model


def energy_and_forces(model: nn.Module, graph: Graph) -> Tensor:
    """What molecular dynamics asks for."""
    forces: Tensor = model(graph)["forces"]
    return forces


def training_step(model: nn.Module, graph: Graph) -> Tensor:
    """Gradients of a loss of energy and forces: derivatives of second order."""
    model.zero_grad()
    made = model(graph, training=True)
    loss: Tensor = made["energy"].square().sum() + made["forces"].square().sum()
    loss.backward()
    return loss


def rounds(calls: dict[str, Callable[[], Tensor]], count: int) -> Iterator[dict[str, float]]:
    """Seconds of each, in random order, round by round; the first calls are not counted."""
    order = list(calls)
    for call in calls.values():
        call()
    for _ in range(count):
        random.shuffle(order)
        seconds = {}
        for name in order:
            start = time.perf_counter()
            calls[name]()
            seconds[name] = time.perf_counter() - start
        yield seconds


def symmetrix(model: nn.Module, atoms: Atoms) -> Callable[[], Tensor]:
    """Energy and forces by symmetrix-xl, as its users ask for them."""
    from symmetrix import Symmetrix

    with tempfile.TemporaryDirectory() as folder:
        saved, made = Path(folder, "mace.model"), Path(folder, "mace.json")
        torch.save(model, saved)
        command = Path(sys.executable).with_name("symmetrix_extract_mace")
        subprocess.run([command, "-m", saved, "-o", made], check=True, capture_output=True)
        # The form on one thread: Kokkos' threads wait for each other where cores are shared.
        calculator = Symmetrix(str(made), use_kokkos=False)
    own = atoms.copy()
    own.calc = calculator

    def call() -> Tensor:
        # Moved by less than its lists of neighbours allow for, so that they are kept.
        own.rattle(1e-7, seed=random.randrange(10**6))
        return torch.from_numpy(own.get_forces())

    return call


def compare(title: str, calls: dict[str, Callable[[], Tensor]], count: int) -> Iterator[str]:
    """Lines of the table: each beside mace-torch."""
    times = list(rounds(calls, count))
    theirs = np.array([row["mace-torch"] for row in times])
    for name in calls:
        if name == "mace-torch":
            continue
        own = np.array([row[name] for row in times])
        ratios = theirs / own
        cells = [f"{1e3 * f(t):.0f}" for t in (theirs, own) for f in (np.min, np.median)]
        ratio, spread = float(np.median(ratios)), f"{ratios.min():.2f} to {ratios.max():.2f}"
        verdict = ("met" if ratio >= TARGET else "missed") if name == "etp" else ""
        yield f"| {title} | {name} | {' | '.join(cells)} | {ratio:.2f} | {spread} | {verdict} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--cells", type=int, default=3, help="cells of 8 atoms along each axis")
    parser.add_argument("--elements", type=int, default=2, help="elements that the model knows")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    theirs = mace(asked.channels, asked.elements)
    ours = copy.deepcopy(theirs)
    print(etp.replace_in(ours), "\n")
    atoms = crystal(asked.cells)
    graph = graph_of(atoms, asked.elements)
    a, b = (energy_and_forces(model, graph) for model in (ours, theirs))
    error = float((a - b).abs().max() / b.abs().max())
    print(
        f"{len(graph['positions'])} atoms, {graph['edge_index'].shape[1]} edges, {asked.channels} "
        f"channels, {asked.elements} elements, {asked.threads} threads, float32; forces agree to "
        f"{error:.1e}\n\n| work | by | mace-torch least ms | median | own least ms | median | "
        f"times | spread | {TARGET:.0f} times |\n|---|---|---|---|---|---|---|---|---|"
    )
    models = {"mace-torch": theirs, "etp": ours}
    for work in (energy_and_forces, training_step):
        calls = {name: partial(work, model, graph) for name, model in models.items()}
        if work is energy_and_forces and importlib.util.find_spec("symmetrix"):
            calls["symmetrix-xl, one thread"] = symmetrix(theirs, atoms)
        for line in compare(work.__name__.replace("_", " "), calls, asked.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()

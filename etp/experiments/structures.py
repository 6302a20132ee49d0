"""Labelled structures: bundled ones, extended XYZ through ASE, and batches of them as graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etp.experiments.network import SpatialGraph

BUNDLED = Path(__file__).resolve().parent / "data" / "molecule.npz"
GROUPS = ("temperature", "config_type")
"""Keys of extended XYZ that say which part of a set a structure belongs to."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Structure:
    """One labelled molecule.

    Attributes:
        numbers: Atomic numbers, (N,).
        positions: In angstrom, (N, 3).
        energy: In eV.
        forces: In eV/angstrom, (N, 3).
        group: Part of the set that it belongs to, such as "300 K".
    """

    numbers: NDArray[np.int64]
    positions: Floats
    energy: float
    forces: Floats
    group: str


class Batch(NamedTuple):
    """Several structures as one graph.

    Attributes:
        graph: Atoms as nodes, an edge for each pair within the cutoff and direction.
        elements: Place of each atom's element in the list of the network's, (N,).
        energies: (pieces,).
        forces: (N, 3).
    """

    graph: SpatialGraph
    elements: Tensor
    energies: Tensor
    forces: Tensor


def bundled() -> list[Structure]:
    """Frames of 3-(benzyloxy)pyridin-2-amine, labelled with GFN2-xTB.

    They come from :mod:`etp.experiments.sampling` (``etp experiment sample``): molecular dynamics
    at the temperatures that the groups name.
    """
    return _sampled(BUNDLED)


def _sampled(path: Path) -> list[Structure]:
    with np.load(path) as data:
        numbers = data["numbers"].astype(np.int64)
        return [
            Structure(numbers, x.astype(float), float(e), f.astype(float), f"{int(t)} K")
            for x, e, f, t in zip(
                data["positions"], data["energies"], data["forces"], data["temperatures"],
                strict=True,
            )
        ]  # fmt: skip


def read(path: Path) -> list[Structure]:
    """Structures of extended XYZ (eV, eV/angstrom), or what ``etp experiment sample`` wrote.

    Raises:
        ValueError: If ASE is not installed, the file cannot be read, or a structure has no labels
            or is periodic.
    """
    if path.suffix == ".npz":
        try:
            return _sampled(path)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise ValueError(
                f"structures: {path} is not of `etp experiment sample`: {error}"
            ) from error
    try:
        from ase.io import read as frames
    except ImportError as error:
        raise ValueError("structures: files need ASE: pip install 'etp[potential]'") from error
    try:
        read = frames(path, index=":", format="extxyz")
    except Exception as error:  # ASE raises whatever a line of the file leads it to.
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"structures: {path} cannot be read as extended XYZ: {said}") from error
    if not read:
        raise ValueError(f"structures: {path} holds no structure")
    for number, atoms in enumerate(read):
        if atoms.pbc.any():
            raise ValueError(f"structures: {path} must hold molecules, frame {number} is periodic")
    return [_labelled(path, number, atoms) for number, atoms in enumerate(read)]


def _labelled(path: Path, number: int, atoms: object) -> Structure:
    info, arrays = atoms.info, atoms.arrays  # type: ignore[attr-defined]
    results = getattr(atoms.calc, "results", {})  # type: ignore[attr-defined]
    energy = results.get("energy", info.get("energy"))
    forces = results.get("forces", arrays.get("forces"))
    if energy is None or forces is None:
        raise ValueError(
            f"structures: {path} must hold energy and forces, frame {number} lacks "
            f"{'energy' if energy is None else 'forces'}"
        )
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise ValueError(
            f"structures: {path} must hold finite numbers, frame {number} has an energy or a force "
            "that is none"
        )
    group = next((str(info[key]) for key in GROUPS if key in info), "all")
    return Structure(
        arrays["numbers"].astype(np.int64), arrays["positions"], float(energy), forces, group
    )


def split(structures: Sequence[Structure]) -> dict[str, list[Structure]]:
    """Parts of a set: ``train``, ``valid`` and ``test`` of its first group, others as they are.

    Of every ten structures one is for validation and one for the test.

    Raises:
        ValueError: If the first group has less than ten structures.
    """
    first = structures[0].group if structures else ""
    own = [each for each in structures if each.group == first]
    if len(own) < 10:
        raise ValueError(f"structures must hold at least 10 of a group, got {len(own)}")
    parts = {
        "train": [each for n, each in enumerate(own) if n % 10 < 8],
        "valid": [each for n, each in enumerate(own) if n % 10 == 8],
        "test": [each for n, each in enumerate(own) if n % 10 == 9],
    }
    for each in structures:
        if each.group != first:
            parts.setdefault(each.group, []).append(each)
    return parts


def batch(
    structures: Sequence[Structure],
    elements: Sequence[int],
    cutoff: float,
    dtype: torch.dtype,
    device: str,
) -> Batch:
    """Structures as one graph.

    Args:
        structures: At least one.
        elements: Atomic numbers that the network knows.
        cutoff: In angstrom.
        dtype: Of all numbers.
        device: Where they go.

    Raises:
        ValueError: If an element is not known.
    """
    places = {number: place for place, number in enumerate(elements)}
    if unknown := {int(z) for each in structures for z in each.numbers} - places.keys():
        raise ValueError(f"structures: element {min(unknown)} is not in the training set")
    senders, receivers, start = [], [], 0
    for each in structures:
        x = torch.from_numpy(each.positions)
        near = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") < cutoff
        own, other = near.fill_diagonal_(False).nonzero().unbind(1)
        receivers.append(own + start)
        senders.append(other + start)
        start += len(x)
    sizes = torch.tensor([len(each.numbers) for each in structures])
    graph = SpatialGraph(
        _joined([each.positions for each in structures]).to(device, dtype),
        torch.cat(senders).to(device),
        torch.cat(receivers).to(device),
        torch.arange(len(structures)).repeat_interleave(sizes).to(device),
        len(structures),
    )
    atoms = torch.tensor([places[int(z)] for each in structures for z in each.numbers])
    energies = torch.tensor([each.energy for each in structures], dtype=torch.float64)
    forces = _joined([each.forces for each in structures])
    return Batch(graph, atoms.to(device), energies.to(device), forces.to(device, dtype))


def _joined(parts: Sequence[Floats]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))

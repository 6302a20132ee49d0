"""Frames of a molecule by molecular dynamics, labelled with GFN2-xTB: how the bundled set was made.

Needs ``ase`` and ``tblite`` (``pip install 'etp[potential]'``), and no torch. The method is that
of Bannwarth, Ehlert and Grimme 2019 (doi:10.1021/acs.jctc.8b01176).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STEP_FS = 1.0
FRICTION_PER_FS = 0.02
BETWEEN = 15
"""Steps of dynamics between two frames."""
WARM_UP = 300
"""Steps at each temperature before the first frame."""


class LabelledFrame(NamedTuple):
    """One labelled frame: angstrom, eV, eV/angstrom, kelvin."""

    positions: NDArray[np.float64]
    energy: float
    forces: NDArray[np.float64]
    temperature: float


def sample(
    numbers: NDArray[np.int64],
    positions: NDArray[np.float64],
    counts: Mapping[float, int],
    *,
    seed: int = 0,
) -> Iterator[LabelledFrame]:
    """Relax a molecule, then take frames of Langevin dynamics at each temperature.

    Args:
        numbers: Atomic numbers, (N,).
        positions: Where it starts, angstrom, (N, 3).
        counts: Frames wanted at each temperature, in kelvin.
        seed: Of velocities and of the noise.

    Raises:
        ValueError: If ASE or tblite is not installed.
    """
    try:
        from ase import Atoms, units
        from ase.md.langevin import Langevin
        from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
        from ase.optimize import BFGS
        from tblite.ase import TBLite
    except ImportError as error:
        raise ValueError("sampling needs ASE and tblite: pip install 'etp[potential]'") from error
    atoms = Atoms(numbers=numbers, positions=positions)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.05)
    rng = np.random.default_rng(seed)
    for temperature, count in counts.items():
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
        dynamics = Langevin(
            atoms, STEP_FS * units.fs, temperature_K=temperature,
            friction=FRICTION_PER_FS / units.fs, rng=rng,
        )  # fmt: skip
        dynamics.run(WARM_UP)
        for _ in range(count):
            dynamics.run(BETWEEN)
            yield LabelledFrame(
                atoms.get_positions(), float(atoms.get_potential_energy()), atoms.get_forces(),
                temperature,
            )  # fmt: skip


def write(path: Path, numbers: NDArray[np.int64], frames: list[LabelledFrame]) -> None:
    """Keep frames as :func:`etp.experiments.structures.bundled` reads them."""
    np.savez_compressed(
        path,
        numbers=numbers.astype(np.int8),
        positions=np.array([f.positions for f in frames]).round(5).astype(np.float32),
        energies=np.array([f.energy for f in frames]),
        forces=np.array([f.forces for f in frames]).astype(np.float32),
        temperatures=np.array([f.temperature for f in frames]).astype(np.int16),
    )

"""Structures from files: extended XYZ as ASE writes it, and files that cannot be used.

ASE comes with mace-torch, in the environment that these tests also run in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etp.experiments import structures
from etp.experiments.structures import Structure

PLAIN = 'Properties=species:S:1:pos:R:3:forces:R:3 energy={energy} pbc="F F F"'


def write(path: Path, each: Structure, **info: Any) -> Path:
    """A file of one frame, periodic where a cell is given."""
    io = pytest.importorskip("ase.io", reason="needs ASE")
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    cell = info.pop("cell", None)
    made = Atoms(numbers=each.numbers, positions=each.positions, cell=cell, pbc=cell is not None)
    made.calc = SinglePointCalculator(made, energy=each.energy, forces=each.forces)
    made.info |= info
    io.write(path, made, format="extxyz")
    return path


def test_extended_xyz_is_read(tmp_path):
    each = structures.bundled()[0]
    (read,) = structures.read(write(tmp_path / "one.xyz", each, temperature=300))
    assert read.group == "300"
    assert read.energy == pytest.approx(each.energy)
    np.testing.assert_array_equal(read.numbers, each.numbers)
    np.testing.assert_allclose(read.positions, each.positions, atol=1e-6)
    np.testing.assert_allclose(read.forces, each.forces, atol=1e-6)


def test_a_periodic_frame_is_refused(tmp_path):
    box = write(tmp_path / "box.xyz", structures.bundled()[0], cell=[20, 20, 20])
    with pytest.raises(ValueError, match="frame 0 is periodic"):
        structures.read(box)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\nbroken line\nH 0 0\n", "cannot be read as extended XYZ: "),
        ("nonsense", "cannot be read as extended XYZ: "),
        ("", "holds no structure"),
        (f"1\n{PLAIN.format(energy='nan')}\nH 0 0 0 0 0 0\n", "frame 0 has an energy or a force"),
        ('1\nProperties=species:S:1:pos:R:3 energy=-1 pbc="F F F"\nH 0 0 0\n', "lacks forces"),
        (
            '1\nProperties=species:S:1:pos:R:3:forces:R:3 pbc="F F F"\nH 0 0 0 0 0 0\n',
            "lacks energy",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, text, message):
    pytest.importorskip("ase.io", reason="needs ASE")
    (path := tmp_path / "some.xyz").write_text(text)
    with pytest.raises(ValueError, match=f"structures: .*some.xyz .*{message}") as caught:
        structures.read(path)
    assert "\n" not in str(caught.value)


def test_a_broken_file_of_sampled_frames_is_one_sentence(tmp_path):
    (path := tmp_path / "some.npz").write_bytes(b"half of it")
    with pytest.raises(ValueError, match=r"some\.npz is not of `etp experiment sample`"):
        structures.read(path)

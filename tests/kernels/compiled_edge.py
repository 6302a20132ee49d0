"""Run by test_compiled.py: convolutions and powers, compiled for cards that are not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.predicted import (
    CARDS,
    GRIDS,
    MARKS,
    PAGE,
    Kernel,
    compile_for,
    figures,
    kernels,
)  # fmt: skip
from etp.kernels import on_gpu

SHORT = {kernel.name: kernel for kernel in kernels(whole=False)}
A100, HOPPER, _ = CARDS


@pytest.mark.parametrize("name", [n for n in SHORT if n.startswith(("convolution", "power"))])
def test_nothing_is_spilled_and_an_old_card_has_the_shared_memory(name):
    for card in (A100, HOPPER):
        found = compile_for(SHORT[name], card)
        assert found.spilled == 0
        assert found.shared <= 64
        assert 0 < found.occupancy <= 1
        assert 0 < found.share <= 1


def test_the_prediction_follows_from_the_compilers_figures():
    kernel = Kernel("made up", lambda: None, {}, {}, 128, 4.0)
    # 64 registers: 8 programs of 4 warps, half of 64.
    few = figures(kernel, A100, 64, 0, 0, 1)
    assert few.occupancy == 0.5
    assert figures(kernel, A100, 255, 0, 0, 1).occupancy == 0.125
    # 163 kB for a program: one at a time.
    assert figures(kernel, A100, 32, 0, A100.per_block, 1).occupancy == 4 / 64
    # Twice the instructions take twice the time, once they are what takes it.
    slow, slower = (figures(kernel, A100, 64, 0, 0, n).share for n in (10_000, 20_000))
    assert slow == pytest.approx(2 * slower)


def test_every_figure_on_the_page_is_marked_and_covers_the_kernels():
    rows = MARKS.rows(PAGE.read_text())
    assert [kernel.name for kernel in kernels()] == [row.split("|")[1].strip() for row in rows]
    for row in rows:
        cells = row.split("|")[2:-1]
        assert len(cells) == len(CARDS)
        assert all(cell.strip().endswith("predicted") for cell in cells)


def test_the_page_has_every_function_that_the_package_writes_for_triton():
    """A new kernel that is forgotten in the table is found by its name in the source."""
    named = re.compile(r"""(?:compiled_text|Source|__init__)\(\s*"(\w+)\"""")
    written = {
        name
        for file in sorted(Path(on_gpu.__file__).parent.glob("*.py"))
        for name in named.findall(file.read_text())
    }
    assert written >= {"edges", "grid", "matrices", "paths", "power"}
    assert {kernel.make().__name__ for kernel in kernels()} == written
    # And where kernels have derivatives, all of them.
    names = [kernel.name for kernel in kernels()]
    for product in ("pair", "matrix", *GRIDS):
        found = {n.split(", ")[-1].split(" (")[0] for n in names if n.startswith(f"{product}, ")}
        assert found == {"forward", "backward", "double backward"}

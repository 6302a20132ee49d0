"""Products in every program that PyTorch users put them into; the page that says so is true.

Each program with a product of each way of computing, by default; ``ETP_LIFE=1`` tries them all.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.life import reference, table
from tests.life.programs import COMPILED, PROCESSES, PROGRAMS, SIZE, Case, _exported
from tests.life.table import REPRESENTATIVE, SLOWLY, Cell

EVERYTHING = bool(os.environ.get("ETP_LIFE"))
QUICK = {"jvp", "vmap", "grad", "inference_mode", "changed in place"}
"""Tried with every pair product in the short form too."""
ONE = {
    Cell("torch.compile", "edge", "cg-sparse"),
    Cell("compiled forces", "convolution", "cg-sparse"),
    Cell("compiled jvp", "pair", "cg-sparse"),
    Cell("compiled jacfwd", "power", "cg"),
}
"""What compiles, in the short form."""


def _chosen(cell: Cell) -> bool:
    if EVERYTHING:
        return True
    if cell.program in COMPILED or cell.program in SLOWLY:
        return cell in ONE
    few = cell.name in REPRESENTATIVE[cell.kind][:2]
    return few or (cell.program in QUICK and cell.kind == "pair")


CELLS = [cell for cell in table.cells([p for p in PROGRAMS if p not in PROCESSES])
         if _chosen(cell)]  # fmt: skip


@pytest.fixture(scope="module")
def case() -> dict[tuple[str, str], Case]:
    return {}


# Compilers, tracers and PyTorch's own scripts warn of things that are none of ours.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(cell).replace(" ", "_"))
def test_right_or_refused_as_the_page_says(cell, case):
    known = case.setdefault(cell[1:], Case(cell.kind, cell.name))
    answer = table.measure(cell, known)
    refused = cell.program == "jit.script"
    said = table.load().get(cell.program, {}).get(cell.kind, {})
    assert answer == said.get(cell.name, answer)
    assert (answer != table.RIGHT) == refused


def test_processes_that_were_forked_compute_and_train_together():
    """In a process of its own: a fork must not meet the threads of other tests."""
    words = ["--programs", ",".join(PROCESSES)]
    if not EVERYTHING:
        words += ["--products", "cg-sparse", "--kinds", "edge"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.life.table", *words],
        capture_output=True, text=True, cwd=table.ROOT, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(table.RIGHT) >= 2


def test_the_page_is_made_of_what_was_measured():
    measured = table.load()
    assert table.PAGE.read_text() == table.page(measured)
    answers = {answer for kinds in measured.values() for own in kinds.values()
               for answer in own.values()}  # fmt: skip
    assert all(answer == table.RIGHT or answer.startswith(table.REFUSED) for answer in answers)
    assert all("cg-sparse" in measured[program]["edge"] for program in PROGRAMS
               if program not in SLOWLY)  # fmt: skip


def test_a_wrong_number_is_no_answer():
    case = Case("pair", "cg-sparse")
    _ = case.output
    case.output.mul_(1 + 1e-5)
    with pytest.raises(AssertionError, match="output is wrong by"):
        table.measure(Cell("vjp", "pair", "cg-sparse"), case)


def test_no_number_of_a_question_belongs_to_the_transform_that_drew_it_first():
    shape, seed = (SIZE, 22), 12345
    torch.func.grad(lambda x: (x * reference.direction(shape, seed)).sum())(torch.ones(shape))
    drawn = reference.direction(shape, seed)
    assert not torch._C._functorch.is_functorch_wrapped_tensor(drawn)


@pytest.mark.filterwarnings("ignore")
def test_an_exported_product_fills_no_complex_tensor():
    """AOTInductor stops there; this is seen without its compiler."""
    program = _exported(Case("pair", "gaunt-fourier-fft").ask()).run_decompositions()
    fills = [node.meta["val"] for node in program.graph.nodes if "aten.full" in str(node.target)]
    assert not any(made.is_complex() for made in fills)


EXPORTED_FIRST = """
import torch
from etp import measure, products
new = products.get("e3nn")("0e+1o", "0e+1o")
torch.export.export(new, (torch.ones(2, 4), torch.ones(2, 4)))
tp = products.get("cg-dense")("0e+1o+2e", "0e+1o+2e").double()
assert measure.agreement(tp).max < 1e-12
"""


def test_an_export_of_a_new_e3nn_product_leaves_nothing_fake_in_the_process():
    """In a process of its own: e3nn keeps its tables for the whole of it."""
    pytest.importorskip("e3nn")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXPORTED_FIRST],
        capture_output=True, text=True, cwd=table.ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

"""The table of products, kinds and programs: measured, kept beside this file, written as a page.

``python -m tests.life.table --write`` measures everything and writes ``docs/life.md``. With
``--programs`` it measures some programs, and keeps what it knows of the others.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from etp import powers, products
from tests.life.programs import COMPILED, PROGRAMS, Case
from tests.life.reference import KINDS, Kind

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "life.md"
KEPT = Path(__file__).with_name("measured.json")
RIGHT = "right"
REFUSED = ("torch.jit.script cannot read",)
"""How sentences begin that a program may be refused with."""
REPRESENTATIVE: dict[Kind, tuple[str, ...]] = {
    "pair": ("cg-sparse", "gaunt-fourier-fft", "e3nn"),
    "edge": ("cg-sparse", "so2", "e3nn"),
    "convolution": ("cg-sparse", "complete"),
    "power": ("cg", "gaunt-grid"),
}
"""A product for each way of computing: tiles, kernels of edges and powers, PyTorch, a library."""
SLOWLY = ("AOTInductor", "Inductor", "DDP")
"""Programs that are measured for these unless others are named: they wait for a C++ compiler or
for processes."""
Measured = dict[str, dict[str, dict[str, str]]]
"""By program, kind and product."""


class Cell(NamedTuple):
    """A product of one kind in a program."""

    program: str
    kind: Kind
    name: str


def names(kind: Kind) -> list[str]:
    """Products of a kind that are installed here."""
    return powers.available() if kind == "power" else products.available()


def cells(programs: Sequence[str], asked: Sequence[str] = ()) -> Iterator[Cell]:
    """What the page shows of some programs, product by product.

    Args:
        programs: By their names.
        asked: Products by their names; without, all, and a few in programs that are slow.
    """
    for kind in KINDS:
        for name in names(kind):
            for program in programs:
                few = REPRESENTATIVE[kind] if program in SLOWLY else (name,)
                if name in (asked or few):
                    yield Cell(program, kind, name)


def measure(cell: Cell, case: Case | None = None) -> str:
    """``right``, or the sentence that refuses; what else is raised is a failure.

    Args:
        cell: What is tried.
        case: Of the product, where its answers are known already.
    """
    try:
        PROGRAMS[cell.program](case or Case(cell.kind, cell.name))
    except TypeError as refusal:
        if not str(refusal).startswith(REFUSED):
            raise
        return re.sub(r"cannot read \w+:", "cannot read `NAME`:", str(refusal))
    return RIGHT


def load() -> Measured:
    """What was measured last."""
    found: Measured = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return found


def _keep(cell: Cell, answer: str) -> None:
    measured = load()  # two runs may measure different programs
    measured.setdefault(cell.program, {}).setdefault(cell.kind, {})[cell.name] = answer
    new = KEPT.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")
    new.replace(KEPT)


def page(measured: Measured) -> str:
    """The document."""
    sentences: list[str] = []
    rows = []
    known = {kind: _known(measured, kind) for kind in KINDS}
    for program, function in PROGRAMS.items():
        said = " ".join((function.__doc__ or "").split()).replace("``", "`")
        shown = [_shown(measured.get(program, {}).get(kind, {}), known[kind], sentences)
                 for kind in KINDS]  # fmt: skip
        rows.append(f"| **{program}** | {said} | {' | '.join(shown)} |")
    notes = [f"{n}. “{sentence}.”" for n, sentence in enumerate(sentences, 1)]
    return TEXT.format(
        rows="\n".join(rows), notes="\n".join(notes), products=_list(REPRESENTATIVE),
        known=_list(known),
    )  # fmt: skip


def _known(measured: Measured, kind: Kind) -> list[str]:
    """Products of a kind that were measured in any program."""
    return sorted({name for kinds in measured.values() for name in kinds.get(kind, {})})


def _shown(found: dict[str, str], known: Sequence[str], sentences: list[str]) -> str:
    by_answer: dict[str, list[str]] = {}
    for name, answer in found.items():
        by_answer.setdefault(answer, []).append(name)
    parts = []
    for answer, own in by_answer.items():
        of = f"all {len(own)}" if len(own) == len(known) else ", ".join(own)
        if answer == RIGHT:
            parts.append(f"right: {of}")
            continue
        if answer not in sentences:
            sentences.append(answer)
        parts.append(f"refused ({sentences.index(answer) + 1}): {of}")
    if missing := [name for name in known if name not in found]:
        parts.append(f"not measured: {', '.join(missing)}" if found else "not measured")
    return "; ".join(parts)


def _list(names: Mapping[Kind, Sequence[str]]) -> str:
    return "\n".join(
        f"- {kind}: {', '.join(f'`{name}`' for name in few)}" for kind, few in names.items()
    )


TEXT = """# The life of a module

A product is put into other people's training loops: compiled, exported, transformed, copied, moved.
In each of these programs it is right or refuses with a sentence; a number that is wrong in silence
is the worst that a library can do. This page is made by the tests that hold it:

```bash
python -m tests.life.table --write                       # measures all, about an hour on two cores
python -m tests.life.table --write --programs jvp,vmap   # some of it, the rest stays as it was
python -m tests.life.table --write --few                 # a product of each way of computing
pytest tests/life                                        # a sample of each program, a minute
ETP_LIFE=1 pytest tests/life                             # everything
```

*Right* means, in float64: the output of another number of samples is that of the product called
plainly, which is held to `wigner_3j` elsewhere; gradients by each input, tangents, and derivatives
of forces by each input and weight are those of finite differences of fourth order, to 1e-7. Weights
are one set for each sample or edge, of a power one for each element.

| program | what is done | pair | edge | convolution | power |
| --- | --- | --- | --- | --- | --- |
{rows}

*All* are:

{known}

What was not measured is not promised; the command above measures it. Compiled programs run with
PyTorch's backend `aot_eager`, which traces, makes derivatives and partitions as Inductor does and
leaves out the code generator, which is in the rows **Inductor** and **AOTInductor**. One product
for each way of computing, which the tests try in their short form:

{products}

Refusals:

{notes}

## Good to know

- **Exported and traced graphs** (`torch.export`, AOTInductor, `torch.jit.trace`) hold PyTorch's own
  operators only: they run where etp is not, by the plain form, which is slower than the compiled
  kernels. Graphs of `torch.compile` and `make_fx` hold etp's operators; `etp build-kernels --out`
  writes them as a library that `torch.ops.load_library` loads without etp.
- **Transforms** of `torch.func` and forward-mode derivatives take the plain form too.
- **Convolutions** without a kernel of their own walk edges in chunks. In graphs and under
  transforms they hold all messages at once.
- **`make_fx` with `tracing_mode="symbolic"`** wants `_allow_non_fake_inputs=True`, as for every
  module with constants; else PyTorch says “Please convert all Tensors to FakeTensors first”.
- **Second derivatives of compiled functions** do not exist in PyTorch: “torch.compile with
  aot_autograd does not currently support double backward”. Trace energy and forces with `make_fx`,
  then compile, as NequIP does; that is the row **compiled forces**.
- **A number of samples that is also a size of the product** (3, say) at the first compiled call may
  be taken for it by `torch.compile`, which then compiles once more. Results are right either way.
- **e3nn's edge product without weights** is built at its first call: move the product with
  `.to(device, dtype)`, or call it once, before it is compiled.
- **Fork**: the children have threads of their own. Start them before CUDA is used, as always.
- **Memory of large results** on a CPU (from half a megabyte, Linux) is kept when they are freed,
  for the next ones: memory from the system is zeroed page by page first, which took a third to a
  half of the time of large edge products. The system takes it back as soon as anybody runs short
  of memory; until then it counts as the process's (`LazyFree` in `/proc/self/smaps_rollup`), an
  eighth of the machine's at most. `etp.release_memory()` gives it back at once. Such results
  cannot be resized in place (`Tensor.resize_`).
"""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and write the page if asked; the exit status says whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/life.md")
    parser.add_argument("--programs", help="names with commas between; all where not given")
    parser.add_argument("--kinds", help="likewise")
    parser.add_argument("--products", help="likewise")
    parser.add_argument("--few", action="store_true", help="one product of each way of computing")
    chosen = parser.parse_args(words)
    asked = chosen.programs.split(",") if chosen.programs else list(PROGRAMS)
    # Processes are forked while this one has started no compiler's threads.
    asked.sort(key=lambda program: program in COMPILED)
    failed = 0
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    case = Case("pair", "")
    for cell in cells(asked, chosen.products.split(",") if chosen.products else ()):
        if chosen.kinds and cell.kind not in chosen.kinds.split(","):
            continue
        if chosen.few and cell.name not in REPRESENTATIVE[cell.kind]:
            continue
        if (case.kind, case.name) != cell[1:]:
            case = Case(cell.kind, cell.name)
            gc.collect()
        try:
            answer = measure(cell, case)
        except Exception as error:
            failed += 1
            print(*cell, f"{type(error).__name__}: {str(error)[:2000]}", flush=True)
            continue
        print(*cell, answer, flush=True)
        if chosen.write:
            _keep(cell, answer)
    if chosen.write:
        PAGE.write_text(page(load()))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

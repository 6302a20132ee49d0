"""What the longer commands do: sweep several products, compare two files of results."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from etp import presets
from etp.analysis.comparison import Comparison, comparisons
from etp.analysis.findings import pair_sentence
from etp.analysis.machines import NOT_DECIDED, Run, differences, side_by_side
from etp.cli.terminal import Progress, table
from etp.problem import Problem
from etp.results import formats
from etp.results.rows import Row, jsonl
from etp.run.case import Case, check_fits, run
from etp.run.devices import check_device
from etp.text import floor_text

SMALL = 0.02
"""Differences below this need a second process: memory layout alone makes some of them."""


def sweep(cases: Sequence[Case], out: Path | None, *, processes: int, paired: bool) -> None:
    """Measure cases that are not in the file yet, print a table of each, and keep its rows.

    Args:
        cases: What to measure.
        out: JSON Lines file; a case is written whole when it is done. None to keep nothing.
        processes: Fresh processes that each case is measured in, one after the other.
        paired: Print a verdict for every pair after each case.

    Raises:
        ValueError: If a case cannot fit, or the file holds something else or cannot be written.
    """
    for case in cases:
        check_device(case.problem.device)
        check_fits(case.problem)
    done = set() if out is None else _done(out)
    for number, case in enumerate(cases, 1):
        where = f"{number} of {len(cases)}: {_where(case.problem)}"
        if all((name, case.problem) in done for name in case.products):
            print(f"{where} is in {out} already", file=sys.stderr)
            continue
        progress = Progress(where)
        taken = [list(measured(case, processes, progress)) for _ in range(processes)]
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write("".join(map(jsonl, taken)))
        progress.done()
        for comparison in comparisons(taken[-1]):
            print("\n".join(table(comparison)))
        for line in _verdicts(taken) if paired else ():
            print(line)
        print(flush=True)


def _where(problem: Problem) -> str:
    if problem.kind == "power":
        outputs = "+".join(map(str, problem.outputs_kept()))
        words = [f"{problem.irreps1} to {outputs}", f"power of order {problem.order}"]
        words += [f"{problem.batch} nodes"]
        words += [f"{problem.elements} elements"] if problem.elements > 1 else []
    elif problem.kind == "pair":
        words = [f"lmax {problem.lmax}", f"batch {problem.batch}"]
    else:
        irreps = f"{problem.irreps1} with {problem.irreps2}"
        words = [presets.named(problem) or irreps, problem.kind, f"{problem.batch} edges"]
    words += [f"{problem.channels} channels"] if problem.channels > 1 else []
    return ", ".join(words)


def measured(case: Case, processes: int, progress: Progress) -> Iterator[Row]:
    """Rows of a case; in a process of its own where several are asked for."""
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            yield from pool.apply(_rows, [case.as_dict()])
        return
    for item in run(case.as_dict()):
        if isinstance(item, Row):
            yield item
        else:
            progress.event(item)


def _rows(case: dict[str, Any]) -> list[Row]:
    return [item for item in run(case) if isinstance(item, Row)]


def _verdicts(taken: Sequence[Sequence[Row]]) -> Iterator[str]:
    """Sentences of each process; with several, whether small differences hold in all of them."""
    by_process = [comparison for rows in taken for comparison in comparisons(rows)]
    for number, comparison in enumerate(by_process, 1):
        label = f"process {number}: " if len(by_process) > 1 else ""
        floor = comparison.judgement.floor
        if floor is not None:
            rounds = comparison.judgement.rounds
            yield f"{label}{rounds} rounds, noise floor {floor_text(floor)}"
        for product in comparison.judgement.verdicts:
            yield f"{label}{pair_sentence(comparison, product)}"
    if len(by_process) > 1:
        yield from _agreement(by_process)


def _agreement(by_process: Sequence[Comparison]) -> Iterator[str]:
    for product, verdict in by_process[0].judgement.verdicts.items():
        others = [c.judgement.verdicts.get(product) for c in by_process[1:]]
        if abs(verdict.estimate) >= SMALL or verdict.word not in ("faster", "slower"):
            continue
        if all(other is not None and other.word == verdict.word for other in others):
            yield f"{product}: {verdict.word} by less than 2 % in every process"
        else:
            yield f"{product}: a difference of less than 2 % does not hold in every process"


def _done(path: Path) -> set[tuple[str, Problem]]:
    """Products and problems whose runtimes are in the file already."""
    if path.is_dir():
        raise ValueError(f"--out must be a file, {path} is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"--out must lie in a folder: No such file or directory: {path.parent}")
    if path.exists() and not path.is_file():
        return set()  # a pipe or a device: written to, never read
    with path.open("a"):  # before anything is measured that could not be kept
        pass
    if not path.stat().st_size:
        return set()
    timed = [row for row in formats.read_path(path) if row.measure == "runtime"]
    # Read as problems: rows of earlier versions have the defaults of what they do not say.
    done = {(row.product, Problem.from_dict(row.problem)) for row in timed
            if row.status == "ok"}  # fmt: skip
    return done | {pair for row in timed if row.status == "invalid" for pair in _refused(row)}


def _refused(row: Row) -> list[tuple[str, Problem]]:
    """The product and problem of an invalid row, if it is a problem at all."""
    try:
        return [(row.product, Problem.from_dict(row.problem))]
    except (ValueError, TypeError):
        return []


def compare(first: Path, second: Path) -> Iterable[str]:
    """Lines that say how two files differ: the environments first, then the times.

    Raises:
        ValueError: If a file cannot be read, or they hold no time of the same work.
    """
    a, b = (Run(str(path), path.name, formats.read_path(path)) for path in (first, second))
    unlike = differences(a.environment, b.environment)
    yield f"A {first}: {a.machine or 'machine not stated'}; {a.problem}"
    yield f"B {second}: {b.machine or 'machine not stated'}; {b.problem}"
    yield f"{len(unlike)} parts of the environment differ" + (":" if unlike else "")
    for name, left, right in unlike:
        yield f"  {name}: {left} -> {right}"
    for run_, name in ((a, "A"), (b, "B")):
        for row in run_.invalid:
            yield f"left out of {name}: {row['product']}, {row['reason']}"
    lines = side_by_side(a.timed, b.timed)
    if not lines:
        raise ValueError(f"{first} and {second} hold no time of the same product on the same work")
    paired = all(line.paired for line in lines)
    yield (
        "paired: measured in the same interleaved rounds" if paired else f"unpaired: {NOT_DECIDED}"
    )
    for line in lines:
        bounds = f" ({line.low:.3g} to {line.high:.3g})" if line.low > 0 else ""
        word = line.word if line.word == "not decided" else f"B is {line.word}"
        yield (
            f"  {line.product}, {line.problem}: {word}, time A / time B = {line.ratio:.3g}{bounds}"
        )

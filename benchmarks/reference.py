"""Measure the reference results that come with the package.

``python -m benchmarks.reference`` runs every available product in the paper's settings on this
machine, interleaved, and writes the reference results of :mod:`etp.results.reference`, without the
long sample lists. ``--layers`` writes the layers of published models instead, in both directions
and with the products of the advice that are installed: so run it in an environment with e3nn and
cuEquivariance. Nothing else should run meanwhile; each takes about ten minutes.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

from etp import presets, products
from etp.cli.advise import available
from etp.problem import Problem
from etp.results.reference import DATA, LAYER_DIRECTIONS, PATH
from etp.results.rows import Row, jsonl
from etp.run import case as sweep
from etp.ui.plans import CHECKS
from etp.ui.settings import Settings

SETTINGS = ("MIMO", "SIMO", "SISO")
SWEPT_LMAX = (2, 4)
ALONG = (
    "cg-dense", "cg-sparse", "cg-summed", "gaunt-grid", "matrix", "vector-signal", "gaunt-bracket",
    "complete", "e3nn",
)  # fmt: skip
"""Products measured along batch and channels: all forms of one product would take an hour."""
LAYER_EDGES = 1000
LAYER_LEFT_OUT = ("vector-signal", "gaunt-fourier-fft")
"""Of the products of the advice: several times e3nn's time on the layers they were tried on, so
that they would take most of the minutes of a run and stand in no sentence."""
AXES = {"batch": (10, 100, 1000, 10_000), "channels": (1, 4, 16)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lmax", type=int, default=6)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--budget", type=float, default=14.0, help="seconds of rounds per problem")
    parser.add_argument("--out", type=Path, help="default: the file that comes with the package")
    parser.add_argument("--layers", action="store_true", help="only the layers of models")
    options = parser.parse_args()
    if options.layers:
        _layers(options.budget, options.out or DATA / "layers.jsonl.gz")
        return
    names = available(tuple(products.names()))
    rows: list[Row] = []
    problems = [
        Problem.of_setting(setting, lmax, batch=options.batch)
        for setting in SETTINGS
        for lmax in range(1, options.lmax + 1)
    ]
    problems += [problem for problem in swept(options.batch) if problem not in problems]
    for number, problem in enumerate(problems, 1):
        last = number == len(problems)
        asked = names if problem.at(batch=options.batch, channels=1) == problem else ALONG
        case = sweep.Case(
            problem, asked, reference="cg-dense", budget_s=options.budget, rounds=40, roofs=last
        )
        rows += [row.light() for row in sweep.run(case.as_dict()) if isinstance(row, Row)]
        at = f"{problem.setting} lmax {problem.lmax} batch {problem.batch} x {problem.channels}"
        print(f"{number} of {len(problems)}: {at}", file=sys.stderr)
    chosen = Settings(lmax=(1, options.lmax), products=names)
    for case in CHECKS.cases(chosen):
        rows += [row.light() for row in sweep.run(case) if isinstance(row, Row)]
    _write(options.out or PATH, rows)


def _write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=9) as file:
        file.write(jsonl(rows))
    print(f"{path}: {len(rows)} rows")


def _layers(budget: float, path: Path) -> None:
    """Measure every published layer; what is done is kept if the rest fails."""
    rows: list[Row] = []
    for layer in presets.LAYERS.values():
        for direction in LAYER_DIRECTIONS:
            problem = layer.problem(batch=LAYER_EDGES, direction=direction)
            usual = presets.advised(problem.kind, layer.name)
            asked = tuple(name for name in usual if name not in LAYER_LEFT_OUT)
            names = available(asked, problem.kind)
            case = sweep.Case(problem, names, names[0], budget_s=budget)
            rows += [row.light() for row in sweep.run(case.as_dict()) if isinstance(row, Row)]
        print(layer.name, file=sys.stderr, flush=True)
        _write(path, rows)


def swept(batch: int) -> list[Problem]:
    """Problems along batch and along channels, each once."""
    problems = [
        Problem.of_setting("MIMO", lmax, batch=batch).at(**{axis: size})
        for axis, along in AXES.items()
        for lmax in SWEPT_LMAX
        for size in along
    ]
    return list(dict.fromkeys(problems))


if __name__ == "__main__":
    main()

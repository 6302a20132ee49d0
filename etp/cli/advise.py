"""The command that says which product a layer should use."""

from __future__ import annotations

import argparse
import json
from typing import Any

from etp import presets
from etp.analysis.advice import advice
from etp.analysis.comparison import Comparison, comparisons
from etp.cli.problems import add_options, problems, product_names
from etp.cli.terminal import Progress, table
from etp.presets import Layer
from etp.results.rows import Row

ROUNDS, BUDGET_S = 30, 12.0


def add(commands: Any) -> None:
    """Add the command."""
    advised = commands.add_parser(
        "advise", help="which product for a layer: the same, faster; the same reach; the fastest"
    )
    add_options(advised, several=False)
    advised.add_argument(
        "--products", metavar="A,B,...", help=f"default: {','.join(presets.ADVISED)}"
    )
    advised.add_argument("--budget", type=float, default=BUDGET_S, help="seconds of rounds")
    advised.add_argument("--json", action="store_true")
    advised.set_defaults(run=_advise)


def available(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some products that can run here."""
    from etp import products

    return tuple(name for name in names if products.get(name).unavailable() is None)


def _advise(options: argparse.Namespace) -> None:
    if not (options.layer or options.setting or options.irreps1 or options.irreps2):
        raise ValueError(
            f"--layer must be one of {', '.join(presets.LAYERS)}; or give --irreps1 and --irreps2"
        )
    (problem,) = problems(options, [None])
    names = product_names(options.products) if options.products else available(presets.ADVISED)
    found, rows = compared(problem, names, options.budget)
    said = advice(found)
    if options.json:
        timed = {entry.product: entry.typical_s for entry in found.timed}
        print(
            json.dumps(
                {
                    "problem": problem.as_dict(),
                    "baseline": found.baseline,
                    "sentences": list(said.sentences),
                    "products": list(said.products),
                    "median_s": timed,
                }
            )
        )
        return
    layer = None if options.layer is None else presets.layer(options.layer)
    for line in (*said.sentences, *_notes(layer, said.products[0])):
        print(line)
    print()
    print("\n".join(table(found)))
    for row in rows:
        if row.measure == "runtime" and row.status != "ok":
            print(f"{row.product}: {row.reason}")


def compared(problem: Any, names: tuple[str, ...], budget: float) -> tuple[Comparison, list[Row]]:
    """Compare products on a problem; the first that can be timed is the baseline."""
    from etp.cli.commands import measured
    from etp.run.case import Case

    case = Case(problem, names, names[0], ROUNDS, budget)
    progress = Progress(presets.named(problem) or problem.irreps1)
    rows = list(measured(case, 1, progress))
    progress.done()
    (found,) = comparisons(rows, names[0])
    return found, rows


def _notes(layer: Layer | None, same: str | None) -> list[str]:
    notes = []
    if same is not None:
        notes.append("In a model of e3nn's products: report = etp.replace_in(model)")
    if layer is not None and layer.mode == "uvw":
        notes.append("Timed are the edge products of this layer, not the linear maps behind them.")
    return notes

"""Commands that train small models, in which only the product changes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from etp.analysis.text import power_text, time_text
from etp.cli.problems import product_names, reader
from etp.cli.terminal import Progress
from etp.experiments.settings import Tetris
from etp.options import declared, defaults, flag
from etp.results.rows import Row, jsonl

PRODUCTS = "cg-sparse,gaunt-grid,gaunt-bracket,matrix"


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``experiment`` and what can be tried."""
    made = commands.add_parser("experiment", help="train a small model with each product")
    kinds = made.add_subparsers(required=True, metavar="WHAT")

    tetris = kinds.add_parser("tetris", help="tell eight pieces apart, two of them mirror images")
    tetris.add_argument("--products", default=PRODUCTS, metavar="A,B,...")
    tetris.add_argument("--seeds", default="0", metavar="A,B,...", help="a training for each")
    _add_options(tetris, Tetris, without=("seed",))
    tetris.add_argument("--out", type=Path, metavar="FILE.jsonl", help="add the rows to a file")
    tetris.set_defaults(run=_tetris)


def _add_options(parser: argparse.ArgumentParser, cls: type, without: Sequence[str]) -> None:
    usual = defaults(cls)
    for name, about in declared(cls).items():
        if name not in without:
            parser.add_argument(
                flag(name),
                type=reader(name, about),
                default=usual[name],
                metavar="|".join(about.choices) or ("N" if about.high is not None else "NAME"),
                help=about.help.replace("%", "%%"),
            )


def _tetris(options: argparse.Namespace) -> None:
    products = product_names(options.products)
    chosen = {name: getattr(options, name) for name in declared(Tetris) if name != "seed"}
    settings = [Tetris(**chosen, seed=seed) for seed in numbers("--seeds", options.seeds)]
    rows: list[Row] = []
    for each in settings:
        rows += _run(each.case(products), f"seed {each.seed}", options.out)
    print("\n".join(tetris_table(rows)))


def _run(case: dict[str, Any], head: str, out: Path | None) -> list[Row]:
    """Rows of one case, added to a file as they come."""
    from etp.run.case import run

    progress, rows = Progress(head), []
    if out is not None:
        out.open("a").close()  # before anything is trained that could not be kept
    for item in run(case):
        if isinstance(item, Row):
            rows.append(item)
            if out is not None:
                with out.open("a", encoding="utf-8") as file:
                    file.write(jsonl([item]))
        else:
            progress.event(item)
    progress.done()
    return rows


def numbers(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas.

    Raises:
        ValueError: If one is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise ValueError(f"{name} must be whole numbers separated by commas, got {text[:40]!r}")
    return tuple(dict.fromkeys(map(int, parts)))


def tetris_table(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each product: medians over the seeds."""
    yield (
        f"{'product':22s}{'named rightly':>14s}{'a step':>10s}{'mirror gap':>12s}"
        f"{'pseudoscalar':>14s}{'equivariance':>14s}"
    )
    for product in dict.fromkeys(row.product for row in rows):
        own = [row for row in rows if row.product == product]
        done = [row.measured for row in own if row.status == "ok"]
        if not done:
            yield f"{product:22s}  {own[0].status}: {own[0].reason}"
            continue
        typical = {
            key: median(result[key] for result in done)
            for key in ("step_s", "mirror_gap", "pseudoscalar", "equivariance")
        }
        right = sorted(8 * result["accuracy"] for result in done)
        span = f"{right[0]:.3g}" if right[0] == right[-1] else f"{right[0]:.3g} to {right[-1]:.3g}"
        yield (
            f"{product:22s}{span + ' of 8':>14s}{time_text(typical['step_s']):>10s}"
            f"{power_text(typical['mirror_gap'], 1):>12s}"
            f"{power_text(typical['pseudoscalar'], 1):>14s}"
            f"{power_text(typical['equivariance'], 1):>14s}"
        )

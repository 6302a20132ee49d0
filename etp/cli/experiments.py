"""Commands that train small models, in which only the product changes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from etp.analysis.step_time import load_flags, share_text
from etp.cli import values
from etp.cli.problems import product_name, product_names, reader
from etp.cli.terminal import Progress, watched
from etp.experiments.settings import POWERS, Experiment, PotentialSettings, TetrisSettings
from etp.options import declared, defaults, flag
from etp.results.rows import Row, jsonl
from etp.text import power_text, time_text

E = TypeVar("E", bound=Experiment)
TIMED = ("gaunt-fourier-fft", "gaunt-fourier-direct", "gaunt-grid", "cg")
STEP = {"channels": 64, "lmax": 3, "steps": 15, "batch": 2}
"""Sizes of a timed step where none are given; its steps are rounds."""
PRODUCTS = "cg-sparse,gaunt-grid,gaunt-bracket,matrix"


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``experiment`` and what can be tried."""
    made = commands.add_parser("experiment", help="train a small model with each product")
    kinds = made.add_subparsers(required=True, metavar="WHAT")

    tetris = kinds.add_parser("tetris", help="tell eight pieces apart, two of them mirror images")
    _add_options(tetris, TetrisSettings)
    tetris.set_defaults(run=_tetris)

    potential = kinds.add_parser(
        "potential", help="learn energies and forces of a molecule",
        description="@FILE stands for the options written in a file, # begins a comment.",
        fromfile_prefix_chars="@",
    )  # fmt: skip
    _add_options(potential, PotentialSettings)
    potential.add_argument(
        "--structures", type=values.path, metavar="FILE",
        help="extended XYZ with energy and forces, or of `sample`; default: the bundled molecule",
    )  # fmt: skip
    potential.add_argument(
        "--checkpoints", type=values.path, metavar="FOLDER", help="go on from what is there"
    )
    potential.set_defaults(run=_potential)

    timed = kinds.add_parser("step-time", help="time a training step with each power")
    timed.add_argument("--powers", default=",".join(TIMED), metavar="A,B,...")
    timed.add_argument("--product", default="cg-sparse", metavar="NAME", help="of convolutions")
    timed.add_argument(
        "--out", type=values.path, metavar="FILE.jsonl", help="add the rows to a file"
    )
    _add_fields(timed, PotentialSettings, {"power"}, STEP)
    timed.set_defaults(run=_step_time)

    sampled = kinds.add_parser(
        "sample", help="label frames of the bundled molecule with GFN2-xTB (ase, tblite)"
    )
    sampled.add_argument(
        "--counts", default="300:250,600:100", metavar="K:N,...",
        help="frames at each temperature, which make parts of the set",
    )  # fmt: skip
    sampled.add_argument(
        "--seed", type=reader("seed", declared(PotentialSettings)["seed"]), default=0
    )
    sampled.add_argument("--out", type=values.path, required=True, metavar="FILE.npz")
    sampled.set_defaults(run=_sample)


def _add_options(parser: argparse.ArgumentParser, cls: type[Experiment]) -> None:
    parser.add_argument("--products", default=PRODUCTS, metavar="A,B,...")
    parser.add_argument("--seeds", default="0", metavar="A,B,...", help="a training for each")
    parser.add_argument(
        "--out", type=values.path, metavar="FILE.jsonl", help="add the rows to a file"
    )
    _add_fields(parser, cls, {"seed"}, {})


def _add_fields(
    parser: argparse.ArgumentParser, cls: type[Experiment], without: set[str], usual: dict[str, Any]
) -> None:
    usual = defaults(cls) | usual
    for name, about in declared(cls).items():
        if name not in without:
            parser.add_argument(
                flag(name),
                type=reader(name, about),
                default=usual[name],
                metavar="|".join(about.choices) or ("N" if about.high is not None else "NAME"),
                help=about.help.replace("%", "%%"),
            )


def _settings(options: argparse.Namespace, cls: type[E], **instead: Any) -> list[E]:
    """Settings that the options describe, for each seed."""
    chosen = {name: getattr(options, name) for name in declared(cls) if name != "seed"}
    return [cls(**chosen | instead, seed=seed) for seed in numbers("--seeds", options.seeds)]


def _tetris(options: argparse.Namespace) -> None:
    products = product_names(options.products)
    rows: list[Row] = []
    for settings in _settings(options, TetrisSettings):
        rows += _run(settings.case(products), f"seed {settings.seed}", options.out)
    print("\n".join(tetris_table(rows)))


def _potential(options: argparse.Namespace) -> None:
    from etp.experiments.launch import joined

    products = product_names(options.products)
    files: dict[str, str] = {}
    if (given := options.structures) is not None:
        if not given.is_file():
            raise ValueError(f"--structures must be a file that exists, got {given}")
        files["structures"] = str(given)
    if (folder := options.checkpoints) is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--checkpoints must be a folder, got {folder}") from error
        files["checkpoints"] = str(folder)
    rows: list[Row] = []
    with joined(options.device) as (rank, device):
        for settings in _settings(options, PotentialSettings, device=device):
            out = options.out if rank == 0 else None
            rows += _run(settings.case(products) | files, f"seed {settings.seed}", out)
        if rank == 0:
            print("\n".join(potential_table(rows)))


def _step_time(options: argparse.Namespace) -> None:
    powers = tuple(dict.fromkeys(part.strip() for part in options.powers.split(",")))
    if unknown := [name for name in powers if name not in POWERS]:
        raise ValueError(f"--powers must be among {', '.join(POWERS)}, got {unknown[0]!r}")
    product = product_name("--product", options.product)
    settings = PotentialSettings(
        **{name: getattr(options, name) for name in declared(PotentialSettings) if name != "power"}
    )
    case = settings.case(powers) | {"kind": "step-time", "product": product}
    rows = _run(case, f"{settings.channels} channels, lmax {settings.lmax}", options.out)
    print("\n".join(step_table(rows)))


def _sample(options: argparse.Namespace) -> None:
    from etp.experiments import sampling, structures

    if options.out.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, got {options.out}")
    pairs = [part.partition(":") for part in options.counts.split(",")]
    if not all(k.isdecimal() and n.isdecimal() and int(k) and int(n) for k, _, n in pairs):
        raise ValueError(f"--counts must be K:N,... such as 300:250, got {options.counts[:40]!r}")
    first = structures.bundled()[0]
    counts = {float(k): int(n) for k, _, n in pairs}
    with watched(f"sampling {sum(counts.values())} frames"):
        frames = list(sampling.sample(first.numbers, first.positions, counts, seed=options.seed))
    sampling.write(options.out, first.numbers, frames)
    print(f"{options.out}: {len(frames)} frames")


def _run(case: dict[str, Any], head: str, out: Path | None) -> list[Row]:
    """Rows of one case, added to a file as they come."""
    from etp.run.case import run

    progress, rows = Progress(head), []
    if out is not None:
        try:
            out.open("a").close()  # before anything is trained that could not be kept
        except OSError as error:
            raise ValueError(
                f"--out must be a file that can be written, got {out}: {error.strerror}"
            ) from error
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
        raise ValueError(
            f"{name} must be whole numbers from 0, separated by commas, got {text[:40]!r}"
        )
    return tuple(dict.fromkeys(map(int, parts)))


def potential_table(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each product and part of the set that was held out: medians over the seeds."""
    yield (
        f"{'product':22s}{'power':22s}{'held out':10s}{'meV':>9s}{'meV/A':>9s}{'a step':>10s}"
        "  of the mean energy"
    )
    for product in dict.fromkeys(row.product for row in rows):
        own = [row for row in rows if row.product == product]
        done = [row.measured for row in own if row.status == "ok"]
        if not done:
            yield f"{product:22s}  {own[0].status}: {own[0].reason}"
            continue
        step = time_text(median(result["step_s"] for result in done))
        for part in done[0]["energy_mev"]:
            energy, force, mean, still = (
                median(result[key][part] for result in done)
                for key in ("energy_mev", "force_mev_per_a", "mean_energy_mev",
                            "mean_force_mev_per_a")
            )  # fmt: skip
            yield (
                f"{product:22s}{done[0]['power']:22s}{part:10s}{energy:9.1f}{force:9.1f}{step:>10s}"
                f"  {mean:.0f}, {still:.0f}"
            )


def step_table(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each power: its step, the ratio to the first and its share, with intervals."""
    yield f"{'power':22s}{'a step':>10s}{'of first':>10s}{'interval':>18s}{'in powers':>20s}"
    for row in rows:
        result = row.measured
        ends = [result.get(key) for key in ("low", "high")]
        bounded = "too few rounds" if None in ends else f"{ends[0]:.3f} – {ends[1]:.3f}"
        yield (
            f"{result['power']:22s}{time_text(result['median_s']):>10s}{result['ratio']:>10.3f}"
            f"{bounded:>18s}{share_text(result):>20s}"
        )
    if rows:
        floor, count = rows[0].measured["floor"], rows[0].measured["rounds"]
        yield f"{count} rounds; a twin of the first took {floor:.3f} of its time"
        yield from (f"{flag.name}: {flag.detail}" for flag in load_flags(rows))


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

"""Command line: list products, measure one, sweep several, move results in and out.

Results go to standard output and nothing else does; an error is one line on standard error, with
exit status 2 for bad input and 1 for what failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from etp.cli import hosting
from etp.irreps import SETTINGS
from etp.options import Option, declared, defaults, flag
from etp.problem import Problem

MEASURES = ("equivariance", "expressivity", "interactions", "agreement", "runtime")


class FailedError(Exception):
    """Something that was asked for correctly did not work."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, FileNotFoundError, IsADirectoryError, PermissionError) as error:
        return _complain(error, 2)
    except (FailedError, RuntimeError, MemoryError, OSError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted; what was measured is kept", 1)
    return 0


def _complain(error: object, status: int) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"etp: {text}", file=sys.stderr)
    return status


def parser() -> argparse.ArgumentParser:
    """The command line, for help texts and tests."""
    made = _Parser(prog="etp", description="Compare equivariant tensor products.")
    commands = made.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    listed = commands.add_parser("products", help="list the tensor products")
    listed.add_argument("--json", action="store_true")
    listed.set_defaults(run=_products)

    measured = commands.add_parser("measure", help="measure one product on one problem")
    measured.add_argument("measure", choices=MEASURES)
    measured.add_argument("--product", required=True, metavar="NAME")
    measured.add_argument("--lmax", type=int)
    _problem_options(measured, several=False)
    measured.add_argument("--json", action="store_true")
    measured.set_defaults(run=_measure)

    swept = commands.add_parser("sweep", help="measure several products on several problems")
    swept.add_argument("--products", required=True, metavar="A,B,...")
    swept.add_argument("--lmax", metavar="L, FROM:TO or FROM:TO:STEP")
    _problem_options(swept, several=True)
    swept.add_argument("--rounds", type=int, default=30)
    swept.add_argument("--budget", type=float, default=4.0, help="seconds of rounds per problem")
    swept.add_argument("--roofs", action="store_true", help="measure the device's limits, last")
    swept.add_argument("--paired", action="store_true", help="print a verdict for every pair")
    swept.add_argument("--processes", type=int, default=1, help="fresh processes for each problem")
    swept.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    swept.set_defaults(run=_sweep)

    compared = commands.add_parser("compare", help="compare two files of results")
    compared.add_argument("files", type=Path, nargs=2, metavar="FILE")
    compared.set_defaults(run=_compare)

    tested = commands.add_parser("selftest", help="check the clock and the harness here")
    tested.add_argument("--device", default="cpu")
    tested.set_defaults(run=_selftest)

    taken = commands.add_parser("import", help="add results from files to the store")
    taken.add_argument("files", type=Path, nargs="+", metavar="FILE")
    _store_option(taken)
    taken.set_defaults(run=_import)

    given = commands.add_parser("export", help="write stored results as JSON Lines")
    given.add_argument("--out", type=Path, required=True, metavar="FILE")
    _store_option(given)
    given.set_defaults(run=_export)

    hosting.add(commands, _store_option)
    return made


def _problem_options(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Add the options of a problem.

    Args:
        parser: Of one command.
        several: Whether some of them take several values.
    """
    parser.add_argument("--setting", type=_setting, metavar="|".join(SETTINGS))
    parser.add_argument("--irreps1", metavar="IRREPS")
    parser.add_argument("--irreps2", metavar="IRREPS")
    parser.add_argument("--filter-out", metavar="IRREPS")
    usual = defaults(Problem)
    for name, about in declared(Problem).items():
        many = several and about.several
        parser.add_argument(
            flag(name),
            type=_reader(name, about),
            nargs="+" if many else None,
            default=[usual[name]] if many else usual[name],
            metavar="|".join(about.choices) or ("N" if about.high is not None else name.upper()),
            help=about.help.replace("%", "%%"),
        )


def _setting(text: str) -> str:
    if text.upper() not in SETTINGS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(SETTINGS)}, got {text!r}")
    return text.upper()


def _reader(name: str, about: Option) -> Callable[[str], str | int]:
    def read(text: str) -> str | int:
        try:
            return about.read(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _store_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=Path, help="database file (default: $ETP_STORE or your own)"
    )


def _problems(options: argparse.Namespace, degrees: Iterable[int | None]) -> list[Problem]:
    """Problems that the options describe, the last option that varies outermost."""
    names = list(declared(Problem))
    values = [getattr(options, name) for name in names]
    each = [value if isinstance(value, list) else [value] for value in values]
    degrees = list(degrees)
    return [
        _problem(options, lmax, dict(zip(reversed(names), combination, strict=True)))
        for combination in itertools.product(*reversed(each))
        for lmax in degrees
    ]


def _problem(options: argparse.Namespace, lmax: int | None, rest: dict[str, Any]) -> Problem:
    if options.setting is not None:
        if options.irreps1 or options.irreps2 or options.filter_out:
            raise ValueError("give either --setting with --lmax, or --irreps1 and --irreps2")
        if lmax is None:
            raise ValueError("--setting needs --lmax")
        return Problem.of_setting(options.setting, lmax, **rest)
    if options.irreps1 is None or options.irreps2 is None:
        raise ValueError("give --setting and --lmax, or --irreps1 and --irreps2")
    if lmax is not None:
        raise ValueError("--lmax goes with --setting: typed irreps have their own degrees")
    if rest.pop("outputs") != "all":
        raise ValueError("--outputs goes with --setting: for typed irreps name --filter-out")
    return Problem.of_irreps(options.irreps1, options.irreps2, options.filter_out, **rest)


def _products(options: argparse.Namespace) -> None:
    from etp import products

    listed = [_described(products.get(name)) for name in products.names()]
    listed += [_not_loaded(path, why) for path, why in products.not_loaded().items()]
    if options.json:
        print(json.dumps(listed))
        return
    for entry in listed:
        note = f"  (not here: {entry['unavailable']})" if entry["unavailable"] else ""
        print(f"{entry['name']:22s}{entry['title']:30s}{entry['group']:7s}{note}")


def _described(product: Any) -> dict[str, Any]:
    return {
        "name": product.name,
        "title": product.title,
        "group": product.group,
        "keeps_paths": product.keeps_paths,
        "weights_per": product.weights_per,
        "mimo_exponent": product.mimo_exponent,
        "rule": product.rule,
        "reference": product.reference,
        "unavailable": product.unavailable(),
    }


def _not_loaded(path: Path, why: str) -> dict[str, Any]:
    """Entry of a file of the user's own that failed: listed, so that nobody looks for it."""
    return {
        "name": path.name,
        "title": "not loaded",
        "group": "",
        "keeps_paths": False,
        "weights_per": "",
        "mimo_exponent": None,
        "rule": None,
        "reference": str(path),
        "unavailable": f"{path} was not loaded: {why}",
    }


def _measure(options: argparse.Namespace) -> None:
    from etp.run import case as sweep

    (problem,) = _problems(options, [options.lmax])
    row = sweep.measure_one(problem, options.product, options.measure)
    if row.status != "ok":
        raise FailedError(row.reason)
    keys = ("product", "measure", "problem", "result", "environment")
    if options.json:
        print(json.dumps({key: row[key] for key in keys}, allow_nan=False))
        return
    for name, value in row.measured.items():
        text = json.dumps(value)
        print(f"{name:14s}{text if len(text) < 100 else text[:97] + '...'}")


def _sweep(options: argparse.Namespace) -> None:
    from etp import products
    from etp.cli import commands
    from etp.kernels import torch_compile
    from etp.run.case import Case

    names = tuple(name.strip() for name in options.products.split(",") if name.strip())
    for name in names:
        products.get(torch_compile.plain_name(name))
    _at_least("--rounds", options.rounds, 1)
    _at_least("--processes", options.processes, 1)
    problems = _problems(options, _degrees(options.lmax))
    cases = [
        Case(
            problem, names, None, options.rounds, options.budget,
            roofs=options.roofs and number == len(problems),
        )
        for number, problem in enumerate(problems, 1)
    ]  # fmt: skip
    commands.sweep(cases, options.out, processes=options.processes, paired=options.paired)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _compare(options: argparse.Namespace) -> None:
    from etp.cli import commands

    for line in commands.compare(*options.files):
        print(line)


def _selftest(options: argparse.Namespace) -> None:
    from etp.measure import selftest

    failed = 0
    for check in selftest.run(options.device):
        print(check)
        failed += not check.passed
    if failed:
        raise FailedError(f"{failed} checks of the harness failed: is the machine idle?")


def _degrees(text: str | None) -> Iterable[int | None]:
    if text is None:
        return [None]
    try:
        match [int(part) for part in text.split(":")]:
            case [only]:
                return [only]
            case [low, high]:
                return range(low, high + 1)
            case [low, high, step]:
                return range(low, high + 1, step)
    except ValueError:
        pass
    raise ValueError(f"--lmax must be a number, FROM:TO or FROM:TO:STEP such as 1:6, got {text!r}")


def _import(options: argparse.Namespace) -> None:
    from etp.results import formats, imports, store

    # Everything is read before anything is written: a bad file leaves the store as it was.
    read = [(path, formats.read_path(path)) for path in options.files]
    target = store.Store(options.store or store.default_path())
    for path, rows in read:
        runs = imports.adopted(rows, path.name)
        added = target.add_imports(runs)
        print(f"{path}: {added} of {len(rows)} rows added as {', '.join(r.job for r in runs)}")


def _export(options: argparse.Namespace) -> None:
    from etp.results import store

    source = store.Store(options.store or store.default_path())
    count = source.export_jsonl(options.out)
    print(f"{options.out}: {count} rows written")


if __name__ == "__main__":
    sys.exit(main())

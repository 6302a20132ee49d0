"""Command line: list products, measure one, sweep several, move results in and out.

Results go to standard output and nothing else does; an error is one line on standard error, with
exit status 2 for bad input and 1 for what failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from typing_extensions import override

from etp.cli import advise, dashboard, experiments, hosting, kernels, layers, stored, values
from etp.cli.faults import of_system
from etp.cli.problems import add_options, degrees_of, product_name, product_names, question, reader
from etp.cli.terminal import watched
from etp.options import declared
from etp.problem import Kind, Problem
from etp.results.store import StoreError

USUAL = ("cg-sparse", "gaunt-grid", "matrix", "e3nn")
"""Products of a sweep that names none: the same operation, fast, and what people have."""
USUAL_POWERS = ("cg", "gaunt-grid", "matrix")
"""Those of a sweep of powers."""
MEASURES = ("equivariance", "expressivity", "interactions", "agreement", "runtime")


class FailedError(Exception):
    """Something that was asked for correctly did not work."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(_line(f"{self.prog}: {message} (see {self.prog} --help)"), file=sys.stderr)
        raise SystemExit(2)

    @override
    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """A line of a file of options may hold several, quoted as in a shell, and a comment."""
        return shlex.split(arg_line, comments=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    made = parser()
    if isinstance(sys.stdout, TextIOWrapper):
        # A name that a terminal or a pipe cannot show is written otherwise, and ends nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    options, unknown = made.parse_known_args(arguments)
    if unknown:
        # Said by the command that was meant: its help lists the options, that of etp does not.
        made.prog = f"{made.prog} {options.command}"
        made.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        options.run(options)
    except ValueError as error:
        return _complain(error, 2)
    except KeyboardInterrupt:
        return _complain("interrupted; what was measured is kept", 1)
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `| head` does.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (it is closed with the process)
        return 1
    except OSError as error:
        return _complain(*of_system(error))
    except Exception as error:
        if os.environ.get("ETP_TRACEBACK"):
            raise
        if isinstance(error, ModuleNotFoundError):
            return _complain(_not_installed(error), 1)
        known = isinstance(error, FailedError | StoreError | RuntimeError)
        return _complain(error if known else f"{type(error).__name__}: {error}", 1)
    return 0


def _complain(error: object, status: int) -> int:
    print(f"etp: {_line(str(error)) or type(error).__name__}", file=sys.stderr)
    return status


def _not_installed(error: ModuleNotFoundError) -> str:
    """What is missing, in which Python, and the two ways to have it."""
    return (
        f"{error.name} is not installed for {sys.executable}: in a checkout use "
        ".venv/bin/python, which make app sets up, or pip install '.[app]'"
    )


def _line(text: str) -> str:
    """One line of what can be written anywhere, whatever was given."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())


def parser() -> argparse.ArgumentParser:
    """The command line, for help texts and tests."""
    made = _Parser(prog="etp", description="Compare equivariant tensor products.")
    commands = made.add_subparsers(
        required=True, dest="command", metavar="COMMAND", parser_class=_Parser
    )

    listed = commands.add_parser("products", help="list the tensor products")
    listed.add_argument("--json", action="store_true")
    listed.set_defaults(run=_products)

    measured = commands.add_parser("measure", help="measure one product on one problem")
    measured.add_argument("measure", choices=MEASURES)
    measured.add_argument("--product", required=True, metavar="NAME")
    measured.add_argument("--lmax", metavar="L", help="with --setting")
    add_options(measured, several=False)
    measured.add_argument("--json", action="store_true")
    measured.set_defaults(run=_measure)

    swept = commands.add_parser("sweep", help="measure several products on several problems")
    swept.add_argument("--products", metavar="A,B,...", help=f"default: {','.join(USUAL)}")
    swept.add_argument("--lmax", metavar="L, FROM:TO or FROM:TO:STEP", help="default 1:4")
    add_options(swept, several=True)
    swept.add_argument("--rounds", type=values.whole(1), default=30)
    swept.add_argument(
        "--budget", type=values.seconds, default=4.0, help="seconds of rounds per problem"
    )
    swept.add_argument("--roofs", action="store_true", help="measure the device's limits, last")
    swept.add_argument("--paired", action="store_true", help="print a verdict for every pair")
    swept.add_argument(
        "--processes", type=values.whole(1), default=1, help="fresh processes for each problem"
    )
    swept.add_argument(
        "--out",
        type=values.path,
        metavar="FILE.jsonl",
        help="keep all rows; cases in it are not repeated",
    )
    swept.set_defaults(run=_sweep)

    compared = commands.add_parser("compare", help="compare two files of results")
    compared.add_argument("files", type=values.path, nargs=2, metavar="FILE")
    compared.set_defaults(run=_compare)

    tested = commands.add_parser("selftest", help="check the clock and the harness here")
    tested.add_argument(
        "--device", default="cpu", type=reader("device", declared(Problem)["device"])
    )
    tested.set_defaults(run=_selftest)

    layers.add(commands)
    advise.add(commands)
    dashboard.add(commands)
    experiments.add(commands)
    kernels.add(commands)
    stored.add(commands)
    hosting.add(commands, stored.store_option)
    return made


def _products(options: argparse.Namespace) -> None:
    from etp import products

    listed = [_described(products.get(name)) for name in products.names()]
    listed += [_not_loaded(path, why) for path, why in products.not_loaded().items()]
    if options.json:
        print(json.dumps(listed))
        return
    shown = ("name", "title", "group")
    widths = {key: max(len(entry[key]) for entry in listed) for key in shown}
    for entry in listed:
        cells = [f"{entry[key]:{width}}" for key, width in widths.items()]
        cells += [f"(not here: {entry['unavailable']})"] if entry["unavailable"] else []
        print("  ".join(cells).rstrip())


def _described(product: Any) -> dict[str, Any]:
    from etp.measure.exponents import mimo_exponent

    return {
        "name": product.name,
        "title": product.title,
        "group": product.group,
        "keeps_paths": product.keeps_paths,
        "weights_per": product.weights_per,
        "mimo_exponent": mimo_exponent(product.name),
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

    def degrees() -> Sequence[int | None]:
        read = degrees_of(options.lmax)
        if len(read) > 1:
            raise ValueError(f"--lmax must be one number here, got {options.lmax!r}")
        return read

    (problem,), (name,) = question(
        options, degrees, lambda kind, _: (product_name("--product", options.product, kind),)
    )
    with watched(f"measuring {options.measure} of {name}"):
        row = sweep.measure_one(problem, name, options.measure)
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
    from etp.cli import commands
    from etp.run.case import Case

    if not (
        options.setting or options.layer or options.irreps1 or options.irreps2 or options.filter_out
    ):
        options.setting = "MIMO"
    if options.setting is not None and options.lmax is None:
        options.lmax = "1:4"

    def usual(kind: Kind, layer: str | None) -> tuple[str, ...]:
        own = USUAL_POWERS if kind == "power" else USUAL
        return product_names(options.products or ",".join(own), kind)

    asked, names = question(options, lambda: degrees_of(options.lmax), usual)
    cases = [
        Case(
            problem, names, None, options.rounds, options.budget,
            roofs=options.roofs and number == len(asked),
        )
        for number, problem in enumerate(asked, 1)
    ]  # fmt: skip
    commands.sweep(cases, options.out, processes=options.processes, paired=options.paired)


def _compare(options: argparse.Namespace) -> None:
    from etp.cli import commands

    for line in commands.compare(*options.files):
        print(line)


def _selftest(options: argparse.Namespace) -> None:
    from etp.measure import selftest
    from etp.run.devices import check_device

    check_device(options.device)
    failed = 0
    for check in selftest.run(options.device):
        print(check)
        failed += not check.passed
    if failed:
        raise FailedError(f"{failed} checks of the harness failed: is the machine idle?")


if __name__ == "__main__":
    sys.exit(main())

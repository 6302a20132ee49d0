"""Options of the command line that describe problems, and the problems that they describe."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from etp import presets
from etp.irreps import SETTINGS
from etp.options import Faults, Option, declared, defaults, flag
from etp.problem import Kind, Problem


def add_options(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Add the options of a problem.

    Args:
        parser: Of one command.
        several: Whether some of them take several values.
    """
    parser.add_argument(
        "--setting",
        type=_setting,
        metavar="|".join(SETTINGS),
        help="irreps of the paper's settings, up to --lmax",
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="irreps of a published model's layer; see `etp layers`"
    )
    if several:
        parser.add_argument(
            "--edges", metavar="N or FROM:TO", help="batch as edges, a sweep goes by factors of ten"
        )
    parser.add_argument("--irreps1", metavar="IRREPS")
    parser.add_argument("--irreps2", metavar="IRREPS")
    parser.add_argument("--filter-out", metavar="IRREPS")
    usual = defaults(Problem)
    for name, about in declared(Problem).items():
        many = several and about.several
        parser.add_argument(
            flag(name),
            type=reader(name, about),
            nargs="+" if many else None,
            default=[usual[name]] if many else usual[name],
            metavar="|".join(about.choices) or ("N" if about.high is not None else name.upper()),
            help=about.help.replace("%", "%%"),
        )


def _setting(text: str) -> str:
    if text.upper() not in SETTINGS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(SETTINGS)}, got {text!r}")
    return text.upper()


def reader(name: str, about: Option) -> Callable[[str], str | int]:
    """What argparse calls for the value of an option."""

    def read(text: str) -> str | int:
        try:
            return about.read(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def problems(options: argparse.Namespace, degrees: Iterable[int | None]) -> list[Problem]:
    """Problems that the options describe, the last option that varies outermost."""
    if getattr(options, "edges", None) is not None:
        options.batch = edges_of(options.edges)
    names = list(declared(Problem))
    values = [getattr(options, name) for name in names]
    choices = [value if isinstance(value, list) else [value] for value in values]
    every = list(degrees)
    return [
        _problem(options, lmax, dict(zip(reversed(names), combination, strict=True)))
        for combination in itertools.product(*reversed(choices))
        for lmax in every
    ]


def _problem(options: argparse.Namespace, lmax: int | None, rest: dict[str, Any]) -> Problem:
    if options.setting is not None:
        if options.irreps1 or options.irreps2 or options.filter_out or options.layer:
            raise ValueError(
                "give either --setting with --lmax, --layer, or --irreps1 and --irreps2"
            )
        if lmax is None:
            raise ValueError("--setting needs --lmax")
        return Problem.of_setting(options.setting, lmax, **rest)
    if lmax is not None:
        raise ValueError("--lmax goes with --setting: other irreps have their own degrees")
    if rest.pop("outputs") != "all":
        raise ValueError("--outputs goes with --setting: for typed irreps name --filter-out")
    if options.layer is not None:
        return _of_layer(options, rest)
    if options.irreps1 is not None and options.irreps2 is None and rest["kind"] != "power":
        raise ValueError("--irreps2 is missing: give what meets --irreps1, or --kind power")
    if options.irreps1 is None:
        raise ValueError("give --setting and --lmax, --layer, or --irreps1 and --irreps2")
    return Problem.of_irreps(options.irreps1, options.irreps2, options.filter_out, **rest)


def _of_layer(options: argparse.Namespace, rest: dict[str, Any]) -> Problem:
    if options.irreps1 or options.irreps2 or options.filter_out:
        raise ValueError("give either --layer, or --irreps1 and --irreps2")
    layer = presets.layer(options.layer)
    if rest["kind"] == "power" and layer.mode != "power":
        powers = [name for name, known in presets.LAYERS.items() if known.mode == "power"]
        raise ValueError(
            f"--layer must be one of {', '.join(powers)} for --kind power, got {layer.name}"
        )
    # No model runs a layer as pairs, or without weights for each edge.
    if rest["kind"] == "pair":
        rest["kind"] = "convolution"
    if rest["weights"] == "none":
        rest["weights"] = "per-sample"
    return layer.problem(**rest)


def edges_of(text: str) -> list[int]:
    """Numbers of edges that ``N`` or ``FROM:TO`` stands for: FROM, ten times as many, up to TO.

    Raises:
        ValueError: If it is none of these, or no number of edges that can be run.
    """
    read = declared(Problem)["batch"].read
    low, colon, high = text.partition(":")
    try:
        first = int(read("edges", low))
        last = int(read("edges", high)) if colon else first
    except ValueError as error:
        raise ValueError(f"--edges must be N or FROM:TO such as 1000:100000: {error}") from error
    if last < first:
        raise ValueError(f"--edges must go up, FROM not above TO, got {text[:40]!r}")
    steps = range(len(str(last)) - len(str(first)) + 1)
    return [first * 10**n for n in steps if first * 10**n <= last]


def degrees_of(text: str | None) -> Sequence[int | None]:
    """Degrees that ``L``, ``FROM:TO`` or ``FROM:TO:STEP`` stands for; one None without a text.

    Raises:
        ValueError: If it is none of these, or holds no degree.
    """
    if text is None:
        return [None]
    degrees: Sequence[int] = []
    try:
        match [int(part) for part in text.split(":")]:
            case [only]:
                return [only]
            case [low, high]:
                degrees = range(low, high + 1)
            case [low, high, step]:
                degrees = range(low, high + 1, step) if step > 0 else []
    except ValueError:
        pass
    if not degrees:
        raise ValueError(
            "--lmax must be a number, FROM:TO or FROM:TO:STEP such as 1:6, FROM not above TO, "
            f"got {text[:40]!r}"
        )
    return degrees


def question(
    options: argparse.Namespace,
    degrees: Callable[[], Iterable[int | None]],
    names: Callable[[Kind, str | None], tuple[str, ...]],
) -> tuple[list[Problem], tuple[str, ...]]:
    """Problems, and products on a device of this machine.

    Args:
        options: What was typed.
        degrees: Reads the degrees.
        names: Reads the products, which depend on the kind of problem, and on the layer where it
            is a published one.

    Raises:
        ValueError: Saying all that is wrong, not the first of it alone.
    """
    from etp.run.devices import check_device

    faults = Faults()
    asked = faults.tried(lambda: problems(options, degrees())) or []
    chosen: tuple[str, ...] | None = ()
    # Which names there are depends on the kind, which a layer says where none is typed.
    if asked or options.layer is None:
        kind, layer = (asked[0].kind, presets.named(asked[0])) if asked else (options.kind, None)
        chosen = faults.tried(lambda: names(kind, layer))
    faults.tried(lambda: check_device(options.device))
    faults.tell()
    return asked, chosen or ()


def product_names(text: str, kind: Kind = "pair") -> tuple[str, ...]:
    """Names of products, or of powers, as they are registered; case does not matter.

    Args:
        text: Names, separated by commas.
        kind: Of the problem: a ``power`` has names of its own.

    Raises:
        ValueError: If there is none, or one is not known.
    """
    from etp.kernels import torch_compile
    from etp.run.case.case import makers

    products = makers(kind)
    known = {name.lower(): name for name in products.names()}
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--products must be names separated by commas, got {text!r}")
    chosen, unknown = [], []
    for name in names:
        plain = torch_compile.plain_name(name)
        chosen.append(known.get(plain.lower(), plain) + name[len(plain) :])
        unknown += [] if plain.lower() in known else [plain]
    try:
        for plain in unknown[:1]:
            products.get(plain)
    except ValueError as error:
        others = ", ".join(map(repr, dict.fromkeys(unknown[1:])))
        raise ValueError(f"{error}; nor {others}" if others else str(error)) from error
    return tuple(dict.fromkeys(chosen))


def product_name(flag: str, text: str, kind: Kind = "pair") -> str:
    """The one name of a product, or of a power.

    Args:
        flag: Of the option.
        text: What was typed.
        kind: Of the problem.

    Raises:
        ValueError: If it is none, or more than one.
    """
    names = product_names(text, kind)
    if len(names) > 1:
        raise ValueError(f"{flag} must be one name, got {text[:40]!r}")
    return names[0]

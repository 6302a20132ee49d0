"""Command that compiles the operators: for this machine's products, or to a file for elsewhere."""

from __future__ import annotations

import argparse
from typing import Any

from etp.cli import values
from etp.cli.terminal import watched


def add(commands: Any) -> None:
    """Add ``build-kernels``."""
    built = commands.add_parser(
        "build-kernels",
        help="compile the CPU operators ahead of first use, or to a library for elsewhere",
    )
    built.add_argument(
        "--out",
        type=values.path,
        metavar="FILE.so",
        help="write a library that torch.ops.load_library loads without etp; default: build what "
        "products use here, kept in $ETP_CACHE or your cache folder",
    )
    built.add_argument(
        "--march",
        help="with --out: processors it is for, as the compiler names them, such as x86-64-v3; "
        "default: this one",
    )
    built.set_defaults(run=_build)


def _build(options: argparse.Namespace) -> None:
    from etp.kernels.on_cpu import build, standalone

    if options.out is None and options.march is not None:
        raise ValueError("--march needs --out: what products use here is for this processor")
    with watched("compiling the operators"):
        if options.out is None:
            path = build.library().path
        else:
            path = options.out
            standalone.write(path, options.march or "native")
    print(path)

"""Command that writes the compiled operators to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from etp.cli.terminal import watched


def add(commands: Any) -> None:
    """Add ``build-kernels``."""
    built = commands.add_parser(
        "build-kernels",
        help="write the CPU operators to a library that torch.ops.load_library loads without etp",
    )
    built.add_argument("--out", type=Path, required=True, metavar="FILE.so")
    built.add_argument(
        "--march",
        default="native",
        help="processors it is for, as the compiler names them, such as x86-64-v3; "
        "default: this one",
    )
    built.set_defaults(run=_build)


def _build(options: argparse.Namespace) -> None:
    from etp.kernels.on_cpu import standalone

    with watched("compiling the operators"):
        standalone.write(options.out, options.march)
    print(options.out)

"""Measure the GPU kernels against the plain forms, every installed peer, and the card's limits.

``python benchmarks/gpu.py`` needs a CUDA device and nothing else running on it. In one run it
measures how fast the card copies and multiplies matrices, then all products on the same work in
interleaved rounds, each checked against the oracle first. ``docs/kernels.md`` says how to read the
table; ``--device cpu`` tries the script itself, without the kernels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import torch

from etp import measure, products
from etp.kernels.on_gpu import row_form
from etp.kernels.on_gpu.triton_source import triton_missing
from etp.problem import ITEMSIZE, Problem
from etp.product.base import TensorProduct
from etp.product.registry import register
from etp.results.rows import Row
from etp.run import case as sweep
from etp.run.devices import devices

FUSED = ("cg-sparse", "gaunt-grid", "gaunt-bracket", "complete", "vector-signal", "matrix")
TRAFFIC = {"forward": (1, 1), "backward": (3, 2), "double-backward": (6, 4)}
"""Least passes over both inputs and over the output: derivatives read and write their sizes too."""


def main() -> int:
    """Measure and print; 2 if there is nothing to measure on."""
    options = _options()
    if options.device != "cpu" and not torch.cuda.is_available():
        print("no CUDA device here: the GPU kernels cannot be measured", file=sys.stderr)
        return 2
    if options.device != "cpu" and (reason := triton_missing()) is not None:
        print(f"the GPU kernels cannot be measured: {reason}", file=sys.stderr)
        return 2
    row_form.MAX_ROWS = options.rows
    for name in FUSED:
        _register_plain(name)
    names = tuple(products.available())
    roofs = measure.roofline(options.device, ("float32", "bfloat16"))
    print(f"{devices().get(options.device, options.device)}, torch {torch.__version__}")
    print(f"copies {roofs.copy_bytes_per_s / 1e9:.0f} GB/s", end="")
    for dtype, rate in roofs.matmul_flops_per_s.items():
        print(f", {dtype} matrix products {rate / 1e12:.1f} Tflop/s", end="")
    print(
        f"\n{', '.join(sorted(set(products.names()) - set(names))) or 'no product'} not available"
    )
    for problem in _problems(options):
        _report(problem, names, options.budget, roofs.copy_bytes_per_s)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lmax", type=int, default=4, help="largest degree, from 1 (default 4)")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--dtype", choices=list(ITEMSIZE), default="float32")
    parser.add_argument("--direction", choices=list(TRAFFIC), action="append")
    parser.add_argument("--setting", choices=("MIMO", "SIMO", "SISO"), default="MIMO")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of rounds per problem")
    parser.add_argument("--rows", type=int, choices=(32, 64, 128), default=row_form.MAX_ROWS,
                        help="rows of a program of the path kernels, to tune them")  # fmt: skip
    parser.add_argument("--device", default="cuda:0")
    return parser.parse_args()


def _problems(options: argparse.Namespace) -> Iterator[Problem]:
    for lmax in range(1, options.lmax + 1):
        for direction in options.direction or TRAFFIC:
            yield Problem.of_setting(
                options.setting, lmax, batch=options.batch, channels=options.channels,
                dtype=options.dtype, direction=direction, device=options.device,
            )  # fmt: skip


def _register_plain(name: str) -> None:
    """Make the same product without its kernel a product of its own."""
    members = {
        "name": f"{name}-plain",
        "title": f"{products.get(name).title}, plain",
        "multiply_channels": TensorProduct.multiply_channels,
    }
    register(type(f"Plain{products.get(name).__name__}", (products.get(name),), members))


def _report(problem: Problem, names: tuple[str, ...], budget_s: float, copy: float) -> None:
    print(f"\n{problem.setting} lmax {problem.lmax}, {problem.channels} channels, batch "
          f"{problem.batch}, {problem.dtype}, {problem.direction}")  # fmt: skip
    print(f"{'product':24}{'ms':>10}{'quartiles':>20}{'to first':>10}{'of copy':>9}")
    case = sweep.Case(
        problem, names, reference=FUSED[0], rounds=40, budget_s=budget_s,
        questions=("agreement", "equivariance"), memory=False,
    )  # fmt: skip
    every = [row for row in sweep.run(case.as_dict()) if isinstance(row, Row)]
    rows = [row for row in every if row.measure == "runtime"]
    measured = [row for row in rows if row.result and row.measured["role"] == "product"]
    first = next((r["result"]["median_s"] for r in measured if r["product"] == FUSED[0]), None)
    for row in sorted(measured, key=lambda row: float(row.measured["median_s"])):
        print(_line(row, problem, first, copy))
    for row in rows:
        if row.result is None:
            print(f"{row['product']:24}{row['status']}: {row['reason']}")


def _line(row: Row, problem: Problem, first: float | None, copy: float) -> str:
    found = row.result
    seconds = found["median_s"]
    quartiles = f"{found['q25_s'] * 1e3:.3f} to {found['q75_s'] * 1e3:.3f}"
    ratio = f"{seconds / first:.2f}" if first else "-"
    share = least_bytes(problem, row.product) / seconds / copy
    return f"{row['product']:24}{seconds * 1e3:10.3f}{quartiles:>20}{ratio:>10}{share:9.0%}"


def least_bytes(problem: Problem, product: str) -> int:
    """Bytes that must cross the device's memory, each number read and written once a pass."""
    tp = sweep.build(problem.at(device="cpu"), product)
    inputs, outputs = TRAFFIC[problem.direction]
    numbers = inputs * (tp.irreps_in1.dim + tp.irreps_in2.dim) + outputs * tp.irreps_out.dim
    return problem.batch * ITEMSIZE[problem.dtype] * int(numbers)


if __name__ == "__main__":
    sys.exit(main())

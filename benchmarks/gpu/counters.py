"""Part five: what the card's own counters say of each product, beside what was counted."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.steps import Step, once_under
from benchmarks.gpu.timings import CHANNELS
from etp import products
from etp.measure.runtime import draw, make_call
from etp.problem import ITEMSIZE, Problem
from etp.results.rows import Row
from etp.run.case import build
from etp.run.case.questions import make_row

FLOPS = {"ffma": 2, "fadd": 1, "fmul": 1}
"""Operations of an instruction."""
_INSTRUCTIONS = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum"
METRICS = {
    "dram__bytes.sum": "bytes",
    **{_INSTRUCTIONS.format(name): name for name in FLOPS},
    "launch__registers_per_thread": "registers",
    "launch__shared_mem_per_block": "shared memory",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy, %",
    "gpu__time_duration.sum": "time, ns",
}
"""What is asked of ``ncu``, and what it is called in the table."""
COMMAND = ["ncu", "--csv", "--profile-from-start", "off", "--metrics", ",".join(METRICS)]


@dataclass(frozen=True)
class Counted:
    """Counters of one kernel in one call of a product."""

    product: str
    kernel: str
    values: dict[str, float]


def steps(device: str, batch: int, table: Path) -> Iterator[Step]:
    """One step for each product, on a problem that part four times.

    Args:
        device: Where.
        batch: Samples of a call.
        table: Where counters of each kernel are added as CSV.
    """
    problem = Problem.of_setting("MIMO", 2, batch=batch, channels=CHANNELS, device=device)
    for name in products.available():
        yield Step(f"counters {name}", problem, name, "counters",
                   partial(_asked, problem, name, table))  # fmt: skip


def once(problem: Problem, name: str) -> None:
    """One call of a product that is warm, which alone a profiler looks at."""
    tp = build(problem, name)
    x, y, _ = draw(tp, problem.batch, torch.float32, problem.device, "none", 0)
    call = make_call(tp, x, y, problem.direction)
    call.run()
    call.sync()
    watched = problem.device != "cpu"
    if watched:
        torch.cuda.profiler.start()
    call.run()
    call.sync()
    if watched:
        torch.cuda.profiler.stop()


def _asked(problem: Problem, name: str, table: Path) -> Iterator[Row]:
    if shutil.which("ncu") is None:
        reason = "ncu is not on the PATH: it comes with NVIDIA Nsight Compute"
        yield make_row(problem, name, "counters", None, status="cancelled", reason=reason)
        return
    done = once_under(COMMAND, problem.device, name, problem)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.startswith("==ERROR==")]
        raise RuntimeError(said[0] if said else f"ncu ended with {done.returncode}")
    kernels = parsed(done.stdout, name)
    if not kernels:
        raise RuntimeError("ncu saw no kernel: it needs the right to read the card's counters")
    with table.open("a", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        for counted in kernels:
            out.writerow([name, counted.kernel, *(counted.values.get(m, "") for m in METRICS)])
    cost = build(problem.at(device="cpu"), name).cost(problem.batch, ITEMSIZE[problem.dtype])
    yield make_row(
        problem, name, "cost", {"macs": cost.macs, "bytes": cost.bytes, "flops": 2 * cost.macs}
    )
    yield make_row(problem, name, "counters", totals(kernels))


def totals(kernels: Sequence[Counted]) -> dict[str, float]:
    """Bytes that crossed the card's memory and operations, of all kernels of a call."""

    def total(metric: str) -> float:
        return sum(kernel.values.get(metric, 0.0) for kernel in kernels)

    flops = sum(weight * total(_INSTRUCTIONS.format(name)) for name, weight in FLOPS.items())
    return {"bytes": total("dram__bytes.sum"), "flops": flops}


def parsed(text: str, product: str) -> list[Counted]:
    """Counters of each kernel, in the order in which they ran.

    Args:
        text: What ``ncu --csv`` prints, with lines of its own before the table.
        product: Name of the product that was run.
    """
    lines = [line for line in text.splitlines() if line.startswith('"')]
    kernels: dict[str, Counted] = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines))):
        counted = kernels.setdefault(row["ID"], Counted(product, row["Kernel Name"], {}))
        counted.values[row["Metric Name"]] = float(row["Metric Value"].replace(",", ""))
    return list(kernels.values())

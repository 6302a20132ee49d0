"""Part five: what the card's own counters say of each product, beside what was counted."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.gpu.steps import Step, once_under
from etp import products
from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.questions import make_row

METRICS = {
    "dram__bytes.sum": "bytes",
    "smsp__sass_thread_inst_executed_op_fp32_pred_on.sum": "fp32 operations",
    "launch__registers_per_thread": "registers",
    "launch__shared_mem_per_block": "shared memory",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy, %",
    "gpu__time_duration.sum": "time, ns",
}
"""What is asked of ``ncu``, and what it is called in the table."""


@dataclass(frozen=True)
class Counted:
    """Counters of one kernel in one call of a product."""

    product: str
    kernel: str
    values: dict[str, float]


def steps(device: str, table: Path) -> Iterator[Step]:
    """One step for each product; what is counted is added to ``table`` as CSV."""
    problem = Problem.of_setting("MIMO", 2, device=device)
    for name in products.available():
        yield Step(f"counters {name}", problem, name, "cost", partial(_asked, problem, name, table))


def _asked(problem: Problem, name: str, table: Path) -> Iterator[Row]:
    if shutil.which("ncu") is None:
        reason = "ncu is not on the PATH: it comes with NVIDIA Nsight Compute"
        yield make_row(problem, name, "cost", None, status="cancelled", reason=reason)
        return
    done = once_under(["ncu", "--csv", "--metrics", ",".join(METRICS)], problem.device, name)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.startswith("==ERROR==")]
        raise RuntimeError(said[0] if said else f"ncu ended with {done.returncode}")
    with table.open("a", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        for counted in parsed(done.stdout, name):
            out.writerow([name, counted.kernel, *(counted.values.get(m, "") for m in METRICS)])


def parsed(text: str, product: str) -> list[Counted]:
    """Counters of each kernel, in the order in which they ran.

    Args:
        text: What ``ncu --csv`` prints, with lines of its own before the table.
        product: Name of the product that was run.
    """
    lines = [line for line in text.splitlines() if line.startswith('"')]
    kernels: dict[str, Counted] = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines))):
        one = kernels.setdefault(row["ID"], Counted(product, row["Kernel Name"], {}))
        one.values[row["Metric Name"]] = float(row["Metric Value"].replace(",", ""))
    return list(kernels.values())

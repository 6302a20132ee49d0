"""Part two: which launch size is fastest on this card? The answer goes into the package's table."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import partial
from itertools import islice
from statistics import median

import torch

from benchmarks.gpu.steps import Step
from etp.kernels.on_gpu import launches
from etp.measure.clock import Call, group_size, time_rounds, warm_up
from etp.measure.runtime import Runtime, draw, make_call
from etp.problem import Problem
from etp.results.rows import Row
from etp.run import case as cases
from etp.run.case.questions import make_row

ROUNDS, DEGREES, BATCH, CHANNELS = 15, (1, 2, 3), 4096, 128
PRODUCT, FORCED = "cg-sparse", "ETP_LAUNCH_ROWS"


def steps(device: str) -> Iterator[Step]:
    """One step: all sizes in interleaved rounds, at each degree."""
    problem = _problem(1, device)
    yield Step("tune rows of a program", problem, PRODUCT, "runtime", partial(_tuned, device))


def _problem(lmax: int, device: str) -> Problem:
    return Problem.of_setting("MIMO", lmax, batch=BATCH, channels=CHANNELS, device=device)


def _tuned(device: str) -> Iterator[Row]:
    totals = dict.fromkeys(launches.SHAPES, 0.0)
    for lmax in DEGREES:
        problem = _problem(lmax, device)
        rounds = list(islice(_rounds(problem), ROUNDS))
        for slot, rows in enumerate(launches.SHAPES):
            blocks = [taken.blocks[slot] for taken in rounds]
            totals[rows] += median(block.value for block in blocks)
            order = [taken.order.index(slot) for taken in rounds]
            result = Runtime.of_blocks(blocks, order, 0.0, 0.0).as_result()
            extra = {"role": "product", "cache": "warm"}
            yield make_row(problem, f"{PRODUCT} {rows} rows", "runtime", result | extra)
    if device != "cpu":
        best = min(totals, key=lambda rows: totals[rows])
        launches.write(torch.cuda.get_device_name(), {"rows": best})


def _rounds(problem: Problem):  # type: ignore[no-untyped-def]
    calls = [_call(problem, rows) for rows in launches.SHAPES]
    groups = [group_size(warm_up(call).call_s) for call in calls]
    return time_rounds(calls, groups, random.Random(0))


def _call(problem: Problem, rows: int) -> Call:
    """A product whose kernels were written for one size: they are written at the first call."""
    os.environ[FORCED] = str(rows)
    try:
        tp = cases.build(problem, PRODUCT)
        dtype = getattr(torch, problem.dtype)
        call = make_call(tp, *draw(tp, problem.batch, dtype, problem.device, "none", 0)[:2])
        call.run()
        return call
    finally:
        del os.environ[FORCED]

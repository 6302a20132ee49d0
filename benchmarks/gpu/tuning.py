"""Part two: which launch size is fastest on this card? The answer goes into the package's table."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import torch

from benchmarks.gpu.steps import Step
from etp import powers, presets
from etp.irreps import widened
from etp.kernels.on_gpu import launches
from etp.measure.card import card
from etp.measure.clock import Call, Round, group_size, time_rounds, warm_up
from etp.measure.runtime import Runtime, device_sync, draw, make_call
from etp.problem import Problem
from etp.results.rows import Row
from etp.run import case as cases
from etp.run.case.questions import make_row

ROUNDS, BATCH, EDGES, CHANNELS = 15, 4096, 20_000, 128
PRODUCT = "cg-sparse"
LAYERS = ("mace-medium", "mace-large", "nequip-toluene")


def steps(device: str) -> Iterator[Step]:
    """A step for each family of kernels: all sizes in interleaved rounds, on each of its shapes."""
    # On a processor there is nothing to tune: the rehearsal is short.
    batch, count = (BATCH, EDGES) if device != "cpu" else (16, 64)
    pairs = [_pair(lmax, batch, device) for lmax in (1, 2, 3)]
    edges = [presets.layer(name).problem(batch=count, device=device) for name in LAYERS]
    for family, problems, make in (
        ("rows", pairs, _product),
        ("edge", edges, _product),
        ("power", pairs[:2], _power),
    ):
        yield Step(f"tune {family} of a program", problems[0], PRODUCT, "runtime",
                   partial(_tuned, family, problems, make))  # fmt: skip


def _pair(lmax: int, batch: int, device: str) -> Problem:
    return Problem.of_setting("MIMO", lmax, batch=batch, channels=CHANNELS, device=device)


def _tuned(
    family: str, problems: Sequence[Problem], make: Callable[[Problem], Call]
) -> Iterator[Row]:
    totals = dict.fromkeys(launches.SHAPES, 0.0)
    for problem in problems:
        rounds = list(islice(_rounds(family, problem, make), ROUNDS))
        for slot, size in enumerate(launches.SHAPES):
            blocks = [taken.blocks[slot] for taken in rounds]
            totals[size] += median(block.value for block in blocks)
            order = [taken.order.index(slot) for taken in rounds]
            result = Runtime.of_blocks(blocks, order, 0.0, 0.0).as_result()
            extra = {"role": "product", "cache": "warm"}
            # A power is no product of a problem: its times only choose.
            if family != "power":
                name = f"{PRODUCT} {size} {family}"
                yield make_row(problem, name, "runtime", result | extra)
    device = torch.device(problems[0].device)
    if device.type != "cpu":
        best = min(totals, key=lambda size: totals[size])
        launches.write(launches.card(device), {family: best})


def _rounds(family: str, problem: Problem, make: Callable[[Problem], Call]) -> Iterator[Round]:
    calls = [_forced(family, size, problem, make) for size in launches.SHAPES]
    groups = [group_size(warm_up(call).call_s) for call in calls]
    return time_rounds(calls, groups, random.Random(0))


def _forced(family: str, size: int, problem: Problem, make: Callable[[Problem], Call]) -> Call:
    """A call whose kernels have one size: recorded as a graph where there is a card."""
    name = f"ETP_LAUNCH_{family.upper()}"
    os.environ[name] = str(size)
    try:
        call = make(problem)
        call.run()
        queue = card(problem.device)
        return call if queue is None else replace(call, run=queue.graph(call.run))
    finally:
        del os.environ[name]


def _product(problem: Problem) -> Call:
    tp = cases.build(problem, PRODUCT)
    dtype = getattr(torch, problem.dtype)
    x1, x2, weights = draw(tp, problem.batch, dtype, problem.device, problem.weights, 0)
    return make_call(tp, x1, x2, weights=weights)


def _power(problem: Problem) -> Call:
    """The power of order 3 of the same features, to scalars and vectors."""
    device = torch.device(problem.device)
    kept = f"{CHANNELS}x0e+{CHANNELS}x1o"
    tp: Any = powers.get("cg")(widened(problem.irreps1, CHANNELS), order=3, irreps_out=kept)
    tp = tp.to(device)
    a = torch.randn(problem.batch, tp.irreps_in.dim, device=device)
    w = torch.randn(tp.weight_numel, device=device)

    def run() -> object:
        with torch.no_grad():
            return tp(a, w)

    return Call(run, device_sync(device))

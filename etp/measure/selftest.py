"""The harness measures itself: known durations, the same case twice, and another timer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, log

import numpy as np
import torch

from etp import products
from etp.measure.clock import Call, group_size, time_block, time_rounds, warm_up
from etp.measure.drawing import random_inputs
from etp.measure.runtime import make_call
from etp.measure.verdict import Board

KNOWN_S = 1e-3
WITHIN, AGREES = 0.02, 0.05
ROUNDS, BLOCKS = 30, 15


@dataclass(frozen=True)
class Check:
    """One question to the harness.

    Attributes:
        name: What was asked.
        answer: The answer with its numbers.
        passed: Whether it is as it should be on an idle machine.
    """

    name: str
    answer: str
    passed: bool

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.name}: {self.answer}"


def run(device: str = "cpu") -> Iterator[Check]:
    """Run every check; a busy machine may fail them, and should."""
    yield _known_duration()
    yield _overhead()
    call = _product(device)
    yield _other_timer(call)
    yield _twice(device)


def _product(device: str) -> Call:
    tp = products.get("gaunt-grid")("0e+1o+2e+3o", "0e+1o+2e+3o").to(device)
    x1, x2 = random_inputs(tp, 1000, torch.Generator().manual_seed(0), torch.float32)
    return make_call(tp, x1.to(device), x2.to(device))


def _typical(call: Call) -> float:
    group = group_size(warm_up(call).call_s)
    return float(np.median([time_block(call, group).value for _ in range(BLOCKS)]))


def _spin(seconds: float) -> Callable[[], None]:
    def wait() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    return wait


def _known_duration() -> Check:
    measured = _typical(Call(_spin(KNOWN_S)))
    error = measured / KNOWN_S - 1
    text = f"{1e3 * measured:.4f} ms measured ({error:+.2%})"
    return Check(f"a call of {1e3 * KNOWN_S:g} ms", text, abs(error) < WITHIN)


def _overhead() -> Check:
    empty = _typical(Call(lambda: None))
    share = empty / KNOWN_S
    text = f"{1e9 * empty:.0f} ns for an empty call, {share:.3%} of a millisecond"
    return Check("what the harness adds", text, share < WITHIN)


def _other_timer(call: Call) -> Check:
    """In turns with ``torch.utils.benchmark``, so that drift does not decide."""
    from torch.utils.benchmark import Timer

    timer = Timer(
        "run(); sync()",
        globals={"run": call.run, "sync": call.sync},
        num_threads=torch.get_num_threads(),
    )
    group = group_size(warm_up(call).call_s)
    ratios = []
    for _ in range(BLOCKS):
        # That timer averages over many calls, so its figure is compared with our average.
        ours = float(np.mean(time_block(call, group).samples_s))
        theirs = timer.blocked_autorange(min_run_time=0.02)
        ratios.append(log(ours / theirs.mean))
    ratio = exp(float(np.median(ratios)))
    text = f"ratio of means {ratio:.3f}, median of {BLOCKS} turns"
    return Check("agreement with torch.utils.benchmark", text, abs(log(ratio)) < AGREES)


def _twice(device: str) -> Check:
    """The same product built three times: no pair may be told apart by more than 2 %."""
    calls = [_product(device) for _ in range(3)]
    groups = [group_size(warm_up(call).call_s) for call in calls]
    times = []
    for number, taken in enumerate(time_rounds(calls, groups, random.Random(0))):
        times.append([block.value for block in taken.blocks])
        if number + 1 >= ROUNDS:
            break
    board = Board(2, (0, 2))
    (verdict,) = board.look(times)
    text = (
        f"{verdict.word}, time ratio {exp(verdict.estimate):.4f} "
        f"[{exp(verdict.low):.4f}, {exp(verdict.high):.4f}] in {ROUNDS} rounds"
    )
    told_apart = verdict.word in ("faster", "slower") and abs(verdict.estimate) > WITHIN
    return Check("the same case twice", text, not told_apart)

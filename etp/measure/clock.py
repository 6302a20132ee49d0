"""Timing blocks of calls: what is called, how long, and in which order.

Follows the calibrated procedure described in ``docs/measuring.md``: a block repeats a call until it
is long enough for the clock, its first call is thrown away, and its value is the lower quartile.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np

MIN_BLOCK_S = 4e-3
MIN_CALLS = 12
LONG_BLOCK_S = 0.1
MIN_LONG_CALLS = 3
SHORT_CALL_S = 50e-6
GROUP_S = 100e-6
WARMUP_S = 0.05
WARMUP_CALLS = 5

Clock = Callable[[], float]


@dataclass(frozen=True)
class Call:
    """Something to time.

    Attributes:
        run: The call.
        sync: Waits until the device has finished.
        prepare: Runs untimed before every timed call, such as emptying the cache.
    """

    run: Callable[[], object]
    sync: Callable[[], object] = lambda: None
    prepare: Callable[[], object] | None = None


class Block(NamedTuple):
    """Timed calls of one slot in one round.

    Attributes:
        start_s: When it started, on the clock of the run.
        samples_s: Seconds per call, in time order; short calls are timed in groups.
    """

    start_s: float
    samples_s: tuple[float, ...]

    @property
    def value(self) -> float:
        """Lower quartile: the typical undisturbed call."""
        return float(np.quantile(self.samples_s, 0.25))


class WarmUp(NamedTuple):
    """First call and what a call takes once warm, in seconds."""

    first_call_s: float
    call_s: float


def warm_up(
    call: Call,
    clock: Clock = time.perf_counter,
    *,
    seconds: float = WARMUP_S,
    calls: int = WARMUP_CALLS,
) -> WarmUp:
    """Call until ``calls`` calls and ``seconds`` have passed (2 calls if a call takes longer)."""
    first = _timed(call, 1, clock)
    spent, last, count = 0.0, first, 0
    while spent < seconds or (count < calls and spent < 4 * seconds):
        last = _timed(call, 1, clock)
        spent += last
        count += 1
    return WarmUp(first, last)


def group_size(call_s: float) -> int:
    """Calls to time together so that the clock's resolution and overhead do not matter."""
    return ceil(GROUP_S / max(call_s, 1e-7)) if call_s < SHORT_CALL_S else 1


def time_block(call: Call, group: int = 1, clock: Clock = time.perf_counter) -> Block:
    """Time one block: at least 4 ms and 12 calls, or 3 calls once 100 ms have passed."""
    start = clock()
    _timed(call, 1, clock)
    samples: list[float] = []
    spent = 0.0
    while not _long_enough(spent, len(samples)):
        seconds = _timed(call, group, clock)
        samples.append(seconds / group)
        spent += seconds
    return Block(start, tuple(samples))


def _long_enough(spent: float, samples: int) -> bool:
    if spent >= LONG_BLOCK_S:
        return samples >= MIN_LONG_CALLS
    return spent >= MIN_BLOCK_S and samples >= MIN_CALLS


def _timed(call: Call, group: int, clock: Clock) -> float:
    if call.prepare is not None:
        call.prepare()
        group = 1
    call.sync()
    start = clock()
    for _ in range(group):
        call.run()
    call.sync()
    return clock() - start


class Round(NamedTuple):
    """One block of every slot, in a fresh random order.

    Attributes:
        order: Slot numbers in the order of timing.
        blocks: One block for each slot, by slot number.
    """

    order: tuple[int, ...]
    blocks: tuple[Block, ...]


def time_rounds(
    calls: Sequence[Call],
    groups: Sequence[int],
    rng: random.Random,
    clock: Clock = time.perf_counter,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Round]:
    """Time rounds for ever; the random order makes drift of the machine a fair coin.

    Stops early, without the unfinished round, once ``cancelled()`` is true.
    """
    slots = list(range(len(calls)))
    while True:
        rng.shuffle(slots)
        blocks: dict[int, Block] = {}
        for slot in slots:
            if cancelled():
                return
            blocks[slot] = time_block(calls[slot], groups[slot], clock)
        yield Round(tuple(slots), tuple(blocks[slot] for slot in range(len(calls))))

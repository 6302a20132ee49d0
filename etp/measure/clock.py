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
from typing import Any, NamedTuple, Protocol

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


class Event(Protocol):
    """A moment in the queue of a device, such as ``torch.cuda.Event(enable_timing=True)``."""

    def record(self) -> Any:
        """Put the moment at the end of the queue."""

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from here to ``end``, both passed."""


@dataclass(frozen=True)
class Call:
    """Something to time.

    Attributes:
        run: The call.
        sync: Waits until the device has finished.
        prepare: Runs untimed before every timed call, such as emptying the cache.
        event: Makes an event of the device's queue; None where calls end when they return.
    """

    run: Callable[[], object]
    sync: Callable[[], object] = lambda: None
    prepare: Callable[[], object] | None = None
    event: Callable[[], Event] | None = None


class Timing(NamedTuple):
    """One timed call or group.

    Attributes:
        device_s: Seconds between the events around it; as ``wall_s`` where there are none.
        wall_s: Seconds until the device had finished, what a user waits for.
        enqueue_s: Seconds until the host had handed the work over.
    """

    device_s: float
    wall_s: float
    enqueue_s: float


class Block(NamedTuple):
    """Timed calls of one slot in one round.

    Attributes:
        start_s: When it started, on the clock of the run.
        samples_s: Seconds per call, in time order; short calls are timed in groups. On a device
            with a queue, the time between events on that device.
        wall_s: Seconds per call until the device had finished, lower quartile of the block.
        enqueue_share: Share of the wall time that the host needed to hand the work over; None
            where calls end when they return.
        group: Calls timed together.
    """

    start_s: float
    samples_s: tuple[float, ...]
    wall_s: float = 0.0
    enqueue_share: float | None = None
    group: int = 1

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
    """Call until ``calls`` calls and ``seconds`` have passed (2 calls if a call takes longer).

    Args:
        call: What is timed.
        clock: Seconds on a host clock.
        seconds: To pass at the least.
        calls: Calls at the least.
    """
    first = _timed(call, 1, clock).wall_s
    spent, last, count = 0.0, first, 0
    while spent < seconds or (count < calls and spent < 4 * seconds):
        last = _timed(call, 1, clock).wall_s
        spent += last
        count += 1
    return WarmUp(first, last)


def group_size(call_s: float) -> int:
    """Calls to time together so that the clock's resolution and overhead do not matter."""
    return ceil(GROUP_S / max(call_s, 1e-7)) if call_s < SHORT_CALL_S else 1


def time_block(call: Call, group: int = 1, clock: Clock = time.perf_counter) -> Block:
    """Time one block: at least 4 ms and 12 calls, or 3 calls once 100 ms have passed.

    Args:
        call: What is timed.
        group: Calls timed together.
        clock: Seconds on a host clock.
    """
    if call.prepare is not None:
        # Only the first call of a group would meet what was prepared.
        group = 1
    start = clock()
    _timed(call, 1, clock)
    taken: list[Timing] = []
    spent = 0.0
    while not _long_enough(spent, len(taken)):
        taken.append(_timed(call, group, clock))
        spent += taken[-1].wall_s
    return Block(
        start,
        tuple(timing.device_s / group for timing in taken),
        float(np.quantile([timing.wall_s / group for timing in taken], 0.25)),
        None if call.event is None else sum(timing.enqueue_s for timing in taken) / spent,
        group,
    )


def block_s(call_s: float) -> float:
    """Seconds of one block of calls that take ``call_s``, the one thrown away included.

    Examples:
        >>> block_s(0.1)
        0.4
    """
    short = max(MIN_CALLS, ceil(MIN_BLOCK_S / call_s))
    long = max(MIN_LONG_CALLS, ceil(LONG_BLOCK_S / call_s))
    return (1 + min(short, long)) * call_s


def _long_enough(spent: float, samples: int) -> bool:
    if spent >= LONG_BLOCK_S:
        return samples >= MIN_LONG_CALLS
    return spent >= MIN_BLOCK_S and samples >= MIN_CALLS


def _timed(call: Call, group: int, clock: Clock) -> Timing:
    if call.prepare is not None:
        call.prepare()
    call.sync()
    marks = None if call.event is None else (call.event(), call.event())
    start = clock()
    if marks is not None:
        marks[0].record()
    for _ in range(group):
        call.run()
    if marks is not None:
        marks[1].record()
    enqueued = clock()
    call.sync()
    wall_s = clock() - start
    device_s = wall_s if marks is None else marks[0].elapsed_time(marks[1]) / 1e3
    return Timing(device_s, wall_s, enqueued - start)


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

    Args:
        calls: One a slot.
        groups: Calls timed together, for each slot.
        rng: Of the order.
        clock: Seconds on a host clock.
        cancelled: Asked before each block whether to stop.
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

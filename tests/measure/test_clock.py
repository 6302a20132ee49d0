"""Blocks, rounds and warm-up with clocks and devices whose truth is known."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from etp.measure.clock import (
    MIN_BLOCK_S,
    MIN_CALLS,
    Call,
    block_s,
    group_size,
    time_block,
    time_rounds,
    warm_up,
)


@dataclass
class Machine:
    """A host with a clock of its own, and a device that works through a queue."""

    now: float = 0.0
    free_at: float = 0.0
    calls: int = 0
    costs: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def work(self, seconds: float) -> Call:
        def run() -> None:
            self.calls += 1
            self.now += seconds

        return Call(run)

    def queue(self, enqueue_s: float, device_s: float) -> Call:
        """Handing over takes ``enqueue_s`` of the host, the work ``device_s`` of the device."""

        def run() -> None:
            self.now += enqueue_s
            self.free_at = max(self.free_at, self.now) + device_s

        def sync() -> None:
            self.now = max(self.now, self.free_at)

        return Call(run, sync, event=lambda: Mark(self))


class Mark:
    """An event in the queue: passed once the device has done everything before it."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.at = machine, 0.0

    def record(self) -> None:
        self.at = max(self.machine.free_at, self.machine.now)

    def elapsed_time(self, end: Mark) -> float:
        return 1e3 * (end.at - self.at)


def test_a_block_lasts_long_enough_and_leaves_out_its_first_call():
    machine = Machine()
    block = time_block(machine.work(1e-4), 1, machine.clock)
    assert block.value == pytest.approx(1e-4)
    assert sum(block.samples_s) >= MIN_BLOCK_S - 1e-9
    assert len(block.samples_s) == machine.calls - 1


def test_slow_calls_end_a_block_after_three():
    machine = Machine()
    assert len(time_block(machine.work(0.2), 1, machine.clock).samples_s) == 3
    assert len(time_block(machine.work(2e-3), 1, machine.clock).samples_s) == MIN_CALLS


def test_short_calls_are_timed_in_groups_and_reported_per_call():
    machine = Machine()
    group = group_size(1e-6)
    assert group >= 100
    block = time_block(machine.work(1e-6), group, machine.clock)
    assert block.value == pytest.approx(1e-6)
    assert block.group == group
    assert group_size(1e-3) == 1


def test_the_value_of_a_block_is_not_moved_by_rare_slow_calls():
    machine = Machine()
    costs = iter([1e-3] + [1e-3, 1e-3, 1e-3, 50e-3] * 100)
    call = Call(lambda: setattr(machine, "now", machine.now + next(costs)))
    assert time_block(call, 1, machine.clock).value == pytest.approx(1e-3)


def test_cold_calls_are_prepared_untimed_and_never_grouped():
    machine = Machine()
    prepared = []

    def prepare() -> None:
        prepared.append(machine.calls)
        machine.now += 1.0

    work = machine.work(1e-5)
    block = time_block(Call(work.run, prepare=prepare), 10, machine.clock)
    assert block.value == pytest.approx(1e-5)
    assert block.group == 1
    assert prepared == list(range(machine.calls))


def test_a_device_is_timed_by_its_own_events_and_the_wall_beside():
    machine = Machine()
    block = time_block(machine.queue(1e-5, 1e-3), 4, machine.clock)
    assert block.value == pytest.approx(1e-3, rel=0.02)
    assert block.wall_s == pytest.approx((1e-5 + 4e-3) / 4)
    assert block.enqueue_share == pytest.approx(4e-5 / 4.01e-3)


def test_a_launch_bound_call_shows_as_a_share_near_one():
    machine = Machine()
    block = time_block(machine.queue(1e-3, 1e-5), 4, machine.clock)
    assert block.enqueue_share is not None
    assert block.enqueue_share > 0.95


def test_warm_up_reports_the_first_call_apart():
    machine = Machine()
    costs = iter([5.0] + [1e-2] * 100)
    found = warm_up(Call(lambda: setattr(machine, "now", machine.now + next(costs))), machine.clock)
    assert found.first_call_s == pytest.approx(5.0)
    assert found.call_s == pytest.approx(1e-2)


def test_rounds_hold_every_slot_once_in_changing_order():
    machine = Machine()
    calls = [machine.work(1e-3 * (k + 1)) for k in range(4)]
    rounds = time_rounds(calls, [1] * 4, random.Random(0), machine.clock)
    taken = [next(rounds) for _ in range(20)]
    assert len({r.order for r in taken}) > 10
    for r in taken:
        assert sorted(r.order) == [0, 1, 2, 3]
        assert [b.value for b in r.blocks] == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3])
        starts = [r.blocks[slot].start_s for slot in r.order]
        assert starts == sorted(starts)


def test_a_cancelled_round_is_not_half_kept():
    machine = Machine()
    calls = [machine.work(1e-3)] * 3
    rounds = time_rounds(
        calls, [1] * 3, random.Random(0), machine.clock, lambda: machine.now > 0.05
    )
    assert all(len(r.blocks) == 3 for r in rounds)


@pytest.mark.parametrize("call_s", [1e-4, 2e-3, 0.011, 0.04, 0.5])
def test_a_block_takes_what_is_told(call_s):
    machine = Machine()

    def run() -> None:
        machine.now += call_s

    taken = time_block(Call(run), clock=machine.clock)
    # Sums of roundoff may ask for one call more.
    assert machine.now == pytest.approx(block_s(call_s), abs=1.1 * call_s)
    assert len(taken.samples_s) >= 3

"""What a step can afford on the device at hand, from calls that were timed before: no guesses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from etp.measure.clock import WARMUP_S, block_s

SMALLEST = 64
"""Samples of the smallest call: a pilot begins there, and no call that is timed has fewer."""
GROWTH = 4
"""How much larger each call of a pilot is than the one before."""
TELLING_S = 0.02
"""Seconds of a call that say how long larger ones take: in proportion."""
CALLS = 4
"""Calls of a product before its rounds: the first, two to warm up, and one to be checked."""
ROUNDS = 6
"""Rounds that there must be time for: the pilot round, thrown away, and some that are kept."""
OF_ROUNDS = 0.5
"""Share of a step's time that its fewest rounds may take; the rest is for pilots and checks."""


@dataclass(frozen=True)
class Turn:
    """A step's turn.

    Attributes:
        seconds: What it may take.
        lost: What it tried when its process had to be ended, in earlier turns: not tried again.
        trying: Called with the name of what is tried, so that a later turn knows it.
    """

    seconds: float = math.inf
    lost: frozenset[str] = frozenset()
    trying: Callable[[str], object] = lambda name: None


FREE = Turn()
"""A turn that does not end."""


class Pilot(NamedTuple):
    """What calls took: the largest that was made tells how long larger ones take."""

    size: int
    call_s: float

    def cost(self, size: int) -> float:
        """Seconds that a product needs at the least to be timed at a size."""
        call_s = max(self.call_s * size / self.size, 1e-6)
        return CALLS * call_s + WARMUP_S + ROUNDS * block_s(call_s)


class Plan(NamedTuple):
    """What is timed.

    Attributes:
        size: Samples of each call.
        names: Products, the cheapest first behind the reference.
        left: Products that would take too long, and why.
    """

    size: int
    names: list[str]
    left: dict[str, str]


def sizes(most: int) -> Iterator[int]:
    """Sizes of a pilot's calls: from small ones up to the size that is asked for."""
    size = min(SMALLEST, most)
    while size < most:
        yield size
        size = min(most, GROWTH * size)
    yield most


def piloted(
    call: Callable[[int], Callable[[], object]],
    most: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Pilot:
    """Time larger and larger calls, until one tells how long the largest takes.

    Args:
        call: Makes a call of a size, which waits until the device has finished.
        most: The size that is asked for.
        clock: Seconds.
    """
    for size in sizes(most):
        run = call(size)
        # The first of a size compiles, plans and draws memory.
        run()
        begun = clock()
        run()
        pilot = Pilot(size, clock() - begun)
        if pilot.call_s > TELLING_S:
            break
    return pilot


def planned(pilots: Mapping[str, Pilot], most: int, seconds: float, reference: str) -> Plan:
    """Choose size and products: the size is halved until the reference has its share of the time.

    Args:
        pilots: Of each product.
        most: The size that is asked for.
        seconds: Of the whole step.
        reference: The product that is always timed; the cheapest where it has no pilot.
    """
    room = OF_ROUNDS * seconds
    order = sorted(pilots, key=lambda name: (name != reference, pilots[name].cost(most)))
    size = most
    while size > SMALLEST and pilots[order[0]].cost(size) > room / len(order):
        size = max(SMALLEST, size // 2)
    names, left, spent = [order[0]], dict[str, str](), pilots[order[0]].cost(size)
    for name in order[1:]:
        cost = pilots[name].cost(size)
        if spent + cost <= room:
            names.append(name)
            spent += cost
        else:
            left[name] = too_slow(pilots[name].call_s * size / pilots[name].size, size, seconds)
    return Plan(size, names, left)


def too_slow(call_s: float, size: int, seconds: float) -> str:
    """Reason of a product that is left out."""
    return (
        f"left out: a call on {size} samples takes about {call_s:.2g} s here, and the whole step "
        f"may take {seconds:.0f} s"
    )


def over(turn: Turn) -> str:
    """Reason of a product whose step had no time for it."""
    return f"left out: the {turn.seconds:.0f} s of the whole step were over"


def lost(names: Iterable[str], turn: Turn) -> dict[str, str]:
    """Products that are not tried again, and why."""
    reason = "left out: it did not end before its process was stopped"
    return {name: reason for name in names if name in turn.lost}

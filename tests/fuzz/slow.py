"""Whether something takes long by itself, not for what else the machine or the process does."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable

TRIES = 3
_CACHED = type(functools.cache(len))


def least_s(work: Callable[[], object], limit_s: float, clock: Callable[[], float]) -> float:
    """Least time of a work by a clock: repeated only while it is above a limit.

    Garbage of others is collected before, and what etp remembers is forgotten before every further
    try: what is slow once for each input is slow each time here.

    Args:
        work: What is done.
        limit_s: Time that a single try must keep.
        clock: Of the processor time that this process took.
    """
    taken = []
    for number in range(TRIES):
        if number:
            forget()
            gc.collect()
        collecting = gc.isenabled()
        gc.disable()
        begun = clock()
        try:
            work()
        finally:
            taken.append(clock() - begun)
            if collecting:
                gc.enable()
        if taken[-1] < limit_s:
            break
    return min(taken)


def forget() -> None:
    """Empty every cache of a function of etp."""
    for known in gc.get_objects():
        # Not isinstance: some of what there is warns when it is asked for its class.
        if type(known) is _CACHED and _ours(known):
            known.cache_clear()


def _ours(function: Callable[..., object]) -> bool:
    return str(getattr(function, "__module__", "")).startswith("etp")


def processor_s(work: Callable[[], object], limit_s: float) -> float:
    """Least processor time of a work, in seconds.

    Args:
        work: What is done.
        limit_s: As of :func:`least_s`.
    """
    return least_s(work, limit_s, time.process_time)

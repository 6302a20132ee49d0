"""What runs inside a worker process: one case at a time, its rows sent back as they appear."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

_cancelled: set[str] = set()
"""Jobs that were cancelled; asked by the running case between samples."""


def topic(job_id: str) -> str:
    """Name under which a job's rows and events are sent."""
    return f"etp-{job_id}"


def run_case(task: str, case: dict[str, Any], job_id: str, index: int) -> int:
    """Run one case and send what it yields; return the number of things sent.

    Args:
        task: ``"module:function"``; called with the case and a function that says whether the
            job was cancelled, it yields rows and events.
        case: What to measure, plain values.
        job_id: Job the case belongs to.
        index: Place of the case in its job.
    """
    from distributed import get_worker

    worker = get_worker()
    count = 0
    for item in _resolve(task)(case, lambda: job_id in _cancelled):
        # As text: lists would arrive as tuples.
        body = json.dumps(item, allow_nan=False)
        worker.log_event(topic(job_id), {"job": job_id, "index": index, "item": body})
        count += 1
    return count


def prepare(task: str) -> None:
    """Import what the task needs, so that the first case does not wait for it."""
    module = import_module(task.partition(":")[0])
    if (warm := getattr(module, "warm", None)) is not None:
        warm()


async def cancel(job_id: str) -> None:
    """Ask the running case of a job to stop at its next sample."""
    _cancelled.add(job_id)


async def die() -> None:
    """End this process at once, whatever it is doing."""
    os.kill(os.getpid(), signal.SIGKILL)


def _resolve(task: str) -> Callable[..., Iterator[Any]]:
    module, _, name = task.partition(":")
    function: Callable[..., Iterator[Any]] = getattr(import_module(module), name)
    return function

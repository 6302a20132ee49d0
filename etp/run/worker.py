"""What runs inside a worker process: one case at a time, its rows sent back as they appear."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from etp.results.rows import Row

_cancelled: set[str] = set()
"""Runs that were cancelled; asked by the running case between samples."""


def run_case(task: str, case: dict[str, Any], name: str) -> int:
    """Run one case and send what it yields; return the number of things sent.

    Args:
        task: ``"module:function"``; called with the case and a function that says whether the
            job was cancelled, it yields rows and events.
        case: What to measure, plain values.
        name: Of this run of the case, and the topic under which rows and events are sent. No two
            runs have the same, so that cancelling one can never stop another.
    """
    from distributed import get_worker

    worker = get_worker()
    count = 0
    try:
        for item in _resolve(task)(case, lambda: name in _cancelled):
            # As text: lists would arrive as tuples.
            plain = item.as_dict() if isinstance(item, Row) else item
            worker.log_event(name, json.dumps(plain, allow_nan=False))
            count += 1
    finally:
        _cancelled.discard(name)
    return count


def prepare(task: str) -> None:
    """Import what the task needs, so that the first case does not wait for it."""
    module = import_module(task.partition(":")[0])
    if (warm := getattr(module, "warm", None)) is not None:
        warm()


async def cancel(name: str) -> None:
    """Ask a running case to stop at its next sample."""
    _cancelled.add(name)


def _resolve(task: str) -> Callable[..., Iterator[Any]]:
    module, _, name = task.partition(":")
    function: Callable[..., Iterator[Any]] = getattr(import_module(module), name)
    return function

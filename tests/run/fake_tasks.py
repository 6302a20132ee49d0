"""Cases that behave and misbehave, for tests of the runner."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any


def row(product: str, problem: dict[str, Any], seconds: float = 1e-3) -> dict[str, Any]:
    return {
        "schema": 1, "id": uuid.uuid4().hex, "job": None, "group": None,
        "created": "2026-01-01T00:00:00+00:00", "product": product, "measure": "runtime",
        "problem": problem, "status": "ok", "reason": None, "badges": [],
        "result": {"median_s": seconds, "samples_s": [seconds] * 3}, "environment": {"cpu": "test"},
    }  # fmt: skip


def run(case: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Do what each product's name says, in turn."""
    for product in case["products"]:
        yield {"event": "progress", "stage": "timing", "product": product}
        yield from _BEHAVIOURS[product](product, case["problem"], cancelled)


def _quick(product: str, problem: dict[str, Any], _: Callable[[], bool]) -> Iterator[Any]:
    yield row(product, problem)


def _polite(product: str, problem: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end and not cancelled():
        threading.Event().wait(0.05)
    yield row(product, problem)


def _slow(product: str, problem: dict[str, Any], _: Callable[[], bool]) -> Iterator[Any]:
    threading.Event().wait(2)
    yield row(product, problem)


def _deaf(product: str, problem: dict[str, Any], _: Callable[[], bool]) -> Iterator[Any]:
    threading.Event().wait(60)
    yield row(product, problem)


def _suicide(product: str, problem: dict[str, Any], _: Callable[[], bool]) -> Iterator[Any]:
    threading.Event().wait(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
    yield row(product, problem)


def _error(product: str, problem: dict[str, Any], _: Callable[[], bool]) -> Iterator[Any]:
    raise RuntimeError("the device was lost")
    yield


LOST = "CUDA error: an illegal memory access was encountered"
_lost: list[str] = []
"""What a driver that lost its context says for ever, in this process."""


def _driver(product: str, problem: dict[str, Any], _: Callable[[], bool]) -> Iterator[Any]:
    """A device that answers until an error breaks its context."""
    if product.startswith("breaks"):
        _lost.append(LOST)
    if _lost and product == "breaks, raising":
        raise RuntimeError(LOST)
    if _lost:
        yield row(product, problem) | {"status": "failed", "reason": _lost[0], "result": None}
    else:
        yield row(product, problem) | {"badges": [str(os.getpid())]}


def _allocator(product: str, problem: dict[str, Any], _: Callable[[], bool]) -> Iterator[Any]:
    yield row(product, problem) | {"badges": [n for n in os.environ if n.startswith("MALLOC_")]}


_BEHAVIOURS: dict[str, Callable[..., Iterator[Any]]] = {
    "quick": _quick, "quick-2": _quick, "slow": _slow, "polite": _polite, "deaf": _deaf,
    "suicide": _suicide, "error": _error, "allocator": _allocator,
    "breaks": _driver, "breaks, raising": _driver, "answers": _driver,
}  # fmt: skip

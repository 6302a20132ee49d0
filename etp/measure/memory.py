"""How much memory does a call take beyond its inputs?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from etp.measure.graph import Measurable
from etp.measure.runtime import draw, make_call
from etp.problem import Direction, Weights

# The profiler would write lines of its own to standard error.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        peak_bytes: Largest sum of tensors alive at once that the call allocated, output included.
        table_bytes: The product's own tables.

    Examples:
        >>> Memory(peak_bytes=640, table_bytes=0).peak_bytes
        640
    """

    peak_bytes: int
    table_bytes: int


def peak_memory(
    tp: Measurable,
    *,
    batch: int = 1000,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    direction: Direction = "forward",
    weights: Weights = "none",
    seed: int = 0,
) -> Memory:
    """Follow the allocations of one untimed call, after a first one that builds what is cached.

    Args:
        tp: A product, or a convolution on a graph.
        batch: Samples, or edges.
        dtype: What it computes in.
        device: ``"cpu"`` or ``"cuda:N"``.
        direction: Forward alone, or with derivatives.
        weights: Whether there are weights, and whether each sample has its own.
        seed: Of inputs and weights.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> measure.peak_memory(tp, batch=10).peak_bytes >= 4 * 10 * tp.irreps_out.dim
        True
    """
    x1, x2, free = draw(tp, batch, dtype, device, weights, seed)
    call = make_call(tp.to(device), x1, x2, direction, weights=free)
    call.run()
    call.sync()
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call.run()
        call.sync()
        return Memory(torch.cuda.max_memory_allocated(device) - before, tp.table_bytes)
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as recorded:
        result: Any = call.run()
        del result
    return Memory(_peak(recorded), tp.table_bytes)


def _peak(recorded: profile) -> int:
    """Largest running sum of the allocations and releases, in the order of time."""
    results: Any = getattr(recorded.profiler, "kineto_results", None)
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]"
    )
    peak = total = 0
    for _, change in changes:
        total += change
        peak = max(peak, total)
    return peak

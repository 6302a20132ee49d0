"""How long does a call take?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from etp.measure.clock import Block, Call, Clock, group_size, time_rounds, warm_up
from etp.problem import Cache, Direction, Weights
from etp.product import TensorProduct

CPU_FLUSH_BYTES = 64 << 20
"""Written before each call of a cold measurement on a CPU: more than its last-level cache share."""


@dataclass(frozen=True)
class Runtime:
    """Seconds per call, every timed call kept.

    Attributes:
        samples_s: All timed calls in time order (short calls are timed in groups).
        blocks_s: Lower quartile of each block, one block a round.
        block_calls: Timed calls in each block.
        start_s: When each block started, from the start of the run.
        order: Place of this product within each round.
        first_call_s: The very first call: compilation, plans and page faults included.
    """

    samples_s: tuple[float, ...]
    blocks_s: tuple[float, ...]
    block_calls: tuple[int, ...]
    start_s: tuple[float, ...]
    order: tuple[int, ...]
    first_call_s: float

    @property
    def median_s(self) -> float:
        """Median of all timed calls."""
        return float(np.median(self.samples_s))

    @property
    def q25_s(self) -> float:
        """Lower quartile of all timed calls."""
        return float(np.quantile(self.samples_s, 0.25))

    @property
    def q75_s(self) -> float:
        """Upper quartile of all timed calls."""
        return float(np.quantile(self.samples_s, 0.75))

    @classmethod
    def of_blocks(
        cls, blocks: list[Block], order: list[int], first_call_s: float, origin: float
    ) -> Runtime:
        """Collect the blocks of one slot."""
        return cls(
            tuple(sample for block in blocks for sample in block.samples_s),
            tuple(block.value for block in blocks),
            tuple(len(block.samples_s) for block in blocks),
            tuple(block.start_s - origin for block in blocks),
            tuple(order),
            first_call_s,
        )

    def as_result(self) -> dict[str, Any]:
        """Result of a row."""
        return {
            "median_s": self.median_s,
            "q25_s": self.q25_s,
            "q75_s": self.q75_s,
            "samples_s": list(self.samples_s),
            "blocks_s": list(self.blocks_s),
            "block_calls": list(self.block_calls),
            "start_s": list(self.start_s),
            "order": list(self.order),
            "first_call_s": self.first_call_s,
            "rounds": len(self.blocks_s),
        }


def draw(
    tp: TensorProduct,
    batch: int,
    dtype: torch.dtype,
    device: str,
    weights: Weights = "none",
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Random inputs and weights, on a device."""
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = tp.random_inputs(batch, generator, dtype)
    free = tp.random_weights(weights, batch, generator, dtype)
    return x1.to(device), x2.to(device), None if free is None else free.to(device)


def make_call(
    tp: TensorProduct,
    x1: Tensor,
    x2: Tensor,
    direction: Direction = "forward",
    cache: Cache = "warm",
    weights: Tensor | None = None,
) -> Call:
    """What is timed: the product, or it together with its derivatives by inputs and weights."""
    inputs = (x1, x2) if weights is None else (x1, x2, weights)
    run = _DIRECTIONS[direction](tp, inputs)
    return Call(run, _sync(x1.device), _flush(x1.device) if cache == "cold" else None)


Inputs = tuple[Tensor, ...]


def _forward(tp: TensorProduct, inputs: Inputs) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return tp(*inputs)

    return run


def _free(inputs: Inputs) -> Inputs:
    return tuple(x.detach().requires_grad_() for x in inputs)


def _backward(tp: TensorProduct, inputs: Inputs) -> Callable[[], object]:
    free = _free(inputs)
    grad = torch.randn_like(tp(*free).detach())
    return lambda: torch.autograd.grad(tp(*free), free, grad)


def _double_backward(tp: TensorProduct, inputs: Inputs) -> Callable[[], object]:
    free = _free(inputs)
    grad = torch.randn_like(tp(*free).detach()).requires_grad_()
    seconds = tuple(torch.randn_like(x) for x in free)

    def run() -> object:
        firsts = torch.autograd.grad(tp(*free), free, grad, create_graph=True)
        return torch.autograd.grad(firsts, (*free, grad), seconds)

    return run


_DIRECTIONS: dict[Direction, Callable[[TensorProduct, Inputs], Callable[[], object]]] = {
    "forward": _forward,
    "backward": _backward,
    "double-backward": _double_backward,
}


def _sync(device: torch.device) -> Callable[[], object]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def _flush(device: torch.device) -> Callable[[], object]:
    """Overwrite more memory than the cache holds: twice the L2 that a GPU reports."""
    size = CPU_FLUSH_BYTES
    if device.type == "cuda":
        size = 2 * int(torch.cuda.get_device_properties(device).L2_cache_size)
    buffer = torch.empty(size, dtype=torch.int8, device=device)
    return buffer.zero_


def measure_runtime(
    tp: TensorProduct,
    *,
    batch: int = 1000,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    direction: Direction = "forward",
    cache: Cache = "warm",
    weights: Weights = "none",
    rounds: int = 30,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Runtime:
    """Time one product by itself: first call apart, warm-up by time, ``rounds`` blocks.

    To compare products, time them together in interleaved rounds (:mod:`etp.sweep`): two runs
    minutes apart differ by more than most effects.

    Raises:
        ValueError: If ``batch`` or ``rounds`` is below 1.
    """
    if batch < 1 or rounds < 1:
        raise ValueError(f"batch and rounds must be at least 1, got {batch} and {rounds}")
    x1, x2, free = draw(tp, batch, dtype, device, weights, seed)
    call = make_call(tp.to(device), x1, x2, direction, cache, free)
    origin = clock()
    warm = warm_up(call, clock)
    group = group_size(warm.call_s)
    taken = list(islice(time_rounds([call], [group], random.Random(seed), clock), rounds))
    blocks = [r.blocks[0] for r in taken]
    return Runtime.of_blocks(blocks, [0] * len(blocks), warm.first_call_s, origin)

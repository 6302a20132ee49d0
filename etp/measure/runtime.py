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

from etp.measure.card import card
from etp.measure.clock import Block, Call, Clock, Event, group_size, time_rounds, warm_up
from etp.measure.drawing import random_inputs, random_weights
from etp.measure.graph import Measurable
from etp.measure.timed import as_timed
from etp.problem import Cache, Direction, Weights

CLOCK_STEP_S = time.get_clock_info("perf_counter").resolution
EVENT_STEP_S = 0.5e-6
"""Resolution of a CUDA event's time stamp, as CUDA's documentation gives it."""

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
        walls_s: Seconds per call until the device had finished, one for each block; on a CPU the
            same as ``blocks_s``.
        enqueue_share: Share of that time that the host needed to hand the work over; None on a CPU.
        group: Calls timed together.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> runtime = measure.measure_runtime(tp, batch=8, rounds=2)
        >>> runtime.q25_s <= runtime.median_s <= runtime.q75_s
        True
    """

    samples_s: tuple[float, ...]
    blocks_s: tuple[float, ...]
    block_calls: tuple[int, ...]
    start_s: tuple[float, ...]
    order: tuple[int, ...]
    first_call_s: float
    walls_s: tuple[float, ...]
    enqueue_share: float | None
    group: int

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
        """Collect the blocks of one slot.

        Args:
            blocks: One a round.
            order: Place of the slot within each round.
            first_call_s: Seconds of the first call.
            origin: When the run started, on the clock of the blocks.
        """
        shares = [block.enqueue_share for block in blocks if block.enqueue_share is not None]
        return cls(
            tuple(sample for block in blocks for sample in block.samples_s),
            tuple(block.value for block in blocks),
            tuple(len(block.samples_s) for block in blocks),
            tuple(block.start_s - origin for block in blocks),
            tuple(order),
            first_call_s,
            tuple(block.wall_s for block in blocks),
            None if not shares else float(np.median(shares)),
            blocks[0].group,
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
            "walls_s": list(self.walls_s),
            "enqueue_share": self.enqueue_share,
            "group": self.group,
            "clock_step_s": CLOCK_STEP_S if self.enqueue_share is None else EVENT_STEP_S,
            "rounds": len(self.blocks_s),
        }


def draw(
    tp: Measurable,
    batch: int,
    dtype: torch.dtype,
    device: str,
    weights: Weights = "none",
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Random inputs and weights, on a device.

    Args:
        tp: What is measured.
        batch: Samples, or edges.
        dtype: Of what is drawn.
        device: Where it lies.
        weights: Whether there are weights, and whether each sample has its own.
        seed: Of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = random_inputs(tp, batch, generator, dtype)
    free = random_weights(tp, weights, batch, generator, dtype)
    return x1.to(device), x2.to(device), None if free is None else free.to(device)


def make_call(
    tp: Measurable,
    x1: Tensor,
    x2: Tensor,
    direction: Direction = "forward",
    cache: Cache = "warm",
    weights: Tensor | None = None,
) -> Call:
    """What is timed: the product, or it together with its derivatives by inputs and weights.

    A library is called in its own layout, which the inputs are brought to beforehand.

    Args:
        tp: What is measured.
        x1: First input, on its device.
        x2: Second input.
        direction: Which derivatives are computed too.
        cache: Whether caches are cold before each call.
        weights: Free weights, or None.
    """
    with torch.no_grad():
        work = as_timed(tp)
        inputs = work.inputs(x1, x2, weights)
    run = DIRECTIONS[direction](work.call, inputs)
    flush = _flush(x1.device) if cache == "cold" else None
    return Call(run, device_sync(x1.device), flush, _event(x1.device))


Function = Callable[..., Tensor]
Inputs = tuple[Tensor, ...]


def _forward(function: Function, inputs: Inputs) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return function(*inputs)

    return run


class _Gradient:
    """Gradient of an output, drawn in the first call: nothing needs to be called before it."""

    def __init__(self, *, requires_grad: bool) -> None:
        self._requires_grad = requires_grad
        self._drawn: Tensor | None = None

    def __call__(self, z: Tensor) -> Tensor:
        if self._drawn is None:
            self._drawn = torch.randn_like(z.detach()).requires_grad_(self._requires_grad)
        return self._drawn


def _backward(function: Function, inputs: Inputs) -> Callable[[], object]:
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    drawn = _Gradient(requires_grad=False)

    def run() -> object:
        z = function(*inputs)
        return torch.autograd.grad(z, inputs, drawn(z))

    return run


def _double_backward(function: Function, inputs: Inputs) -> Callable[[], object]:
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    seconds = tuple(torch.randn_like(x) for x in inputs)
    drawn = _Gradient(requires_grad=True)

    def run() -> object:
        z = function(*inputs)
        grad = drawn(z)
        firsts = torch.autograd.grad(z, inputs, grad, create_graph=True)
        return torch.autograd.grad(firsts, (*inputs, grad), seconds)

    return run


DIRECTIONS: dict[Direction, Callable[[Function, Inputs], Callable[[], object]]] = {
    "forward": _forward,
    "backward": _backward,
    "double-backward": _double_backward,
}
"""What is called over and over, for each direction."""


def device_sync(device: torch.device) -> Callable[[], object]:
    """What waits until ``device`` has finished."""
    queue = card(device)
    return (lambda: None) if queue is None else queue.synchronise


def _event(device: torch.device) -> Callable[[], Event] | None:
    queue = card(device)
    return None if queue is None else queue.event


def _flush(device: torch.device) -> Callable[[], object]:
    """Overwrite more memory than the cache holds: twice the L2 that a GPU reports."""
    queue = card(device)
    size = CPU_FLUSH_BYTES if queue is None else 2 * queue.cache_bytes()
    buffer = torch.empty(size, dtype=torch.int8, device=device)
    return buffer.zero_


def measure_runtime(
    tp: Measurable,
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

    To compare products, time them together in interleaved rounds (:mod:`etp.run.case`): two runs
    minutes apart differ by more than most effects.

    Args:
        tp: A product, or a convolution on a graph.
        batch: Samples, or edges.
        dtype: What it computes in.
        device: ``"cpu"`` or ``"cuda:N"``.
        direction: Forward alone, or with derivatives.
        cache: Whether caches are cold before each call.
        weights: Whether there are weights, and whether each sample has its own.
        rounds: Blocks of calls.
        seed: Of inputs and weights.
        clock: Seconds on a host clock.

    Raises:
        ValueError: If ``batch`` or ``rounds`` is below 1.

    Examples:
        >>> from etp import measure, products
        >>> tp = products.get("cg-sparse")("0e+1o", "0e+1o")
        >>> measure.measure_runtime(tp, batch=8, rounds=2).median_s > 0
        True
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

"""Roofs of the device at hand: how fast it copies and how fast it multiplies matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from etp.measure.clock import Call, group_size, time_block, warm_up
from etp.measure.runtime import device_sync

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Roofline:
    """Measured limits, best block of several.

    Attributes:
        copy_bytes_per_s: Bytes read and written per second by a large copy.
        matmul_flops_per_s: Operations per second of a large matrix product, by dtype.
        fresh_bytes_per_s: Bytes written per second to memory that was allocated for it, page
            faults included; None on a GPU, whose allocator keeps its memory.

    Examples:
        >>> limits = Roofline(copy_bytes_per_s=2e10, matmul_flops_per_s={"float32": 1e11})
        >>> limits.matmul_flops_per_s["float32"] / limits.copy_bytes_per_s
        5.0
    """

    copy_bytes_per_s: float
    matmul_flops_per_s: dict[str, float]
    fresh_bytes_per_s: float | None = None


def roofline(
    device: str = "cpu", dtypes: tuple[str, ...] = ("float32", "float64"), blocks: int = 5
) -> Roofline:
    """Measure copy bandwidth and matrix-product rate with the threads in force now.

    Args:
        device: ``"cpu"`` or ``"cuda:N"``.
        dtypes: Number types of the matrix products.
        blocks: Blocks of calls; the best counts.

    Examples:
        >>> from etp import measure
        >>> measure.roofline(dtypes=("float32",), blocks=1).copy_bytes_per_s > 0
        True
    """
    on_gpu = torch.device(device).type == "cuda"
    numbers, side = (1 << 28, 8192) if on_gpu else (1 << 25, 1024)
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), device, blocks)
    rates = {}
    for name in dtypes:
        a = torch.randn(side, side, device=device).to(DTYPES[name])
        out = torch.empty_like(a)
        rates[name] = (
            2 * side**3 / _best(lambda a=a, out=out: torch.mm(a, a, out=out), device, blocks)
        )
    if on_gpu:
        return Roofline(2 * 4 * numbers / copy, rates)
    fresh = _best(lambda: torch.ones(numbers), device, blocks)
    return Roofline(2 * 4 * numbers / copy, rates, 4 * numbers / fresh)


def _best(run: object, device: str, blocks: int) -> float:
    call = Call(run, device_sync(torch.device(device)))  # type: ignore[arg-type]
    group = group_size(warm_up(call).call_s)
    return min(time_block(call, group).value for _ in range(blocks))

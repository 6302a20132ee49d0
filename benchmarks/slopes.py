"""Growth of cost with lmax: measured slopes beside those of the counted multiply-adds and bytes.

``python -m benchmarks.slopes`` times every product that runs here in MIMO, interleaved, and prints
d log(time) / d log(lmax) over the upper half of the degrees with the slopes of what it must do over
the same degrees, and the exponent that the counts reach for large lmax.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass

import numpy as np
import torch

from etp import products
from etp.irreps import setting_irreps
from etp.measure.drawing import random_inputs
from etp.measure.exponents import mimo_exponent
from etp.product.base import TensorProduct

CLOSE = 0.7


@dataclass(frozen=True)
class Slope:
    """Slopes against log lmax of one product over the degrees measured."""

    name: str
    time: float
    macs: float
    bytes: float


def build(name: str, lmax: int) -> TensorProduct:
    """One product in MIMO."""
    first, second, keep = setting_irreps("MIMO", lmax)
    return products.get(name)(first, second, filter_ir_out=keep)


def measure(
    names: list[str], degrees: list[int], batch: int, rounds: int
) -> dict[str, list[float]]:
    """Lower quartile of the time of a call, by product and degree, rounds interleaved."""
    calls = []
    for name in names:
        for lmax in degrees:
            tp = build(name, lmax)
            inputs = random_inputs(tp, batch, torch.Generator().manual_seed(0), torch.float32)
            calls.append((name, tp, inputs))
    times: list[list[float]] = [[] for _ in calls]
    with torch.no_grad():
        for _ in range(rounds):
            for number in random.sample(range(len(calls)), len(calls)):
                _, tp, inputs = calls[number]
                tp(*inputs)
                start = time.perf_counter()
                tp(*inputs)
                times[number].append(time.perf_counter() - start)
    quartiles: dict[str, list[float]] = {name: [] for name in names}
    for (name, _, _), taken in zip(calls, times, strict=True):
        quartiles[name].append(float(np.quantile(taken, 0.25)))
    return quartiles


def slope(degrees: list[int], values: list[float]) -> float:
    """Least squares slope of log values against log degrees."""
    return float(np.polyfit(np.log(degrees), np.log(values), 1)[0])


def sentence(s: Slope) -> str:
    """Why a measured slope is not that of the multiply-adds, from the counts."""
    if abs(s.time - s.macs) < CLOSE:
        return "follows its multiply-adds"
    if abs(s.time - s.bytes) < CLOSE:
        return "grows as its bytes do: arithmetic does not decide at these degrees"
    if s.time < min(s.macs, s.bytes):
        return "grows slower than what it does: cost of the call and short vectors fade with lmax"
    if s.time > max(s.macs, s.bytes):
        return "grows faster than what it does: what it holds outgrows a cache, or fresh pages"
    return "between its bytes and its multiply-adds: neither decides alone"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lmax", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--product", nargs="*", help="only these")
    parser.add_argument("--threads", type=int, default=1, help="one is steadiest")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    degrees = list(range(max(1, options.lmax // 2), options.lmax + 1))
    names = options.product or products.available()
    times = measure(names, degrees, options.batch, options.rounds)
    print(
        f"MIMO, batch {options.batch}, float32, threads {options.threads}, "
        f"lmax {degrees[0]} to {degrees[-1]}\n"
    )
    print("| product | measured | multiply-adds, same lmax | bytes, same lmax | large lmax | |")
    print("|---|---|---|---|---|---|")
    for name in names:
        built = [build(name, lmax) for lmax in degrees]
        measured = Slope(
            name,
            slope(degrees, times[name]),
            slope(degrees, [tp.run_macs() for tp in built]),
            slope(degrees, [tp.cost(1, 4).bytes for tp in built]),
        )
        limit = mimo_exponent(name)
        reached = "" if limit is None else str(limit)
        print(
            f"| {name} | {measured.time:.1f} | {measured.macs:.1f} | {measured.bytes:.1f} "
            f"| {reached} | {sentence(measured)} |"
        )


if __name__ == "__main__":
    main()

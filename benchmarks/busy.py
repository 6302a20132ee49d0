"""What one busy neighbour costs: every product, e3nn and JAX, beside themselves on a quiet machine.

``python -m benchmarks.busy`` times blocks of calls in rounds, first with the neighbours at rest and
then with them at work, and prints the table: MIMO products, or with ``--layers`` the edge products,
convolutions and powers of published layers. JAX takes part in the former if ``--peer-python`` has
it. Run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from benchmarks.peers import Match, Work
from etp import presets, products
from etp.irreps import setting_irreps
from etp.measure.drawing import random_inputs
from etp.measure.runtime import draw
from etp.problem import Kind
from etp.run.case import build

TARGET = 3.0
"""The busy median may be so many times the quiet one."""
BATCH = 10_000
EDGES = 1000
"""Edges, or nodes, of a layer."""
BLOCK_S = 0.15
"""Many time slices of the system, which are a few milliseconds."""
SETTLE_S = 0.02

Block = Callable[[float], list[float]]
"""Calls something for so many seconds: the seconds of each call."""


@dataclass
class Times:
    """Seconds of calls."""

    quiet: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def row(self, work: str, name: str) -> str:
        """Line of the table."""
        median = float(np.median(self.quiet))
        ratio, mean = np.median(self.busy) / median, np.mean(self.busy) / np.mean(self.quiet)
        slowest = np.quantile(self.busy, 0.95) / median
        verdict = "met" if ratio <= TARGET else "missed"
        return (
            f"| {name} | {work} | {1e6 * median:.0f} | {ratio:.2f} | {mean:.2f} | {slowest:.1f} "
            f"| {verdict} |"
        )


class Neighbours:
    """Processes that do nothing but use their core, while they are let."""

    def __init__(self, count: int) -> None:
        code = "while True: pass"
        self._processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
        self._send(signal.SIGSTOP)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let them run inside."""
        self._send(signal.SIGCONT)
        time.sleep(SETTLE_S)
        try:
            yield
        finally:
            self._send(signal.SIGSTOP)
            time.sleep(SETTLE_S)

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait()

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(number)


def product(name: str, lmax: int) -> Block:
    """One of our products, as users call it."""
    irreps1, irreps2, keep = setting_irreps("MIMO", lmax)
    tp = products.get(name)(irreps1, irreps2, filter_ir_out=keep)
    x, y = random_inputs(tp, BATCH, torch.Generator().manual_seed(0), torch.float32)

    return timed(lambda: tp(x, y))


def timed(call: Callable[[], object]) -> Block:
    """Calls something without gradients."""

    def block(seconds: float) -> list[float]:
        taken = []
        end = time.perf_counter() + seconds
        with torch.no_grad():
            while not taken or time.perf_counter() < end:
                start = time.perf_counter()
                call()
                taken.append(time.perf_counter() - start)
        return taken

    return block


def of_layer(name: str) -> Iterator[tuple[str, str, Block]]:
    """What a published layer runs, ours and e3nn's: kind, product and call."""
    own = presets.layer(name).problem()
    kinds: tuple[Kind, ...] = ("power",) if own.kind == "power" else ("edge", "convolution")
    for kind in kinds:
        problem = presets.layer(name).problem(kind, batch=EDGES)
        for product_name in presets.advised(kind):
            try:
                tp = build(problem, product_name)
            except ValueError as error:
                print(f"{product_name}, {name}: left out: {error}", file=sys.stderr)
                continue
            x, y, w = draw(tp, EDGES, torch.float32, "cpu", problem.weights, problem.seed)
            yield kind, product_name, timed(partial(tp, x, y, w))


def of_jax(match: Match, lmax: int) -> dict[str, Block]:
    """JAX products by name, in their own process."""
    where, notes = match._make(
        Work("cg", "MIMO", lmax, BATCH, "forward"), {"torch": "", "ours": ""}
    )
    for name, note in notes.items():
        if note:
            print(f"{name}, lmax {lmax}: left out: {note}", file=sys.stderr)

    def block_of(name: str) -> Block:
        def block(seconds: float) -> list[float]:
            once = match.contestants["jax"].ask(do="time", name=name, calls=2)["seconds"]
            calls = max(1, int(seconds / min(once)))
            times: list[float] = match.contestants["jax"].ask(do="time", name=name, calls=calls)[
                "seconds"
            ]
            return times

        return block

    return {f"jax: {name}": block_of(name) for name in where}


def measured(blocks: dict[str, Block], rounds: int, neighbours: Neighbours) -> dict[str, Times]:
    """Quiet and busy blocks of everybody in turn."""
    times = {name: Times() for name in blocks}
    for block in blocks.values():
        block(SETTLE_S)
    for _ in range(rounds):
        for name, block in blocks.items():
            times[name].quiet += block(BLOCK_S)
            with neighbours.running():
                times[name].busy += block(BLOCK_S)
    return times


def works(options: argparse.Namespace, match: Match) -> Iterator[tuple[str, dict[str, Block]]]:
    """What is timed side by side, by name."""
    for name in options.layers:
        blocks: dict[str, dict[str, Block]] = {}
        for kind, product_name, block in of_layer(name):
            blocks.setdefault(kind, {})[product_name] = block
        for kind, side_by_side in blocks.items():
            yield f"{name} {kind}, {EDGES}", side_by_side
    for lmax in () if options.layers else options.lmax:
        ours = {name: product(name, lmax) for name in products.available()}
        yield f"MIMO lmax {lmax}, {BATCH}", ours | of_jax(match, lmax)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with JAX")
    parser.add_argument("--neighbours", type=int, default=1, help="busy processes")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--lmax", type=int, nargs="+", default=[2, 4])
    parser.add_argument(
        "--layers", nargs="+", choices=list(presets.LAYERS), default=[], metavar="LAYER"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    match = Match(options.peer_python, options.threads)
    neighbours = Neighbours(options.neighbours)
    print(f"{options.threads} threads, {options.neighbours} busy neighbours")
    print("| product | work | quiet, µs | busy, median | mean | 95 % | at most 3 |")
    print("|---|---|---|---|---|---|---|")
    try:
        for work, blocks in works(options, match):
            for name, times in measured(blocks, options.rounds, neighbours).items():
                print(times.row(work, name), flush=True)
    finally:
        neighbours.close()
        match.close()


if __name__ == "__main__":
    main()

"""Whether a change made products slower: this checkout beside another one, in the same rounds.

``python -m benchmarks.between CHECKOUT`` times every product of ours that both have, float32, MIMO,
in processes of their own: CHECKOUT, this one, and this one once more (its twin, which shows the
noise: where memory fell is a process's luck, not the code's). In each round all three time a block
of calls in random order; the ratios are the centers of the paired log differences, with their 95 %
intervals. ``slower`` and ``faster`` are said only where both whole intervals, this checkout's and
its twin's over the other, lie beyond the share that ``--within`` allows.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers import BLOCK_S, ERROR, HERE, Contestant
from etp import products
from etp.irreps import Setting, setting_irreps
from etp.measure import statistic
from etp.processor import name as processor
from etp.product.base import TensorProduct
from etp.products._library import LibraryProduct

BATCHES, DEGREES = (100, 10000), (2, 4)
SETTING: Setting = "MIMO"


class Case(NamedTuple):
    """What is timed."""

    name: str
    lmax: int
    batch: int
    direction: str


class Ratio(NamedTuple):
    """Times of one contestant over those of another, and its interval."""

    center: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.center:.3f} ({self.low:.3f} to {self.high:.3f})"


def cases() -> Iterator[Case]:
    """Every product of ours at some sizes, forward and with both gradients."""
    own = [
        name for name in products.names()
        if not issubclass(products.get(name), LibraryProduct)
        and products.get(name).unavailable() is None
    ]  # fmt: skip
    for name, lmax, batch, way in product(own, DEGREES, BATCHES, ("forward", "backward")):
        yield Case(name, lmax, batch, way)


def timed(case: Case, sides: dict[str, Contestant], rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds of each side's blocks by round; ``failed`` where one cannot make the product."""
    first, second, keep = setting_irreps(SETTING, case.lmax)
    tp: TensorProduct = products.get(case.name)(first, second, filter_ir_out=keep)
    rng = np.random.default_rng(0)
    files = {}
    for key, dim in (("x", tp.irreps_in1.dim), ("y", tp.irreps_in2.dim)):
        files[key] = str(folder / f"{key}.npy")
        np.save(files[key], rng.standard_normal((case.batch, dim), dtype=np.float32))
    work = {"operation": case.name, "irreps1": first, "irreps2": second, "keep": keep,
            "direction": case.direction}  # fmt: skip
    pilot = 0.0
    for name, side in sides.items():
        answer = side.ask(do="make", work=work, **files)
        if case.name not in answer.get("made", ()):
            return {"failed": f"{name}: {answer.get('failed')}"}
        pilot = max(pilot, *side.ask(do="time", name=case.name, calls=3)["seconds"])
    calls = max(1, math.ceil(BLOCK_S / pilot))
    blocks: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name in random.sample(list(sides), len(sides)):
            answer = sides[name].ask(do="time", name=case.name, calls=calls)
            blocks[name].append(float(np.quantile(answer["seconds"], 0.25)))
    return blocks


def ratio(seconds: list[float], base: list[float]) -> Ratio:
    """Paired within rounds."""
    d = np.log(np.asarray(seconds) / np.asarray(base))
    low, high = statistic.interval(d, ERROR)
    return Ratio(*(math.exp(float(v)) for v in (statistic.estimate(d), low, high)))


def verdict(this: Ratio, twin: Ratio, within: float) -> str:
    """What both whole intervals say."""
    if min(this.low, twin.low) > 1 + within:
        return "slower"
    return "faster" if max(this.high, twin.high) < 1 - within else ""


def main() -> None:
    """Print a table, a row for each case, and what it comes to."""
    parser = argparse.ArgumentParser(
        prog="between.py", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("checkout", type=Path, help="the other one, such as the state before")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--within", type=float, default=0.05, help="share that is no change")
    parser.add_argument("--products", default="", help="names with commas between; all by default")
    options = parser.parse_args()
    asked = set(filter(None, options.products.split(",")))
    print(f"{processor()}, {options.threads} threads, float32, {SETTING}, {options.rounds} rounds")
    print("this checkout over the other (95 %), and its twin over it\n")
    counts = dict.fromkeys(("slower", "faster", ""), 0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = {"other": options.checkout.resolve(), "this": HERE.parent, "twin": HERE.parent}
        sides = {
            name: stack.enter_context(
                closing(Contestant(sys.executable, "every", options.threads, place))
            )
            for name, place in places.items()
        }
        for case in cases():
            if asked and case.name not in asked:
                continue
            blocks = timed(case, sides, options.rounds, folder)
            label = f"{case.name:22s} lmax {case.lmax} batch {case.batch:<6d} {case.direction:8s}"
            if "failed" in blocks:
                print(label, blocks["failed"], flush=True)
                continue
            this = ratio(blocks["this"], blocks["other"])
            twin = ratio(blocks["twin"], blocks["other"])
            said = verdict(this, twin, options.within)
            counts[said] += 1
            print(f"{label} {this}   twin {twin}   {said}", flush=True)
    print(f"\n{counts['slower']} slower, {counts['faster']} faster, {counts['']} within "
          f"{100 * options.within:g} % or not decided")  # fmt: skip


if __name__ == "__main__":
    main()

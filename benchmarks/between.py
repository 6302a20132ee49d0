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

from benchmarks.paired import Ratio, ratio
from benchmarks.peers import BLOCK_S, HERE, Contestant, drawn
from etp import products
from etp.irreps import Setting, setting_irreps
from etp.processor import name as processor
from etp.product.base import TensorProduct

BATCHES, DEGREES = (100, 10000), (2, 4)
SETTING: Setting = "MIMO"


class Case(NamedTuple):
    """What is timed."""

    name: str
    lmax: int
    batch: int
    direction: str


def cases() -> Iterator[Case]:
    """Every product of ours at some sizes, forward and with both gradients."""
    for name, lmax, batch, way in product(
        products.own(), DEGREES, BATCHES, ("forward", "backward")
    ):
        yield Case(name, lmax, batch, way)


def timed(case: Case, sides: dict[str, Contestant], rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds of each side's blocks by round; ``failed`` where one cannot make the product."""
    first, second, keep = setting_irreps(SETTING, case.lmax)
    tp: TensorProduct = products.get(case.name)(first, second, filter_ir_out=keep)
    files = drawn(tp, case.batch, folder)
    work = {"operation": case.name, "irreps1": first, "irreps2": second, "keep": keep,
            "direction": case.direction}  # fmt: skip
    pilot = 0.0
    for name, side in sides.items():
        answer = side.ask(do="make", work=work, **files)
        if case.name not in answer.get("made", ()):
            return {"failed": f"{name}: {answer.get('failed')}"}
        pilot = max(pilot, side.block(case.name, 3))
    calls = max(1, math.ceil(BLOCK_S / pilot))
    blocks: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name in random.sample(list(sides), len(sides)):
            blocks[name].append(sides[name].block(case.name, calls))
    return blocks


def verdict(this: Ratio, twin: Ratio, within: float) -> str:
    """What both whole intervals say."""
    if min(this.low, twin.low) > 1 + within:
        return "slower"
    return "faster" if max(this.high, twin.high) < 1 - within else ""


def _text(of: Ratio) -> str:
    return f"{of.center:.3f} ({of.low:.3f} to {of.high:.3f})"


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
            logs = {name: np.log(seconds) for name, seconds in blocks.items()}
            this, twin = (ratio(logs[name] - logs["other"]) for name in ("this", "twin"))
            said = verdict(this, twin, options.within)
            counts[said] += 1
            print(f"{label} {_text(this)}   twin {_text(twin)}   {said}", flush=True)
    print(f"\n{counts['slower']} slower, {counts['faster']} faster, {counts['']} within "
          f"{100 * options.within:g} % or not decided")  # fmt: skip


if __name__ == "__main__":
    main()

"""The command line of :mod:`benchmarks.gpu`."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.gpu import correct, counters, timings, tuning
from benchmarks.gpu.page import page
from benchmarks.gpu.steps import AGAIN, DONE, LEFT, File, Step, carry_out
from etp.kernels.on_gpu.triton_source import triton_missing
from etp.problem import Problem
from etp.results.formats import read_path

PARTS = {"correct": 140.0, "tune": 40.0, "layers": 200.0, "settings": 150.0, "counters": 40.0}
"""Parts and the seconds that each may take: ten minutes in all, with what ends a part too late."""
ATTEMPTS = 20
"""Processes that a part may use up, where the card's driver fails in them."""
GRACE_S = 10.0
"""Seconds after its end at which a part's process is killed: in the middle of a step."""


def main(words: Sequence[str] | None = None) -> int:
    """Run what is asked for.

    Returns:
        0 when all was done, 3 when time ended first (the same command goes on), 2 where there is
        nothing to measure on.
    """
    asked = _options().parse_args(words)
    if asked.device != "cpu" and (reason := _missing()) is not None:
        print(reason, file=sys.stderr)
        return 2
    if asked.once is not None:
        if asked.problem is None:
            correct.once(asked.device, asked.once)
        else:
            counters.once(Problem.from_dict(json.loads(asked.problem)), asked.once)
        return 0
    if asked.child:
        # What its process needed to start is of the part's time.
        seconds = asked.until - time.time()
        number = str(list(PARTS).index(asked.part) + 1)
        return carry_out(
            steps(asked.part, asked), File(asked.out), seconds, number, died=asked.died
        )
    states, end = [], time.time()
    for name in list(PARTS) if asked.all else [asked.part]:
        # Time that a part does not need is the next one's; so is what it took too much.
        end += PARTS[name] if asked.seconds is None else asked.seconds
        states.append(_part(name, asked, end))
    if asked.out.exists() and asked.out.stat().st_size:
        asked.out.with_suffix(".md").write_text(page(read_path(asked.out)), encoding="utf-8")
        print(f"{asked.out} and {asked.out.with_suffix('.md')} hold what was found")
    return LEFT if any(states) else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Measure all there is to know on a GPU."
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="all parts, ten minutes at the most")
    which.add_argument("--part", type=_part_name, metavar="N", help="1 to 5, or its name: "
                       + ", ".join(PARTS))  # fmt: skip
    which.add_argument("--once", metavar="PRODUCT", help="one call, for a profiler to look at")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), metavar="FILE")
    parser.add_argument("--device", default="cuda:0", help="cpu rehearses the script itself")
    parser.add_argument("--seconds", type=float, help="of a part, instead of its usual share")
    parser.add_argument("--rounds-seconds", type=float, default=2.0, help="of a problem")
    parser.add_argument("--edges", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--problem", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=math.inf, help=argparse.SUPPRESS)
    parser.add_argument("--died", help=argparse.SUPPRESS)
    return parser


def _part_name(text: str) -> str:
    names = list(PARTS)
    if text in names:
        return text
    if text.isdecimal() and 1 <= int(text) <= len(names):
        return names[int(text) - 1]
    raise argparse.ArgumentTypeError(f"must be 1 to {len(names)} or one of {', '.join(names)}")


def _missing() -> str | None:
    if not torch.cuda.is_available():
        return "no CUDA device here: the GPU kernels cannot be measured"
    if (reason := triton_missing()) is not None:
        return f"the GPU kernels cannot be measured: {reason}"
    return None


def steps(part: str, asked: argparse.Namespace) -> Iterator[Step]:
    """What a part does, in order."""
    if part == "correct":
        return correct.steps(asked.device)
    if part == "tune":
        return tuning.steps(asked.device)
    if part == "layers":
        return timings.layers(asked.device, asked.edges, asked.rounds_seconds)
    if part == "settings":
        return timings.settings(asked.device, asked.batch, asked.rounds_seconds)
    return counters.steps(asked.device, asked.batch, asked.out.with_suffix(".counters.csv"))


def _part(name: str, asked: argparse.Namespace, end: float) -> int:
    """One part in a process of its own; a new one where its driver fails, or the process dies."""
    command = [
        sys.executable, "-m", "benchmarks.gpu", "--child", "--part", name, "--out", str(asked.out),
        "--device", asked.device, "--edges", str(asked.edges), "--batch", str(asked.batch),
        "--rounds-seconds", str(asked.rounds_seconds), "--until", str(end),
    ]  # fmt: skip
    print(f"part {name}", flush=True)
    told: list[str] = []
    stopped = False
    for _ in range(ATTEMPTS):
        try:
            limit = max(0.0, end - time.time()) + GRACE_S
            state = subprocess.run([*command, *told], timeout=limit).returncode
        except subprocess.TimeoutExpired:
            if stopped:
                return LEFT
            # One more, which has no time left and only writes down what is.
            told, stopped = [], True
            continue
        if state in (DONE, LEFT):
            return state
        told = [] if state == AGAIN else ["--died", f"its process ended with {state}"]
        print("the device no longer answers this process, or it died: a new one goes on",
              flush=True)  # fmt: skip
    return LEFT


if __name__ == "__main__":
    sys.exit(main())

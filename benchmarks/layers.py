"""The layers of published models beside every peer that is installed, in one process and one run.

``python -m benchmarks.layers`` writes ``benchmarks/layers.md`` in about forty minutes, with
``--quick`` a smaller table in five; ``--layers``, ``--kinds``, ``--edges``, ``--dtypes`` and
``--directions`` choose others. Every contestant does the same operation with the same weights
and is checked against the float64 oracle first. Blocks of calls are timed in rounds of random
order; ratios are taken within rounds. Peers: e3nn (``uvu``), cuEquivariance, and what a user can
write in plain PyTorch (coefficients with the harmonics first, then ``torch.bmm``).
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from benchmarks.paired import ERROR, Ratio, ratio
from etp import measure, presets, products, release_memory
from etp.kernels.tables import BuiltForReal
from etp.measure.clock import group_size, time_rounds, warm_up
from etp.measure.graph import OnGraph
from etp.measure.roofs import roofline
from etp.measure.runtime import draw, make_call
from etp.problem import Direction, Kind, Problem
from etp.processor import name as processor
from etp.product.edge_table import TableEdge
from etp.run import environment
from etp.run.case import build
from etp.text import ratio_text

HERE = Path(__file__).resolve().parent
OURS, MIN_ROUNDS = "cg-sparse", 7
PEERS = ("e3nn", "cuequivariance", "bmm")
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
TARGETS = {
    ("edge", "forward"): ("the fastest peer", 4.0),
    ("edge", "backward"): ("the fastest peer", 3.0),
    ("edge", "double-backward"): ("the fastest peer", 3.0),
    ("convolution", "forward"): ("e3nn", 10.0),
    ("convolution", "backward"): ("e3nn", 6.0),
    ("convolution", "double-backward"): ("e3nn", 5.0),
}
"""Against whom a ratio is taken, and the ratio asked for."""


class PlainEdge(TableEdge):
    """What a user writes in PyTorch: no kernel, messages in memory."""

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.edge_table.plain(x1, x2, self._own(weights))

    @override
    def convolve(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> Tensor:
        own = self._own(weights)
        return self.edge_table.plain_convolution(x, y, own, senders, receivers, num_nodes)


def contestant(problem: Problem, name: str) -> Any:
    """A product for a problem, or the plain form of ours."""
    if name != "bmm":
        return build(problem, name)
    ours = build(problem.at(kind="edge"), OURS)
    # The class is called as its metaclass would: by its own name it would make a pair product.
    plain = BuiltForReal.__call__(
        PlainEdge, products.get(OURS), ours.irreps_in1, ours.irreps_in2, "mul_ir",
        {"filter_ir_out": problem.filter_out},
    )  # fmt: skip
    return OnGraph(plain, problem.neighbours) if problem.kind == "convolution" else plain


@dataclass(frozen=True)
class Result:
    """Outcome of one problem: seconds are medians of blocks, ratios are peers over ours."""

    problem: Problem
    ours_s: float
    ratios: dict[str, Ratio]
    share: float | None
    peak: float | None
    rounds: int
    notes: dict[str, str]

    @property
    def judged(self) -> tuple[str, float]:
        """The peer that the target speaks of, or the fastest if that is not there; the target."""
        against, target = TARGETS[self.problem.kind, self.problem.direction]
        if against in self.ratios:
            return against, target
        return min(self.ratios, key=lambda name: self.ratios[name][0]), target


class Limits(NamedTuple):
    """Bytes per second of a copy."""

    copy: float


def play(problem: Problem, limits: Limits, seconds: float, rng: random.Random) -> Result:
    """Check and time one problem."""
    dtype = getattr(torch, problem.dtype)
    calls, notes, ours = {}, {}, None
    for name in (OURS, *PEERS):
        try:
            tp = contestant(problem, name)
        except ValueError as error:
            notes[name] = str(error)
            continue
        checked = measure.agreement(tp, dtype=dtype, weights=problem.weights, batch=40)
        if not checked.passed:
            notes[name] = f"off by {checked.max:.1e}: not timed"
            continue
        x, y, w = draw(tp, problem.batch, dtype, "cpu", problem.weights, problem.seed)
        calls[name] = make_call(tp, x, y, problem.direction, weights=w)
        ours = tp if name == OURS else ours
    warm = [warm_up(call) for call in calls.values()]
    groups = [group_size(each.call_s) for each in warm]
    taken, end = [], time.monotonic() + seconds
    for each in islice(time_rounds(list(calls.values()), groups, rng), 60):
        taken.append([block.value for block in each.blocks])
        if len(taken) >= MIN_ROUNDS and time.monotonic() > end:
            break
    times = dict(zip(calls, np.log(np.array(taken)).T, strict=True))
    ratios = {name: ratio(times[name] - times[OURS]) for name in calls if name != OURS}
    ours_s = float(np.exp(np.median(times[OURS])))
    least = _bytes(ours, problem) / limits.copy
    forward = problem.direction == "forward"
    peak = _peak(calls[OURS], ours, problem) if forward else None
    share = None if problem.direction == "double-backward" else least / ours_s
    return Result(problem, ours_s, ratios, share, peak, len(taken), notes)


def _bytes(tp: Any, problem: Problem) -> float:
    """Least traffic: inputs read and outputs written; gradients read and write all of it again."""
    itemsize = getattr(torch, problem.dtype).itemsize
    forward = tp.cost(problem.batch, itemsize, problem.weights).bytes
    if problem.direction == "forward":
        return forward
    nodes = problem.batch // problem.shared_by
    inputs = nodes * tp.irreps_in1.dim + problem.batch * (tp.irreps_in2.dim + tp.weight_numel)
    return 2 * forward + inputs * itemsize


def _peak(call: Any, tp: Any, problem: Problem) -> float | None:
    """Resident memory that one call adds at its peak, over inputs and outputs."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not status.exists():
        return None
    gc.collect()
    # What results of earlier calls left behind would hide that this one needs it.
    release_memory()
    try:
        clear.write_text("5")
    except OSError:
        return None
    before = _status(status, "VmRSS")
    call.run()
    most = _status(status, "VmHWM")
    itemsize = getattr(torch, problem.dtype).itemsize
    all_bytes = tp.cost(problem.batch, itemsize, problem.weights).bytes
    # The inputs are in memory before.
    nodes = problem.batch // problem.shared_by
    outputs = nodes * tp.irreps_out.dim * itemsize
    return (all_bytes - outputs + max(0, most - before)) / all_bytes


def _status(path: Path, field: str) -> int:
    line = next(text for text in path.read_text().splitlines() if text.startswith(field))
    return int(line.split()[1]) * 1024


def some(
    names: Sequence[str],
    edges: int,
    dtype: str = "float32",
    kinds: Sequence[Kind] = ("edge", "convolution"),
    directions: Sequence[Direction] = DIRECTIONS,
) -> Iterator[Problem]:
    """Problems of some layers."""
    for name in names:
        for kind in kinds:
            for direction in directions:
                yield presets.layer(name).problem(
                    kind, batch=edges, dtype=dtype, direction=direction
                )


def cases() -> Iterator[Problem]:
    """Problems, the most important first; a run ends when its time is over."""
    yield from some(("mace-medium", "nequip-toluene", "sevennet-main"), 1000)
    yield from some(("mace-medium", "nequip-lips"), 10000)
    yield from some(("mace-large", "nequip-lips", "nequip-water", "nequix-main"), 1000)
    yield from some(("mace-medium",), 1000, "float64")
    yield from some(("mace-medium",), 100000, kinds=("convolution",))
    yield from some(("nequip-aspirin", "nequip-benzene", "nequix-first", "sevennet-first"), 1000)


def asked(options: argparse.Namespace) -> Iterator[Problem]:
    """The problems that the command line names."""
    if options.quick:
        return some(("mace-medium",), 1000)
    if options.layers is None:
        return cases()
    return (
        problem
        for edges in options.edges
        for dtype in options.dtypes
        for problem in some(options.layers, edges, dtype, options.kinds, options.directions)
    )


def report(results: list[Result], limits: Limits, threads: int) -> str:
    """The table, as Markdown."""
    here = environment.environment()
    judged = [(r, *r.judged) for r in results]
    met = sum(r.ratios[name][1] >= target for r, name, target in judged)
    may = sum(r.ratios[name][1] < target <= r.ratios[name][2] for r, name, target in judged)
    names = [name for name in PEERS if any(name in r.ratios for r in results)]
    lines = [
        "# Layers of published models beside their peers",
        "",
        f"{date.today().isoformat()}, {processor()}, {threads} threads, torch {torch.__version__}; "
        f"commit {here['revision']}{' with changes' if here['dirty'] else ''}. Copy "
        f"{limits.copy / 1e9:.0f} GB/s in this run.",
        "",
        f"Ratios are times of a peer over ours (`{OURS}`), with the interval of the paired rounds "
        f"at {100 * (1 - ERROR):.0f} %: above 1 ours is faster. Backward is forward and the "
        "gradients by features, harmonics and weights; double-backward their derivatives too. "
        "20 neighbours, weights for each edge. Share: the least time for the bytes of inputs and "
        "outputs at the speed of a copy, over ours. Peak: memory during a forward call over that "
        f"of inputs and outputs. {met} of {len(results)} reach their target with the whole "
        f"interval, {may} may.",
        "",
        "| layer | kind | edges | dtype | direction | ours, ms | "
        + " | ".join(f"{name}, ×" for name in names)
        + " | target | share | peak |",
        "|" + "---|" * (9 + len(names)),
    ]
    for r, name, target in judged:
        p = r.problem
        cells = [presets.named(p), p.kind, str(p.batch), p.dtype, p.direction]
        cells += [f"{1e3 * r.ours_s:.3g}", *(_cell(r, peer, name) for peer in names)]
        met_ = "✓" if r.ratios[name][1] >= target else "✗"
        cells += [f"{target:g} {met_}"]
        cells += ["" if r.share is None else f"{100 * r.share:.0f} %"]
        cells += ["" if r.peak is None else f"{r.peak:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    notes = {f"{name}: {note}" for r in results for name, note in r.notes.items()}
    if notes:
        lines += ["", "Not compared:", "", *(f"- {note}" for note in sorted(notes))]
    return "\n".join(lines) + "\n"


def _cell(result: Result, name: str, judged: str) -> str:
    if name not in result.ratios:
        return ""
    center, low, high = (ratio_text(value).removesuffix("×") for value in result.ratios[name])
    text = f"{center} ({low} to {high})"
    return f"**{text}**" if name == judged else text


def main() -> None:
    """Run the cases that fit into the time, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--layers", nargs="+", choices=list(presets.LAYERS), metavar="LAYER")
    parser.add_argument(
        "--kinds", nargs="+", choices=("edge", "convolution"), default=("edge", "convolution")
    )
    parser.add_argument("--edges", nargs="+", type=int, default=[1000])
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "float64"), default=["float32"])
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=6.0, help="rounds of one problem")
    parser.add_argument("--directions", nargs="+", choices=DIRECTIONS, default=DIRECTIONS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "layers.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    limits = Limits(roofline("cpu", ("float32",)).copy_bytes_per_s)
    results, end, rng = [], time.monotonic() + 60 * options.minutes, random.Random(0)
    for problem in asked(options):
        if time.monotonic() > end:
            print("out of time", file=sys.stderr)
            break
        results.append(play(problem, limits, options.seconds, rng))
        name, target = results[-1].judged
        center, low, _ = results[-1].ratios[name]
        print(
            presets.named(problem), problem.kind, problem.batch, problem.dtype, problem.direction,
            f"{center:.3g}x {name} (at least {low:.3g}, target {target:g})", flush=True,
        )  # fmt: skip
        options.out.write_text(report(results, limits, options.threads))


if __name__ == "__main__":
    main()

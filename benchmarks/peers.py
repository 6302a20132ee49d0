"""Our products against every peer that is installed, on the same work in the same run.

``python -m benchmarks.peers --peer-python VENV/bin/python`` writes ``benchmarks/peers.md`` in about
half an hour, with ``--quick`` a smaller table in three. Contestants run in processes of their own
(ours, PyTorch peers, JAX peers) with equal threads and equal allocator settings; one works at a
time. Their outputs are checked against the float64 oracle, then blocks of calls are timed in rounds
of random order, and ratios are taken within rounds, so that drift of the machine cancels.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.paired import ERROR, ratio
from etp import products
from etp.irreps import setting_irreps
from etp.measure import oracle
from etp.measure.roofs import Roofline
from etp.processor import name as processor
from etp.product.base import TensorProduct
from etp.run import environment

HERE = Path(__file__).resolve().parent
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=8589934592"
}
"""Outputs come from memory that the process has kept; otherwise page faults decide at high lmax."""

TARGETS = {"cg": lambda lmax: 2.0 if lmax <= 2 else 5.0, "gaunt": lambda _: 3.0,
           "matrix": lambda _: 3.0}  # fmt: skip
"""Ratios asked for in MIMO at batch 10000; everywhere else 1."""

BLOCK_S, MIN_ROUNDS, MAX_ROUNDS, HOPELESS = 6e-3, 7, 40, 4.0
ROWS, TOLERANCE = 256, 2e-5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """One case: what is multiplied, and in which direction."""

    operation: str
    setting: str
    lmax: int
    batch: int
    direction: str

    @property
    def target(self) -> float:
        """Ratio to the fastest peer that is asked for."""
        if self.setting == "MIMO" and self.batch == 10000:
            return TARGETS[self.operation](self.lmax)
        return 1.0

    @cached_property
    def irreps(self) -> tuple[str, str, str | None]:
        """Inputs and filter; the Gaunt product has no odd paths."""
        return setting_irreps(self.setting, self.lmax)  # type: ignore[arg-type]

    def as_question(self) -> dict[str, Any]:
        """As contestants are told."""
        first, second, keep = self.irreps
        return asdict(self) | {
            "irreps1": first,
            "irreps2": second,
            "keep": keep,
            "single_in": self.setting != "MIMO",
            "single_out": self.setting == "SISO",
        }

    def build(self, name: str) -> TensorProduct:
        """One of our products for this work."""
        return products.get(name)(self.irreps[0], self.irreps[1], filter_ir_out=self.irreps[2])


class LostError(RuntimeError):
    """A contestant's process ended, or its call failed, while it was timed."""


def drawn(tp: TensorProduct, batch: int, folder: Path) -> dict[str, str]:
    """Files of random inputs that all contestants read, by their letter."""
    rng = np.random.default_rng(0)
    files = {}
    for key, dim in (("x", tp.irreps_in1.dim), ("y", tp.irreps_in2.dim)):
        files[key] = str(folder / f"{key}.npy")
        np.save(files[key], rng.standard_normal((batch, dim), dtype=np.float32))
    return files


class Contestant:
    """A process that makes calls and times them when asked; see ``contestants/worker.py``.

    Args:
        python: Interpreter.
        module: Of the folder ``contestants``.
        threads: Of its calls.
        checkout: Whose ``etp`` it imports; None for peers, which import none.
    """

    def __init__(
        self, python: str, module: str, threads: int, checkout: Path | None = None
    ) -> None:
        words = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._environ = os.environ | ALLOCATOR | dict.fromkeys(words, str(threads))
        self._environ |= {"JAX_PLATFORMS": "cpu"}
        if checkout is not None:
            self._environ["PYTHONPATH"] = str(checkout)
        self._words = [python, str(HERE / "contestants" / "worker.py"), module, str(threads)]
        self.process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=self._environ,
        )  # fmt: skip

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a question and wait for the answer; a process that has ended is started again."""
        if self.process.poll() is not None:
            self.process = self._started()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            return {"failed": f"process ended with {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def block(self, name: str, calls: int) -> float:
        """Seconds of a call: lower quartile of some, one after the other.

        Raises:
            RuntimeError: If the process ended or the call failed.
        """
        answer = self.ask(do="time", name=name, calls=calls)
        if "failed" in answer:
            raise RuntimeError(f"{name}: {answer['failed']}")
        return float(np.quantile(answer["seconds"], 0.25))

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Result:
    """Outcome of one case: times in seconds are medians of blocks."""

    work: Work
    ours: str
    ours_s: float
    peers_s: dict[str, float]
    fastest: str | None
    ratio: float
    low: float
    high: float
    share: float
    bound: str
    notes: dict[str, str]


class Match:
    """All contestants, and how they are compared."""

    def __init__(self, peer_python: str, threads: int, seed: int = 0) -> None:
        self.contestants = {
            "ours": Contestant(sys.executable, "ours", threads, HERE.parent),
            "torch": Contestant(peer_python, "with_torch", threads),
            "jax": Contestant(peer_python, "with_jax", threads),
        }
        self.random = random.Random(seed)
        self.folder = tempfile.TemporaryDirectory()
        limits = self.contestants["ours"].ask(do="limits", work=None)
        self.roofs = Roofline(limits["copy"], {"float32": limits["matmul"]})
        self.least_call = {direction: limits[direction] for direction in ("forward", "backward")}
        self.passed: dict[tuple[str, str, int, str], bool] = {}

    def close(self) -> None:
        """End all processes."""
        for contestant in self.contestants.values():
            contestant.close()
        self.folder.cleanup()

    def play(self, work: Work, seconds: float, without: Mapping[str, str]) -> Result | None:
        """Make, check and time one case; ``without`` says why some sides take no part."""
        where, notes = self._make(work, without)
        for name in list(where):
            if not self._check(work, name, where[name]):
                notes[name] = "its output is not this operation"
                del where[name]
        mine = [name for name in where if where[name] == "ours"]
        if not mine:
            print(f"{work}: ours is missing: {notes}", file=sys.stderr)
            return None
        calls, first = {}, {}
        for name in where:
            first[name] = self._block(where[name], name, 3)
            calls[name] = max(1, min(300, math.ceil(BLOCK_S / first[name])))
        rivals = [name for name in where if where[name] != "ours"]
        quickest = min((first[name] for name in rivals), default=math.inf)
        running = [*mine, *(n for n in rivals if first[n] < HOPELESS * quickest)]
        rounds: list[dict[str, float]] = []
        end = time.monotonic() + seconds
        while len(rounds) < MAX_ROUNDS and (len(rounds) < MIN_ROUNDS or time.monotonic() < end):
            order = self.random.sample(running, len(running))
            rounds.append({name: self._block(where[name], name, calls[name]) for name in order})
        once = {name: first[name] for name in rivals if name not in running}
        return self._judge(work, mine, rounds, once, notes)

    def _make(
        self, work: Work, without: Mapping[str, str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        files = drawn(work.build("cg-sparse"), work.batch, Path(self.folder.name))
        where, notes = {}, dict(without)
        for side, contestant in self.contestants.items():
            if side in without:
                continue
            answer = contestant.ask(do="make", work=work.as_question(), **files)
            where |= dict.fromkeys(answer.get("made", ()), side)
            notes |= answer.get("failed", {}) if "made" in answer else {side: answer["failed"]}
        return where, notes

    def _check(self, work: Work, name: str, side: str) -> bool:
        key = (work.operation, work.setting, work.lmax, name)
        if key not in self.passed:
            files = {k: Path(self.folder.name) / f"{k}.npy" for k in ("x", "y", "z")}
            answer = self.contestants[side].ask(
                do="output", name=name, batch=work.batch, rows=ROWS, to=str(files["z"])
            )
            if "failed" in answer:
                return False
            x, y, z = (np.load(file)[:ROWS].astype(float) for file in files.values())
            self.passed[key] = agrees(work, name, x, y, z)
        return self.passed[key]

    def _block(self, side: str, name: str, calls: int) -> float:
        try:
            return self.contestants[side].block(name, calls)
        except RuntimeError as error:
            raise LostError(side, str(error)) from None

    def _judge(
        self,
        work: Work,
        mine: list[str],
        rounds: list[dict[str, float]],
        once: dict[str, float],
        notes: dict[str, str],
    ) -> Result:
        median = {name: float(np.median([r[name] for r in rounds])) for name in rounds[0]}
        best = min(mine, key=median.__getitem__)
        rivals = {name: s for name, s in median.items() if name not in mine}
        fastest = min(rivals, key=rivals.__getitem__, default=None)
        center = low = high = math.nan
        if fastest is not None:
            center, low, high = ratio([math.log(r[fastest] / r[best]) for r in rounds])
        share, bound = self._limit(work, best, median[best])
        return Result(
            work, best, median[best], rivals | once, fastest, center, low, high, share, bound, notes
        )

    def _limit(self, work: Work, name: str, seconds: float) -> tuple[float, str]:
        """Share of the machine's limit that was reached, and which limit is nearer."""
        tp = work.build(name)
        numbers = (tp.irreps_in1.dim, tp.irreps_in2.dim, tp.irreps_out.dim)
        moved, macs = sum(numbers), _macs(tp, backward=False)
        if work.direction != "forward":
            moved += sum(numbers) + numbers[0] + numbers[1]
            macs += _macs(tp, backward=True)
        by_bytes = 4 * moved * work.batch / self.roofs.copy_bytes_per_s
        by_macs = 2 * macs * work.batch / self.roofs.matmul_flops_per_s["float32"]
        by_call = self.least_call[work.direction]
        least, bound = max((by_bytes, "bytes"), (by_macs, "arithmetic"), (by_call, "call"))
        return least / seconds, bound


def _macs(tp: TensorProduct, *, backward: bool) -> int:
    """Multiply-adds of the kernel that ran."""
    both: Any = tp.tiles.programs
    return int((both.gradient if backward else both.forward).macs)


def agrees(work: Work, name: str, x: Array, y: Array, z: Array) -> bool:
    """Whether an output is the oracle's, up to the order and the scale of components.

    Matrix products differ in how they weigh paths: there each component must be a combination of
    paths, which leaves nothing but equivariant bilinear maps.
    """
    exact = {"cg": "cg-sparse", "gaunt": "gaunt-grid", "matrix": "cg-sparse"}[work.operation]
    tp = work.build(exact)
    wanted = oracle.evaluate(tp, torch.from_numpy(x), torch.from_numpy(y)).numpy()
    if work.operation == "matrix":
        if wanted.shape[1] >= len(x):  # more paths than samples: nothing could be refused
            return True
        left = z - wanted @ np.linalg.lstsq(wanted, z, rcond=None)[0]
        return bool(np.linalg.norm(left) < TOLERANCE * np.linalg.norm(z))
    if z.shape[1] != wanted.shape[1]:
        return False
    a, b = (t / np.linalg.norm(t, axis=0) for t in (wanted, z))
    partner = np.abs(a.T @ b).argmax(axis=1)
    if len(set(partner.tolist())) != len(partner):
        return False
    sign = np.sign((a * b[:, partner]).sum(axis=0))
    return bool(np.linalg.norm(a - sign * b[:, partner], axis=0).max() < TOLERANCE)


def cases(*, quick: bool) -> Iterator[Work]:
    """Cases, the most important first; a run ends when its time is over."""
    operations = ("cg", "gaunt", "matrix")

    def several(setting: str, degrees: tuple[int, ...], batch: int, *directions: str) -> Any:
        for lmax in degrees:
            for direction in directions or ("forward",):
                for operation in operations:
                    if operation == "gaunt" and setting == "SISO" and lmax % 2:
                        continue  # no path: the output is zero
                    yield Work(operation, setting, lmax, batch, direction)

    both = ("forward", "backward")
    if quick:
        yield from several("MIMO", (1, 2, 4), 10000)
        yield from several("MIMO", (2,), 100)
        yield from several("SISO", (2,), 10000)
        yield from several("MIMO", (2,), 10000, "backward")
        yield from several("SIMO", (2,), 10000)
        return
    yield from several("MIMO", (1, 2, 3, 4, 5, 6), 10000)
    yield from several("MIMO", (1, 2, 3, 4, 6), 10000, "backward")
    yield from several("SISO", (1, 2, 4), 10000)
    yield from several("SIMO", (1, 2, 4), 10000)
    yield from several("MIMO", (1, 2, 4), 100, *both)
    yield from several("MIMO", (1, 2, 4), 1000, *both)
    yield from several("SISO", (1, 2, 4), 100, *both)
    yield from several("SIMO", (1, 2, 4), 100, *both)
    yield from several("SISO", (2, 4, 6), 10000, "backward")
    yield from several("SIMO", (2, 4, 6), 10000, "backward")
    yield from several("MIMO", (8,), 10000, *both)
    yield from several("SISO", (6,), 10000)
    yield from several("SIMO", (6,), 10000)


TITLES = {
    "cg": "Clebsch-Gordan, all paths kept",
    "gaunt": "Gaunt",
    "matrix": "Matrix (peers weigh paths in their own way)",
}


def report(results: list[Result], match: Match, threads: int, versions: dict[str, str]) -> str:
    """The tables, as Markdown."""
    here = environment.environment()
    met = [r for r in results if r.fastest is not None and r.low >= r.work.target]
    open_ = [r for r in results if r.fastest is not None and r.low < r.work.target <= r.high]
    rate = match.roofs.matmul_flops_per_s["float32"] / 1e9
    lines = [
        "# Our products beside their peers",
        "",
        f"{date.today().isoformat()}, {processor()}, {threads} threads; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {here['revision']}{' with changes' if here['dirty'] else ''}.",
        f"Limits in this run: copy {match.roofs.copy_bytes_per_s / 1e9:.0f} GB/s, matrix product "
        f"{rate:.0f} GFLOP/s (float32, the faster of torch's two libraries). Allocator of every "
        f"process: `{ALLOCATOR['GLIBC_TUNABLES']}`. Float32; backward is forward and both "
        "gradients.",
        "",
        f"{len(met)} of {sum(r.fastest is not None for r in results)} cases reach their target "
        f"with their whole interval, {len(open_)} may. Ratio: time of the fastest peer over ours, "
        f"with the interval of the paired rounds at {100 * (1 - ERROR):.0f} %. Limit: the least "
        "time that bytes, arithmetic or a call of PyTorch allow, over ours; a call is that of "
        "`torch.mul` on two numbers, "
        f"{1e6 * match.least_call['forward']:.1f} µs, with both gradients by `torch.autograd.grad` "
        f"{1e6 * match.least_call['backward']:.1f} µs. Samples first: ratio of medians to the "
        "fastest peer that takes samples first, as ours do and users call it.",
    ]
    for operation, title in TITLES.items():
        mine = [r for r in results if r.work.operation == operation]
        if not mine:
            continue
        lines += [
            "",
            f"## {title}",
            "",
            "| setting | batch | direction | lmax | ours, µs | fastest peer, µs | ratio | target "
            "| ratio, samples first | limit |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(r) for r in mine]
    notes: dict[str, set[str]] = {}
    for r in results:
        for name, note in r.notes.items():
            notes.setdefault(f"{name} ({r.work.operation}): {note}", set()).add(
                f"{r.work.setting} {r.work.lmax}"
            )
    if notes:
        lines += ["", "## Not compared", ""]
        lines += [f"- {note} [{', '.join(sorted(where))}]" for note, where in notes.items()]
    return "\n".join(lines) + "\n"


def _row(r: Result) -> str:
    w = r.work
    peer = "none" if r.fastest is None else f"{1e6 * r.peers_s[r.fastest]:.0f} ({r.fastest})"
    ratio = "" if r.fastest is None else f"**{r.ratio:.2f}** [{r.low:.2f}, {r.high:.2f}]"
    mark = "" if r.fastest is None else ("met" if r.low >= w.target else
                                         "open" if r.high >= w.target else "missed")  # fmt: skip
    same = [s for name, s in r.peers_s.items() if not name.endswith("feature-first")]
    usual = f"{min(same) / r.ours_s:.2f}" if same else ""
    return (
        f"| {w.setting} | {w.batch} | {w.direction} | {w.lmax} | {1e6 * r.ours_s:.0f} ({r.ours}) "
        f"| {peer} | {ratio} | {w.target:g}: {mark} "
        f"| {usual} | {100 * r.share:.0f} % {r.bound} |"
    )


def peer_versions(python: str) -> dict[str, str]:
    """Versions of the peers that are installed, of torch and of this package."""
    names = ("torch", "e3nn", "jax", "e3nn-jax", "e3j", "e3x", "cuequivariance")
    code = (
        "import importlib.metadata as m, json\n"
        "versions = {d.metadata['Name'].lower().replace('_', '-'): d.version "
        "for d in m.distributions()}\n"
        f"print(json.dumps({{n: versions[n] for n in {names!r} if n in versions}}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the peers")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="fewer cases, three minutes")
    parser.add_argument("--minutes", type=float, help="when to stop; 3 or 60")
    parser.add_argument("--out", type=Path, default=HERE / "peers.md")
    parser.add_argument("--operation", choices=TITLES, help="only one")
    parser.add_argument("--batch", type=int, help="only one")
    options = parser.parse_args()
    end = time.monotonic() + 60 * (options.minutes or (3 if options.quick else 60))
    match = Match(options.peer_python, options.threads)
    results: list[Result] = []
    wanted = [w for w in cases(quick=options.quick)
              if options.operation in (None, w.operation)
              and options.batch in (None, w.batch)]  # fmt: skip
    try:
        for number, work in enumerate(wanted, 1):
            if time.monotonic() > end:
                print(f"time is over: {len(wanted) - number + 1} cases left out", file=sys.stderr)
                break
            result = _played(match, work)
            if result is not None:
                results.append(result)
                print(f"{number}/{len(wanted)} {work.operation} {_row(result)}", file=sys.stderr)
    finally:
        text = report(results, match, options.threads, peer_versions(options.peer_python))
        options.out.write_text(text, encoding="utf-8")
        match.close()
    print(f"{options.out}: {len(results)} cases")


def _played(match: Match, work: Work) -> Result | None:
    """A case, without the side that was lost while it was timed."""
    without: dict[str, str] = {}
    while "ours" not in without:
        try:
            return match.play(work, seconds=2.0, without=without)
        except LostError as lost:
            side, reason = lost.args
            without[side] = reason
    print(f"{work}: ours was lost: {without['ours']}", file=sys.stderr)
    return None


if __name__ == "__main__":
    main()

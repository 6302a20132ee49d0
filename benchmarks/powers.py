"""The symmetric contraction of MACE beside mace-torch, cuEquivariance and our other powers.

``PYTHONPATH=. PYTHON -m benchmarks.powers --out benchmarks/powers.md``, PYTHON being that of an
environment with mace-torch, and cuequivariance with cuequivariance-torch where they can be had.
500 nodes, 128 channels, 10 elements, order 3. Ours takes over the very module of mace-torch that it
is compared with: same weights, and the same numbers before anything is timed. Gaunt and matrix
powers are other operations with fewer weights; they stand beside because their speed is their
point. Calls are timed in rounds of random order, ratios are taken within rounds. The share is the
time for the bytes of inputs, weights and outputs at the speed of a copy in this run, over ours.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import etp
from benchmarks.paired import ERROR, ratio
from benchmarks.peers import processor
from etp.measure import roofline
from etp.powers._library import LibraryPower
from etp.powers.mace import MacePower

warnings.filterwarnings("ignore")

NODES, ELEMENTS, ORDER = 500, 10, 3
DEGREES = ("0e", "1o", "2e", "3o")
OTHERS = ("gaunt-grid", "gaunt-fourier-fft", "gaunt-fourier-direct", "matrix")
TARGETS = {"forward": 100.0, "backward": 50.0, "double-backward": 30.0}
TOLERANCE = 1e-4
SHAPES = ("3:0", "3:1", "3:2", "2:0", "2:1", "1:0", "1:1")
Call = Callable[[], object]


class Shape:
    """One contraction: its irreps, its inputs, and everybody who computes it."""

    def __init__(self, lmax_in: int, lmax_out: int, channels: int) -> None:
        self.inputs, self.outputs = (
            "+".join(f"{channels}x{ir}" for ir in DEGREES[: lmax + 1])
            for lmax in (lmax_in, lmax_out)
        )
        torch.manual_seed(0)
        peer = etp.powers.get("mace")(self.inputs, order=ORDER, irreps_out=self.outputs)
        assert isinstance(peer, MacePower)
        theirs = peer.library_module(ELEMENTS, torch.float32)
        holder = nn.ModuleList([copy.deepcopy(theirs)])
        etp.replace_in(holder)
        width = peer.irreps_in.dim // channels
        self.dims = peer.irreps_in.dim, peer.irreps_out.dim
        self.x = torch.randn(NODES, channels, width)
        self.elements = torch.randint(ELEMENTS, (NODES,))
        self.one_hot = torch.nn.functional.one_hot(self.elements, ELEMENTS).float()
        self.calls = {"etp": self._of_mace(holder[0]), "mace-torch": self._of_mace(theirs)}
        self._check()
        self._add_cuequivariance()
        self._add_others()

    def _of_mace(self, module: nn.Module) -> Callable[[Tensor], tuple[Tensor, list[Tensor]]]:
        weights = list(module.parameters())
        return lambda x: (module(x, self.one_hot), weights)

    def _check(self) -> None:
        ours, theirs = (self.calls[name](self.x)[0] for name in ("etp", "mace-torch"))
        error = float((ours - theirs).norm() / theirs.norm())
        if error > TOLERANCE:
            raise RuntimeError(f"etp differs from mace-torch by {error:.1e}: nothing is timed")

    def _add_cuequivariance(self) -> None:
        made = etp.powers.get("cuequivariance")
        if made.unavailable() is not None:
            return
        power = made(self.inputs, order=ORDER, irreps_out=self.outputs)
        assert isinstance(power, LibraryPower)
        drawn = torch.randn(ELEMENTS, power.weight_numel)
        elements, (_, *own) = power.to_library(self.x, drawn, self.elements)
        weights = [w.requires_grad_() for w in own]
        # Features of the same size, in the order of the library.
        self.calls["cuequivariance"] = lambda x: (
            power.call_library(elements, x.flatten(1), *weights), weights
        )  # fmt: skip

    def _add_others(self) -> None:
        for name in OTHERS:
            power = etp.powers.get(name)(self.inputs, order=ORDER, irreps_out=self.outputs)
            weights = torch.randn(ELEMENTS, power.weight_numel, requires_grad=True)
            features = torch.randn(NODES, self.dims[0])
            self.calls[name] = _other(power, weights, features, self.elements)

    def bytes(self, direction: str) -> int:
        """Of inputs, weights and outputs, once; with gradients, theirs too."""
        weights = sum(w.numel() for w in self.calls["etp"](self.x)[1])
        numbers = NODES * sum(self.dims) + weights
        return 4 * (numbers if direction == "forward" else 2 * numbers)

    def timed(self, name: str, direction: str) -> Call:
        """What is called over and over."""
        call = self.calls[name]
        if direction == "forward":

            def forward() -> object:
                with torch.no_grad():
                    return call(self.x)

            return forward
        x = self.x.clone().requires_grad_()

        def backward() -> object:
            z, weights = call(x)
            return torch.autograd.grad(z.sum(), [x, *weights], allow_unused=True)

        def twice() -> object:
            z, weights = call(x)
            (force,) = torch.autograd.grad((z * z).sum(), x, create_graph=True)
            return torch.autograd.grad((force * force).sum(), [x, *weights], allow_unused=True)

        return backward if direction == "backward" else twice


def _other(
    power: nn.Module, weights: Tensor, features: Tensor, elements: Tensor
) -> Callable[[Tensor], tuple[Tensor, list[Tensor]]]:
    def call(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        # Of the same size, in the order of the library.
        flat = x.flatten(1) if x.requires_grad else features
        return power(flat, weights, elements), [weights]

    return call


def ratios(
    calls: dict[str, Call], seconds: float, rng: random.Random
) -> tuple[dict[str, tuple[float, float, float]], dict[str, float], int]:
    """Ratios to ours with their intervals, median seconds, and rounds."""
    warm = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        warm[name] = time.perf_counter() - start
    repeats = {name: max(1, min(50, math.ceil(0.02 / each))) for name, each in warm.items()}
    rounds: list[dict[str, float]] = []
    end = time.monotonic() + seconds
    while len(rounds) < 7 or (time.monotonic() < end and len(rounds) < 40):
        taken = {}
        for name in rng.sample(list(calls), len(calls)):
            samples = []
            for _ in range(repeats[name]):
                start = time.perf_counter()
                calls[name]()
                samples.append(time.perf_counter() - start)
            taken[name] = float(np.quantile(samples, 0.25))
        rounds.append(taken)
    intervals = {}
    for name in calls:
        intervals[name] = ratio([math.log(r[name] / r["etp"]) for r in rounds])
    return intervals, {n: float(np.median([r[n] for r in rounds])) for n in calls}, len(rounds)  # type: ignore[return-value]


def main() -> None:
    """Time every shape and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--shapes", nargs="+", default=SHAPES, help="largest degree of inputs and of outputs"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng, copy = random.Random(0), roofline("cpu", ("float32",)).copy_bytes_per_s
    names = ("mace-torch", "cuequivariance", *OTHERS)
    lines = [
        "# Powers: the symmetric contraction of MACE",
        "",
        f"{date.today().isoformat()}, {processor()}, {options.threads} threads, torch "
        f"{torch.__version__}, float32; {NODES} nodes, {options.channels} channels, {ELEMENTS} "
        f"elements, order {ORDER}. Ratios are times of each over ours (`cg`), with the interval "
        f"of the paired rounds at {100 * (1 - ERROR):.0f} %. Targets: {TARGETS}, against the "
        "faster of mace-torch and cuequivariance. Gaunt and matrix powers are other operations. "
        f"Copy {copy / 1e9:.0f} GB/s in this run; share: the bytes of inputs, weights and outputs "
        "at that speed, over ours.",
        "",
        "| inputs to | outputs | direction | ours, ms | " + " | ".join(f"{n}, ×" for n in names)
        + " | target | share |",
        "|" + "---|" * (6 + len(names)),
    ]  # fmt: skip
    for text in options.shapes:
        lmax, lmax_out = map(int, text.split(":"))
        shape = Shape(lmax, lmax_out, options.channels)
        for direction, target in TARGETS.items():
            calls = {name: shape.timed(name, direction) for name in shape.calls}
            measured, medians, _ = ratios(calls, options.seconds, rng)
            peers = [n for n in ("mace-torch", "cuequivariance") if n in measured]
            fastest = min(peers, key=lambda n: measured[n][0])
            cells = [
                f"{measured[n][0]:.3g} ({measured[n][1]:.3g} to {measured[n][2]:.3g})"
                if n in measured else "" for n in names
            ]  # fmt: skip
            met = "✓" if measured[fastest][1] >= target else "✗"
            share = "" if direction == "double-backward" else (
                f"{100 * shape.bytes(direction) / copy / medians['etp']:.0f} %"
            )  # fmt: skip
            lines.append(
                f"| {DEGREES[lmax]} | {'+'.join(DEGREES[: lmax_out + 1])} | {direction} | "
                f"{1e3 * medians['etp']:.3g} | {' | '.join(cells)} | {target:g} {met} | {share} |"
            )
            print(lines[-1], flush=True)
            if options.out is not None:
                options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

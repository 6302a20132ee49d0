"""SO(2) convolutions with channels mixed, beside fully connected Clebsch-Gordan products.

``python -m benchmarks.so2`` times :class:`etp.SO2Convolution` on 1000 edges to 50 nodes, float32,
one thread, forward and with the gradients of features and directions, and writes the table of
``docs/products.md``. Beside it stand the same with its matrices at the edges, and e3nn's fully
connected product with shared weights and harmonics to twice the largest degree, as it is and taken
over by :func:`etp.from_e3nn`: the same maps as all orders. All take turns; lower quartiles are
written, of processor time, so that neighbours do less harm.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

import etp
from benchmarks.marked import Marks

PAGE = Path(__file__).resolve().parents[1] / "docs" / "products.md"
MARKS = Marks("<!-- so2: python -m benchmarks.so2 -->", "<!-- end of so2 -->")
EDGES, NODES = 1000, 50
SHAPES = ((128, 2), (64, 4), (64, 6))
UVW_LMAX = 4
"""Largest degree at which e3nn's product is timed: beyond, tables take minutes."""
COLUMNS = (
    "all orders", "mmax 2", "mmax 2, no parity", "mmax 2, at the edges", "e3nn `uvw`, Y to 2L",
    "`from_e3nn` of it",
)  # fmt: skip
Layer = Callable[[Tensor, Tensor], Tensor]


def layers(channels: int, lmax: int) -> dict[str, Layer]:
    """Everybody who computes a shape, called with features and directions."""
    irreps = "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    senders, receivers = torch.randint(NODES, (EDGES,)), torch.arange(EDGES) * NODES // EDGES

    def convolution(*, at_edges: bool = False, **options: object) -> Layer:
        made = etp.SO2Convolution(irreps, irreps, **options)  # type: ignore[arg-type]
        weights = torch.nn.Parameter(torch.randn(made.weight_numel))

        def call(x: Tensor, d: Tensor) -> Tensor:
            if not at_edges:
                return made(x, d, weights, senders, receivers, NODES)
            with patch.object(made, "_fewer", lambda *given: False):
                return made(x, d, weights, senders, receivers, NODES)

        return call

    own = (
        convolution(),
        convolution(mmax=2),
        convolution(mmax=2, parity=False),
        convolution(mmax=2, at_edges=True),
    )
    found = dict(zip(COLUMNS, own, strict=False))
    if lmax > UVW_LMAX:
        return found
    harmonics = o3.Irreps.spherical_harmonics(2 * lmax)
    theirs = o3.FullyConnectedTensorProduct(irreps, harmonics, irreps)

    def fully_connected(product: Callable[..., Tensor]) -> Layer:
        def call(x: Tensor, d: Tensor) -> Tensor:
            messages = product(x[senders], o3.spherical_harmonics(harmonics, d, normalize=True))
            return torch.zeros(NODES, x.shape[1]).index_add(0, receivers, messages)

        return call

    products = (theirs, etp.from_e3nn(theirs))
    return found | dict(zip(COLUMNS[len(own) :], map(fully_connected, products), strict=True))


def milliseconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Lower quartile of each, all taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:  # the first has planned
                taken[name].append(time.process_time() - start)
    return {name: 1e3 * float(np.quantile(times, 0.25)) for name, times in taken.items()}


def row(channels: int, lmax: int, rounds: int) -> str:
    """A line of the table."""
    torch.manual_seed(0)
    made = layers(channels, lmax)
    x, d = torch.randn(NODES, channels * (lmax + 1) ** 2), torch.randn(EDGES, 3)
    leaves = x.clone().requires_grad_(), d.clone().requires_grad_()

    def forward(layer: Layer) -> Callable[[], object]:
        return torch.no_grad()(lambda: layer(x, d))

    def backward(layer: Layer) -> Callable[[], object]:
        return lambda: layer(*leaves).sum().backward()  # type: ignore[no-untyped-call]

    ahead, both = (
        milliseconds({name: way(layer) for name, layer in made.items()}, rounds)
        for way in (forward, backward)
    )
    cells = [f"{ahead[n]:.3g} / {both[n]:.3g}" if n in made else "-" for n in COLUMNS]
    return f"| {channels}, {lmax} | {' | '.join(cells)} |"


def main() -> int:
    """Time every shape and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [f"| channels, lmax | {' | '.join(COLUMNS)} |", "| --- |" + " --- |" * len(COLUMNS)]
    for channels, lmax in SHAPES:
        lines.append(row(channels, lmax, options.rounds))
        print(lines[-1], flush=True)
    MARKS.put(PAGE, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())

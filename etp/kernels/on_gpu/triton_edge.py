"""Edge products and convolutions on a GPU: the operators of :mod:`etp.kernels.edge` for CUDA.

Forward each program sums what one receiver gets, backward what one sender gets, over edges sorted
by that node; where weights are shared, or several programs share an edge's channels, parts are
added up in a fixed order. Tables become code, so that there is nothing to read but features.

Not measured on a GPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from etp.kernels.edge_table import NEGLIGIBLE, EdgeTable, restored
from etp.kernels.on_gpu import edge_source, launches
from etp.kernels.on_gpu.edge_source import Kind, Lines, PathEntry, Sizes
from etp.kernels.on_gpu.launches import WARP
from etp.kernels.on_gpu.registered import by_row, inside, of_table, register_all
from etp.kernels.on_gpu.triton_source import (
    accumulator,
    compile_times,
    compiled_text,
    on_device_of,
    padded,
)

Three = tuple[Tensor, Tensor, Tensor]
CHUNK = 32
"""Edges of a program where the gradient of shared weights is summed."""


class Kernel(NamedTuple):
    """One of the kernels of an operator, run one after the other.

    Attributes:
        text: Its source.
        run: What Triton made of it.
    """

    text: str
    run: Any


class EdgeForm:
    """An edge product whose coefficients are numbers in code.

    Args:
        table: The product.
    """

    def __init__(self, table: EdgeTable) -> None:
        self.paths = [
            Lines(px, pz, pw, mul, d1, d3, _entries(c.cpu().numpy(), py))
            for (px, py, pz, pw, mul, (d1, _, d3)), c in zip(
                table.places, table.coefficients(), strict=True
            )
        ]
        self.sizes = Sizes(*table.dims, table.weight_numel, table.layout == "ir_mul")
        self.widest = max(path.mul for path in self.paths)
        self._kernels: dict[tuple[Kind, int, int], list[Kernel]] = {}

    def block(self, most: int) -> int:
        """Channels of a program: a power of 2, a warp at the least."""
        return max(WARP, min(most, padded(self.widest)))

    def kernels(self, kind: Kind, block: int, held: int = edge_source.MAX_HELD) -> list[Kernel]:
        """The kernels of one kind of evaluation."""
        key = kind, block, held
        if key not in self._kernels:
            made: list[Kernel] = []
            earlier: set[int] = set()
            lanes = -(-self.widest // block) * block
            for part in edge_source.parts(self.paths, kind, held):
                text = edge_source.source(part, kind, self.sizes, lanes, earlier)
                made.append(Kernel(text, compiled_text("edges", text)))
                earlier |= {path.x if kind.backward else path.z for path in part}
            self._kernels[key] = made
        return self._kernels[key]


def _entries(values: np.ndarray[Any, np.dtype[np.float64]], first: int) -> tuple[PathEntry, ...]:
    entries = []
    for k in range(values.shape[2]):
        for i in range(values.shape[0]):
            terms = np.flatnonzero(np.abs(values[i, :, k]) > NEGLIGIBLE)
            if len(terms):
                pairs = tuple((first + int(j), float(values[i, j, k])) for j in terms)
                entries.append(PathEntry(i, k, pairs))
    return tuple(entries)


_form = of_table(lambda program, values: EdgeForm(restored(program, values)))


class _Graph(NamedTuple):
    """Edges by the node whose row a program does."""

    here: Tensor
    there: Tensor
    order: Tensor
    starts: Tensor


def grouped(here: Tensor, there: Tensor, rows: int, others: int) -> _Graph:
    """Edges grouped by ``here``, in a fixed order; indices out of range stop the device."""
    inside("nodes of edges", here, rows)
    inside("nodes of edges", there, others)
    return _Graph(here, there, *by_row(here, rows))


def _run(
    kind: Kind,
    given: dict[str, Tensor],
    out: dict[str, Tensor],
    program: Tensor,
    values: Tensor,
    graph: _Graph | None,
    rows: int,
) -> None:
    """Run the kernels of a kind; what is not given or wanted has a stand-in that is not read."""
    form = _form(program, values)
    x = given["x"]
    block = form.block(launches.shape("edge", launches.card(x.device)))
    held = edge_source.MAX_HELD // (1 if x.dtype == torch.float32 else 2)
    kernels = form.kernels(kind, block, held)
    edges, tiles = given["y"].shape[0], -(-form.widest // block)
    if "gy" in out:
        out["gy"] = x.new_zeros(len(kernels) * tiles, edges, form.sizes.y)
    if not edges or not rows:
        return
    links = graph._asdict() if graph is not None else dict.fromkeys(_Graph._fields, x)
    tensors = dict.fromkeys(edge_source.ARGUMENTS[:-3], x) | links | given | out
    chunk = CHUNK if kind.weights == "shared" and kind.backward else 1
    grid = (rows if graph is not None else -(-edges // chunk), tiles)
    heard = compile_times(f"Triton, edges {'backward' if kind.backward else 'forward'}")
    _, acc = accumulator(x.dtype)
    with on_device_of(x):
        for number, kernel in enumerate(kernels):
            kernel.run[grid](
                *tensors.values(), edges, chunk, edges * form.sizes.y,
                PLANE=number * tiles, BLOCK=block, ACC=acc, num_warps=block // WARP,
            )  # fmt: skip
    heard.note()


def _weights(w: Tensor) -> str:
    if not w.numel() and w.ndim == 1:
        return "none"
    return "edge" if w.ndim == 2 else "shared"


def _forward(
    tensors: dict[str, Tensor], senders: Tensor, receivers: Tensor, tables: tuple[Tensor, Tensor],
    rows: int, width: int,
) -> Tensor:  # fmt: skip
    convolves = senders.ndim == 1
    given = {name: t.contiguous() for name, t in tensors.items()}
    kind = Kind(False, "hx" in given, convolves, _weights(given["w"]))
    graph = grouped(receivers, senders, rows, given["x"].shape[0]) if convolves else None
    z = given["x"].new_zeros(rows, width)
    _run(kind, given, {"z": z}, *tables, graph, rows)
    return z


def _backward(
    tensors: dict[str, Tensor], senders: Tensor, receivers: Tensor, tables: tuple[Tensor, Tensor],
    want_x: bool,
) -> Three:  # fmt: skip
    convolves = senders.ndim == 1
    given = {name: t.contiguous() for name, t in tensors.items()}
    x, w = given["x"], given["w"]
    kind = Kind(True, "hx" in given, convolves, _weights(w), want_x)
    rows = x.shape[0]
    graph = grouped(senders, receivers, rows, given["g"].shape[0]) if convolves else None
    out = {"gx": x.new_zeros(rows if want_x else 0, x.shape[1]), "gy": x, "gw": w}
    if kind.weights == "edge":
        out["gw"] = torch.zeros_like(w)
    elif kind.weights == "shared":
        sums = rows if convolves else -(-given["y"].shape[0] // CHUNK)
        out["gw"] = x.new_zeros(sums, w.shape[0])
    _run(kind, given, out, *tables, graph, rows)
    gw = out["gw"].sum(0) if kind.weights == "shared" else out["gw"]
    return out["gx"], out["gy"].sum(0), gw if kind.weights != "none" else torch.empty_like(w)


@cache
def register() -> None:
    """Make these the operators' kernels."""
    register_all({
        "edge_forward": lambda x, y, w, s, r, p, v, rows, width: _forward(
            {"x": x, "y": y, "w": w}, s, r, (p, v), rows, width
        ),
        "edge_forward_change": lambda x, y, w, hx, hy, hw, s, r, p, v, rows, width: _forward(
            {"x": x, "y": y, "w": w, "hx": hx, "hy": hy, "hw": hw}, s, r, (p, v), rows, width
        ),
        "edge_backward": lambda g, x, y, w, s, r, p, v, want: _backward(
            {"g": g, "x": x, "y": y, "w": w}, s, r, (p, v), want
        ),
        "edge_backward_change": lambda g, x, y, w, hx, hy, hw, s, r, p, v, want: _backward(
            {"g": g, "x": x, "y": y, "w": w, "hx": hx, "hy": hy, "hw": hw}, s, r, (p, v), want
        ),
    })  # fmt: skip

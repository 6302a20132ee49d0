"""Powers on a GPU: the operators of :mod:`etp.kernels.power` for CUDA.

Weights are contracted with the tables once for each row of weights, by a matrix product; the
kernels evaluate polynomials with those coefficients. Gradients of coefficients are summed over
slices of the nodes that share them, which come sorted, so that results are bitwise the same from
run to run.

Not measured on a GPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from etp.kernels.on_gpu import launches, power_source
from etp.kernels.on_gpu.launches import WARP
from etp.kernels.on_gpu.power_source import Places, Shape
from etp.kernels.on_gpu.registered import by_row, inside, of_table, register_all
from etp.kernels.on_gpu.triton_source import (
    accumulator,
    compile_times,
    compiled_text,
    on_device_of,
    padded,
)
from etp.kernels.power_table import PowerTable, restored

MAX_SLICES = 64
"""Programs that share the nodes of one row of coefficients."""
SLICE = 16
"""Nodes that a slice should have at the least."""


class PowerForm:
    """A power whose polynomials are code.

    Args:
        table: The power.
    """

    def __init__(self, table: PowerTable) -> None:
        self.tree = power_source.tree(table.dim, table.program.arrays())
        self._dense = table.table("dense", torch.float64)
        self._at: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._kernels: dict[Any, list[Any]] = {}

    def dense(self, like: Tensor) -> Tensor:
        """Coefficients of pairs by weights, (pairs, weights)."""
        key = like.dtype, like.device
        if key not in self._at:
            self._at[key] = self._dense.to(like)
        return self._at[key]

    def kernels(self, which: str, places: Places, shape: Shape) -> list[Any]:
        """Kernels of an evaluation: ``forward``, ``features`` or ``coefficients``."""
        key = which, places, shape
        if key not in self._kernels:
            texts = self.texts(which, places, shape)
            self._kernels[key] = [compiled_text("power", text) for text in texts]
        return self._kernels[key]

    def texts(self, which: str, places: Places, shape: Shape) -> list[str]:
        """Their sources."""
        made = getattr(power_source, which)(self.tree, places, shape)
        return [made] if isinstance(made, str) else made


_form = of_table(lambda program, values: PowerForm(restored(program, values)))
_PLACES = WeakTensorKeyDictionary()


def _lie(places: Tensor) -> Places:
    if places not in _PLACES:
        _PLACES[places] = tuple(map(tuple, places.tolist()))
    lie: Places = _PLACES[places]
    return lie


class _PowerCall:
    """One call of an operator: its form, its coefficients, and how its nodes share them."""

    def __init__(
        self, tensors: dict[str, Tensor], elements: Tensor, tables: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        program, places, values = tables
        self.form, self.places = _form(program, values), _lie(places)
        self.given = {name: t.contiguous() for name, t in tensors.items()}
        self.x, self.w = self.given["x"], self.given["w"]
        self.nodes = self.x.shape[0]
        self.dense = self.form.dense(self.x)
        self.numel = self.dense.shape[1]
        self.channels = self.w.shape[-1] // self.numel
        most = launches.shape("power", launches.card(self.x.device))
        self.block = max(WARP, min(most, padded(self.channels)))
        self.tiles = -(-self.channels // self.block)
        rows = "element" if elements.ndim == 1 else "shared" if self.w.ndim == 1 else "node"
        masked = self.channels != self.tiles * self.block
        self.shape = Shape(self.channels, rows, "hx" in tensors, masked)
        self.elements = elements
        if rows == "element":
            inside("elements", elements, self.w.shape[0])

    def coefficients(self) -> dict[str, Tensor]:
        """Coefficients of pairs, (rows of weights, pairs, channels), and their changes."""
        names = {"c": "w"} | ({"hc": "hw"} if self.shape.change else {})
        return {
            name: self.dense @ self.given[w].reshape(-1, self.numel, self.channels)
            for name, w in names.items()
        }

    def run(self, which: str, rows: int, tensors: dict[str, Tensor], slices: int = 1) -> None:
        """Run kernels on so many rows."""
        if not rows or not self.nodes:
            return
        every = dict.fromkeys(power_source.ARGUMENTS[:-1], self.x) | {"element": self.elements}
        every |= {name: t for name, t in self.given.items() if name in every} | tensors
        heard = compile_times(f"Triton, power {which}")
        _, acc = accumulator(self.x.dtype)
        with on_device_of(self.x):
            for kernel in self.form.kernels(which, self.places, self.shape):
                kernel[rows, self.tiles](
                    *every.values(), slices, BLOCK=self.block, ACC=acc,
                    num_warps=self.block // WARP,
                )  # fmt: skip
        heard.note()

    def by_weights(self) -> Tensor:
        """The gradient by weights, from that by coefficients."""
        rows = 1 if self.w.ndim == 1 else self.w.shape[0]
        index = {
            "element": self.elements,
            "shared": self.x.new_zeros(self.nodes, dtype=torch.int64),
            "node": torch.arange(self.nodes, device=self.x.device),
        }[self.shape.rows]
        order, starts = by_row(index, rows)
        slices = max(1, min(MAX_SLICES, self.nodes // (SLICE * max(rows, 1))))
        sums = self.x.new_zeros(rows * slices, len(self.dense), self.channels)
        self.run(
            "coefficients", rows * slices, {"order": order, "starts": starts, "gc": sums}, slices
        )
        whole = sums.unflatten(0, (rows, slices)).sum(1)
        return (self.dense.T @ whole).reshape(self.w.shape)


def _forward(
    tensors: dict[str, Tensor], elements: Tensor, tables: tuple[Tensor, Tensor, Tensor], width: int
) -> Tensor:
    call = _PowerCall(tensors, elements, tables)
    z = call.x.new_zeros(call.nodes, width)
    call.run("forward", call.nodes, {"z": z} | call.coefficients())
    return z


def _backward(
    tensors: dict[str, Tensor], elements: Tensor, tables: tuple[Tensor, Tensor, Tensor],
    want_x: bool, want_w: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    call = _PowerCall(tensors, elements, tables)
    gx = torch.zeros_like(call.x) if want_x else call.x.new_empty(0, call.x.shape[1])
    if want_x:
        call.run("features", call.nodes, {"gx": gx} | call.coefficients())
    return gx, call.by_weights() if want_w else call.x.new_empty(0)


def _second(
    tensors: dict[str, Tensor], elements: Tensor, tables: tuple[Tensor, Tensor, Tensor],
    want_grad: bool, want_x: bool, want_w: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    given = {name: t for name, t in tensors.items() if name != "g"}
    if not given["hw"].numel():
        given["hw"] = torch.zeros_like(given["w"])
    g = tensors["g"]
    along = (
        _forward(given, elements, tables, g.shape[1]) if want_grad else g.new_empty(0, g.shape[1])
    )
    return along, *_backward({"g": g} | given, elements, tables, want_x, want_w)


@cache
def register() -> None:
    """Make these the operators' kernels."""
    register_all({
        "power_forward": lambda x, w, e, p, lie, v, width: _forward(
            {"x": x, "w": w}, e, (p, lie, v), width
        ),
        "power_backward": lambda g, x, w, e, p, lie, v, want_x, want_w: _backward(
            {"g": g, "x": x, "w": w}, e, (p, lie, v), want_x, want_w
        ),
        "power_second": lambda g, x, w, hx, hw, e, p, lie, v, *wanted: _second(
            {"g": g, "x": x, "w": w, "hx": hx, "hw": hw}, e, (p, lie, v), *wanted
        ),
    })  # fmt: skip

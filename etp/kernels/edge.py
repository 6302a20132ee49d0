r"""Edge products given by tables: one set of spherical harmonics meets every channel of a node.

.. math::
    z_{e,k,u} = \sum_{paths} w_{e,path,u} \sum_{ij} c_{ijk}\, x_{e,i,u}\, y_{e,j}

and convolutions, which gather ``x`` from senders and add ``z`` up at receivers. On a CPU both run
as ``on_cpu/edge.c``: derivatives of first and second order by the same walk, never an array of
edges by outputs. On a GPU, and in Triton's interpreter, ``on_gpu/triton_edge.py`` does the same.
Elsewhere, and for what the kernels do not serve, they run in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from etp.kernels import compile_times as compiling
from etp.kernels.modes import plain_only
from etp.kernels.on_cpu import build
from etp.kernels.on_gpu import triton_source
from etp.product.tables import TableModule

Layout = Literal["mul_ir", "ir_mul"]
PADDING = 16
"""Channels of a row are filled up to a multiple of this: a whole vector in each precision."""
NEGLIGIBLE = 1e-14
MAX_CODED = 10_000
"""Coefficients that a GPU's kernel may have in its code: compiling takes minutes beyond."""
HEADER = 16
"""Numbers before the arrays of a program."""
_KERNEL_DTYPES = (torch.float32, torch.float64)
_FRAGMENT = torch.library.Library("etp", "FRAGMENT")


class EdgePath(NamedTuple):
    """One path: which block of channels meets which numbers of input 2, and where it goes.

    Attributes:
        x: First number of its block in input 1.
        y: First number in input 2.
        z: First number of its block in the output.
        w: First of its ``mul`` weights; -1 where it has none.
        mul: Channels of both blocks.
        values: Float64 coefficients, shape (components in 1, in 2, out).
    """

    x: int
    y: int
    z: int
    w: int
    mul: int
    values: Tensor


class EdgeTable(TableModule):
    """An edge product: its paths and how features lie.

    Args:
        paths: At least one. Blocks of one side are the same or apart; several paths may read or
            write the same one.
        dims: Numbers of input 1, input 2 and the output of an edge.
        weight_numel: Numbers of the weights of an edge.
        layout: ``mul_ir``, (channel, component) within a block, or ``ir_mul``.

    Raises:
        ValueError: If there is no path, or blocks overlap without being the same.
    """

    def __init__(
        self,
        paths: Sequence[EdgePath],
        dims: tuple[int, int, int],
        weight_numel: int,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__()
        if not paths:
            raise ValueError("paths must hold at least one path, got none")
        self.dims, self.weight_numel, self.layout = dims, weight_numel, layout
        self._places = [(*path[:5], tuple(path.values.shape)) for path in paths]
        values = [path.values.detach().to("cpu", torch.float64) for path in paths]
        program = _Program(self._places, [v.numpy() for v in values], dims, weight_numel, layout)
        self.register_table("dense", torch.cat([v.flatten() for v in values]))
        self.register_table("numbers", torch.from_numpy(program.numbers))
        self.register_buffer("program", torch.from_numpy(program.ints), persistent=False)
        # As code it may not be too long, and each weight is of one path.
        ranges = sorted((p[3], p[3] + p[4]) for p in self._places if p[3] >= 0)
        apart = all(one[1] <= two[0] for one, two in pairwise(ranges))
        self._codable = apart and len(program.numbers) <= 2 * MAX_CODED

    @property
    def places(self) -> list[tuple[Any, ...]]:
        """Of each path x, y, z, w, mul and the shape of its coefficients."""
        return self._places

    def coefficients(self) -> list[Tensor]:
        """Those of each path, float64."""
        sizes = [a * b * c for *_, (a, b, c) in self._places]
        flat = self.table("dense", torch.float64).split(sizes)
        return [c.reshape(p[5]) for c, p in zip(flat, self._places, strict=True)]

    def serves(self, *tensors: Tensor | None) -> bool:
        """Whether a kernel can compute this table of these."""
        return serves(*tensors, codable=self._codable)

    def plain(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        """The product of each edge's own features, in PyTorch: the reference.

        Args:
            x: Shape (E, dims[0]).
            y: Shape (E, dims[1]).
            w: Shape (E, weight_numel), (weight_numel,), or None for ones.
        """
        table = self.table("dense", x.dtype)
        blocks: dict[int, Tensor] = {}
        start = 0
        for px, py, pz, pw, mul, (d1, d2, d3) in self._places:
            c = table[start : start + d1 * d2 * d3].reshape(d1, d2, d3)
            start += d1 * d2 * d3
            first = x[:, px : px + mul * d1]
            second = torch.tensordot(y[:, py : py + d2], c, dims=([1], [1]))
            if self.layout == "mul_ir":
                z = torch.bmm(first.reshape(-1, mul, d1), second)
            else:
                z = torch.bmm(second.transpose(1, 2), first.reshape(-1, d1, mul))
            if w is not None and pw >= 0:
                own = w[..., pw : pw + mul]
                z = z * (own.unsqueeze(-1) if self.layout == "mul_ir" else own.unsqueeze(-2))
            z = z.reshape(x.shape[0], mul * d3)
            blocks[pz] = blocks[pz] + z if pz in blocks else z
        return self._joined(blocks, x)

    def _joined(self, blocks: dict[int, Tensor], like: Tensor) -> Tensor:
        parts, end = [], 0
        for start in sorted(blocks):
            if start > end:
                parts.append(like.new_zeros(like.shape[0], start - end))
            parts.append(blocks[start])
            end = start + blocks[start].shape[1]
        if end < self.dims[2]:
            parts.append(like.new_zeros(like.shape[0], self.dims[2] - end))
        return torch.cat(parts, dim=1)

    def plain_convolution(
        self,
        x: Tensor,
        y: Tensor,
        w: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> Tensor:
        """The convolution in PyTorch."""
        messages = self.plain(x.index_select(0, senders), y, w)
        out = messages.new_zeros(num_nodes, self.dims[2])
        return out.index_add(0, receivers, messages)


def edge(table: EdgeTable, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
    """Edge product of rows; differentiable any number of times.

    Args:
        table: The product.
        x: Features of each edge, (E, dims[0]).
        y: Shape (E, dims[1]).
        weights: (E, weight_numel), (weight_numel,), or None for ones.

    Returns:
        Shape (E, dims[2]).
    """
    if not table.serves(x, y, weights):
        return table.plain(x, y, weights)
    none = x.new_empty(0, 0)
    return _run(table, x, y, weights, none, none, x.shape[0])


def convolution(
    table: EdgeTable,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    senders: Tensor,
    receivers: Tensor,
    num_nodes: int,
) -> Tensor:
    """``z[n] = sum over edges e with receiver n of edge(x[sender(e)], y[e], weights[e])``.

    Args:
        table: The product.
        x: Features of nodes, (N, dims[0]).
        y: Shape (E, dims[1]).
        weights: (E, weight_numel), (weight_numel,), or None for ones.
        senders: Node of ``x`` that each edge reads, (E,), int32 or int64.
        receivers: Row of the result that each edge is added to, likewise; fastest where sorted.
        num_nodes: Rows of the result.

    Returns:
        Shape (num_nodes, dims[2]). Always the same numbers for the same edges, whatever the
        threads; in another order of the edges the same up to rounding.
    """
    if not table.serves(x, y, weights):
        return table.plain_convolution(x, y, weights, senders, receivers, num_nodes)
    return _run(table, x, y, weights, senders, receivers, num_nodes)


def _run(
    table: EdgeTable,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    senders: Tensor,
    receivers: Tensor,
    rows: int,
) -> Tensor:
    wide = x.dtype if x.dtype in _KERNEL_DTYPES else torch.float32
    w = x.new_empty(0) if weights is None else weights
    given = (t.to(wide) for t in (x, y, w))
    z: Tensor = torch.ops.etp.edge_forward.default(
        *given,
        senders,
        receivers,
        table.index("program"),
        table.table("numbers", wide),
        rows,
        table.dims[2],
    )
    return z.to(x.dtype)


def serves(*tensors: Tensor | None, codable: bool = True) -> bool:
    """Whether a kernel can compute this: on a CPU or a GPU, outside transforms of functions.

    Args:
        *tensors: What it is given.
        codable: Whether a GPU's kernel may have the table in its code.
    """
    devices = {t.device.type for t in tensors if t is not None}
    if len(devices) != 1 or not devices <= {"cpu", "cuda"}:
        return False
    if plain_only():
        return False
    return codable and _on_gpu() if _on_triton(*devices) else _ready()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _on_triton(device: str) -> bool:
    """Whether it would be Triton that runs on this type of device."""
    return device == "cuda" or (device == "cpu" and triton_source.interpreted())


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _on_gpu() -> bool:
    """Whether the operators have their Triton kernels in this process."""
    if triton_source.triton_missing() is not None:
        return False
    from etp.kernels.on_gpu import triton_edge, triton_power

    triton_edge.register()
    triton_power.register()
    return True


def _ready() -> bool:
    at_hand = _at_hand()
    if at_hand and not torch.compiler.is_compiling() and compiling.OPEN:
        compiling.used(build.library().artifact)
    return at_hand


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _at_hand() -> bool:
    """Whether the operators have their kernels in this process."""
    return build.at_hand()


class _Program:
    """A table as ``edge.c`` reads it: ``ints`` and ``numbers``."""

    def __init__(
        self,
        places: Sequence[tuple[Any, ...]],
        values: Sequence[np.ndarray[Any, np.dtype[np.float64]]],
        dims: tuple[int, int, int],
        weight_numel: int,
        layout: Layout,
    ) -> None:
        first = _Rows([(p[0], p[4], p[5][0]) for p in places], dims[0], "input 1")
        last = _Rows([(p[2], p[4], p[5][2]) for p in places], dims[2], "the output")
        row, component, entries = [0], [], []
        paths = []
        for (px, py, pz, pw, mul, (d1, _, d3)), c in zip(places, values, strict=True):
            padded = _padded(mul)
            paths.append((first.row[px], last.row[pz], pw, mul, padded, d3, len(row) - 1))
            for k in range(d3):
                for i in range(d1):
                    terms = np.flatnonzero(np.abs(c[i, :, k]) > NEGLIGIBLE)
                    if len(terms):
                        component.append(i * padded)
                        entries.append([(py + j, c[i, j, k]) for j in terms])
                row.append(len(component))
        term = np.cumsum([0, *map(len, entries)])
        flat = [(e, j, v) for e, terms in enumerate(entries) for j, v in terms]
        by_y = sorted(flat, key=lambda item: (item[1], item[0]))
        of_y = np.searchsorted([j for _, j, _ in by_y], np.arange(dims[1] + 1))
        widest = max(_padded(p[4]) for p in places)
        macs = sum((row[start + d3] - row[start]) * mul for _, _, _, mul, _, d3, start in paths)
        header = (
            len(paths), len(first.blocks), len(last.blocks), len(entries), len(flat), *dims,
            weight_numel, int(layout == "ir_mul"), first.size, last.size, widest,
            macs, int(first.whole), int(last.whole),
        )  # fmt: skip
        ints = (
            header, np.ravel(paths), np.ravel(first.blocks), np.ravel(last.blocks), row, component,
            term, [j for _, j, _ in flat], of_y, [e for e, _, _ in by_y],
        )  # fmt: skip
        self.ints = np.concatenate([np.asarray(part, dtype=np.int32) for part in ints])
        self.numbers = np.array([v for *_, v in flat] + [v for *_, v in by_y], dtype=np.float64)


class _Rows:
    """Blocks of one side, and where the kernel keeps their rows."""

    def __init__(self, wanted: Sequence[tuple[int, int, int]], dim: int, side: str) -> None:
        self.row: dict[int, int] = {}
        self.blocks: list[tuple[int, ...]] = []
        self.size = 0
        for start, mul, width in sorted(set(wanted)):
            self.row[start] = self.size
            self.blocks.append((start, mul, width, self.size, _padded(mul)))
            self.size += width * _padded(mul)
        for one, two in pairwise(self.blocks):
            if one[0] + one[1] * one[2] > two[0]:
                raise ValueError(
                    f"paths must use blocks of {side} that are the same or apart, got blocks at "
                    f"{one[0]} and {two[0]} that overlap"
                )
        self.whole = sum(mul * width for _, mul, width, _, _ in self.blocks) == dim


def _padded(mul: int) -> int:
    return -(-mul // PADDING) * PADDING


# The operators. Shapes of what they give, and their derivatives.

_GRAPH = "Tensor senders, Tensor receivers, Tensor program, Tensor values"
_CHANGE = "Tensor hx, Tensor hy, Tensor hw"
for _schema in (
    f"edge_forward(Tensor x, Tensor y, Tensor w, {_GRAPH}, SymInt rows, int width) -> Tensor",
    f"edge_forward_change(Tensor x, Tensor y, Tensor w, {_CHANGE}, {_GRAPH}, SymInt rows,"
    " int width) -> Tensor",
    f"edge_backward(Tensor grad, Tensor x, Tensor y, Tensor w, {_GRAPH}, bool want_x)"
    " -> (Tensor, Tensor, Tensor)",
    f"edge_backward_change(Tensor grad, Tensor x, Tensor y, Tensor w, {_CHANGE}, {_GRAPH},"
    " bool want_x) -> (Tensor, Tensor, Tensor)",
):
    _FRAGMENT.define(_schema)


def _forward_shape(x: Tensor, *rest: Any) -> Tensor:
    rows, width = rest[-2:]
    return x.new_empty(rows, width)


def _backward_shapes(
    grad: Tensor, x: Tensor, y: Tensor, w: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    gx = torch.empty_like(x) if rest[-1] else x.new_empty(0, x.shape[1])
    return gx, torch.empty_like(y), torch.empty_like(w)


for _name in ("edge_forward", "edge_forward_change"):
    torch.library.register_fake(f"etp::{_name}", _forward_shape)
for _name in ("edge_backward", "edge_backward_change"):
    torch.library.register_fake(f"etp::{_name}", _backward_shapes)

Grads = tuple[Tensor | None, ...]


def _keep(count: int) -> Callable[..., None]:
    """Remember the first ``count`` tensors of an operator, and all else."""

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:count], *inputs[count : count + 4])
        ctx.rest = inputs[count + 4 :]

    return keep


def _forward_backward(ctx: Any, grad: Tensor) -> Grads:
    x, y, w, *graph = ctx.saved_tensors
    gx, gy, gw = torch.ops.etp.edge_backward(grad, x, y, w, *graph, ctx.needs_input_grad[0])
    return (gx if ctx.needs_input_grad[0] else None, gy, gw, *[None] * 6)


def _backward_backward(ctx: Any, hx: Tensor, hy: Tensor, hw: Tensor) -> Grads:
    """Gradients of <hx, gx> + <hy, gy> + <hw, gw>: what the operators give along (hx, hy, hw)."""
    grad, x, y, w, *graph = ctx.saved_tensors
    if not ctx.rest[0]:
        hx = torch.zeros_like(x)
    given = (x, y, w, hx.contiguous(), hy.contiguous(), hw.contiguous(), *graph)
    out: list[Tensor | None] = [None] * 4
    if ctx.needs_input_grad[0]:
        out[0] = torch.ops.etp.edge_forward_change(*given, grad.shape[0], grad.shape[1])
    if any(ctx.needs_input_grad[1:4]):
        need_x = ctx.needs_input_grad[1]
        gx, gy, gw = torch.ops.etp.edge_backward_change(grad, *given, need_x)
        out[1:] = [gx if need_x else None, gy, gw]
    return (*out, *[None] * 5)


# Derivatives of third order are those of the plain form, with graphs of their own.


def _plain(program: Tensor, values: Tensor, senders: Tensor, receivers: Tensor, rows: int) -> Any:
    """What ``edge_forward`` computes, as a function of x, y and w, from its table alone."""
    table = restored(program, values).to(values.device)

    def product(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        own = w if w.numel() else None
        if senders.ndim == 1:
            return table.plain_convolution(x, y, own, senders, receivers, rows)
        return table.plain(x, y, own)

    return product


def _change(product: Any, given: Sequence[Tensor], along: Sequence[Tensor]) -> Tensor:
    """Change of a function that is linear in x and y, and in w up to paths without weights."""
    x, y, w = given
    z: Tensor = product(along[0], y, w) + product(x, along[1], w)
    if not along[2].numel():
        return z
    return z + product(x, y, along[2]) - product(x, y, torch.zeros_like(w))


def _forward_change_backward(ctx: Any, grad: Tensor) -> Grads:
    *tensors, senders, receivers, program, values = ctx.saved_tensors
    product = _plain(program, values, senders, receivers, ctx.rest[0])

    def change(*t: Tensor) -> tuple[Tensor, ...]:
        return (_change(product, t[:3], t[3:]),)

    return (*vjp(change, tensors, [grad]), *[None] * 6)


def _backward_change_backward(ctx: Any, *grads: Tensor) -> Grads:
    *tensors, senders, receivers, program, values = ctx.saved_tensors
    product = _plain(program, values, senders, receivers, tensors[0].shape[0])

    def gradients(grad: Tensor, *t: Tensor) -> tuple[Tensor, ...]:
        total = (grad * _change(product, t[:3], t[3:])).sum()
        made = torch.autograd.grad(total, t[:3], create_graph=True, allow_unused=True)
        return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(made, t, strict=False))

    if not ctx.rest[0]:
        grads = (torch.zeros_like(tensors[1]), *grads[1:])
    return (*vjp(gradients, tensors, grads), *[None] * 5)


def vjp(
    function: Callable[..., tuple[Tensor, ...]], tensors: Sequence[Tensor], grads: Sequence[Tensor]
) -> Grads:
    """Gradients of a function for given ones of its results; differentiable where asked."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in tensors]
        made = function(*own)
    pairs = [(z, g) for z, g in zip(made, grads, strict=True) if z.requires_grad]
    return torch.autograd.grad(
        [z for z, _ in pairs], own, [g for _, g in pairs], create_graph=further, allow_unused=True
    )


def restored(program: Tensor, values: Tensor) -> EdgeTable:
    """The table that a program was made of, from the layout that :class:`_Program` gives it."""
    ints = program.tolist()
    n_paths, n_in, n_out, entries, terms, *dims, numel, by_component = ints[:10]
    parts: list[list[tuple[int, ...]]] = []
    at = HEADER
    for size in (7 * n_paths, 5 * n_in, 5 * n_out):
        parts.append([tuple(ints[k : k + (7 if not parts else 5)])
                      for k in range(at, at + size, 7 if not parts else 5)])  # fmt: skip
        at += size
    paths, first, last = parts
    row = ints[at : at + 1 + sum(path[5] for path in paths)]
    component = ints[at + len(row) :][:entries]
    term = ints[at + len(row) + entries :][: entries + 1]
    source = ints[at + len(row) + 2 * entries + 1 :][:terms]
    by_row1, by_row3 = ({b[3]: b for b in blocks} for blocks in (first, last))
    made = []
    for x, z, w, mul, padded, d3, start in paths:
        c = torch.zeros(by_row1[x][2], dims[1], d3, dtype=torch.float64)
        for k in range(d3):
            for e in range(row[start + k], row[start + k + 1]):
                for n in range(term[e], term[e + 1]):
                    c[component[e] // padded, source[n], k] = values[n].double()
        made.append(EdgePath(by_row1[x][0], 0, by_row3[z][0], w, mul, c))
    return EdgeTable(made, tuple(dims), numel, "ir_mul" if by_component else "mul_ir")


for _name, _count, _backward in (
    ("edge_forward", 3, _forward_backward),
    ("edge_backward", 4, _backward_backward),
    ("edge_forward_change", 6, _forward_change_backward),
    ("edge_backward_change", 7, _backward_change_backward),
):
    torch.library.register_autograd(f"etp::{_name}", _backward, setup_context=_keep(_count))

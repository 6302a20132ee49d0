r"""Edge products given by tables: one set of spherical harmonics meets every channel of a node.

.. math::
    z_{e,k,u} = \sum_{paths} w_{e,path,u} \sum_{ij} c_{ijk}\, x_{e,i,u}\, y_{e,j}

and convolutions, which gather ``x`` from senders and add ``z`` up at receivers. On a CPU both run
as ``on_cpu/edge.c``: derivatives of first and second order by the same walk, never an array of
edges by outputs. On a GPU, and in Triton's interpreter, ``on_gpu/triton_edge.py`` does the same.
Elsewhere, and for what the kernels do not serve, they run in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from etp.kernels.edge_table import EdgeTable, restored
from etp.kernels.operators import KERNEL_DTYPES, Grads, keep, serves, vjp
from etp.kernels.straight import derived

_FRAGMENT = torch.library.Library("etp", "FRAGMENT")


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
    if not serves(x, y, weights, codable=table.codable):
        return table.plain(x, y, weights)
    none = x.new_empty(0, 0)
    return run(table, x, y, weights, none, none, x.shape[0])


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
    if not serves(x, y, weights, codable=table.codable):
        return table.plain_convolution(x, y, weights, senders, receivers, num_nodes)
    return run(table, x, y, weights, senders, receivers, num_nodes)


def run(
    table: EdgeTable,
    x: Tensor,
    y: Tensor,
    weights: Tensor | None,
    senders: Tensor,
    receivers: Tensor,
    rows: int,
) -> Tensor:
    """A convolution by a kernel, which must serve; an edge product where the graph has two axes."""
    w = x.new_empty(0) if weights is None else weights
    if x.dtype not in KERNEL_DTYPES:
        wide = run(table, x.float(), y.float(), w.float(), senders, receivers, rows)
        return wide.to(x.dtype)
    z: Tensor = _forward(
        x, y, w, senders, receivers, table.index("program"), table.table("numbers", x.dtype), rows,
        table.dims[2],
    )  # fmt: skip
    return z


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


def _forward_backward(ctx: Any, grad: Tensor) -> Grads:
    x, y, w, *graph = ctx.saved_tensors
    gx, gy, gw = _backward(grad, x, y, w, *graph, ctx.needs_input_grad[0])
    return (gx if ctx.needs_input_grad[0] else None, gy, gw, *[None] * 6)


def _backward_backward(ctx: Any, hx: Tensor, hy: Tensor, hw: Tensor) -> Grads:
    """Gradients of <hx, gx> + <hy, gy> + <hw, gw>: what the operators give along (hx, hy, hw)."""
    grad, x, y, w, *graph = ctx.saved_tensors
    if not ctx.rest[0]:
        hx = torch.zeros_like(x)
    given = (x, y, w, hx.contiguous(), hy.contiguous(), hw.contiguous(), *graph)
    out: list[Tensor | None] = [None] * 4
    if ctx.needs_input_grad[0]:
        out[0] = _forward_change(*given, grad.shape[0], grad.shape[1])
    if any(ctx.needs_input_grad[1:4]):
        need_x = ctx.needs_input_grad[1]
        gx, gy, gw = _backward_change(grad, *given, need_x)
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


_forward = derived("edge_forward", 3, keep(3), _forward_backward)
_backward = derived("edge_backward", 4, keep(4), _backward_backward)
_forward_change = derived("edge_forward_change", 6, keep(6), _forward_change_backward)
_backward_change = derived("edge_backward_change", 7, keep(7), _backward_change_backward)

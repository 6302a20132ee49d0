r"""Powers given by polynomials: each channel of a node is raised to sums of products of itself.

.. math::
    z_{n,k,u} = \sum_{m} c_{k,m,u}(n)\, a_{n,i_1,u} \cdots a_{n,i_\nu,u}, \qquad
    c_{k,m,u}(n) = \sum_p T_{k,m,p}\, w_{e(n),p,u}

over the sorted monomials m = (i_1 <= ... <= i_nu) that occur. On a CPU this runs as
``on_cpu/power.c``: weights are contracted once for each element, and derivatives of first and
second order take the same walk. On a GPU ``on_gpu/triton_power.py`` does so. Elsewhere, and for
what the kernels do not serve, it runs in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from etp.kernels.modes import real_tensors
from etp.kernels.operators import KERNEL_DTYPES, Grads, keep, serves, vjp
from etp.kernels.power_table import PowerTable, plain, restored

_FRAGMENT = torch.library.Library("etp", "FRAGMENT")


def power(
    table: PowerTable, x: Tensor, w: Tensor, elements: Tensor | None, lie: Tensor, channels: int
) -> Tensor:
    """Raise features; differentiable any number of times.

    Args:
        table: What is computed of one channel.
        x: Shape (N, dim * channels).
        w: Shape (numel * channels,), or a row for each node, or, with elements, for each element.
        elements: Row of ``w`` of each node, (N,), int32 or int64.
        lie: :func:`places` of the components of input and output, int32, (dim + out, 2).
        channels: Of input and output.

    Returns:
        Shape (N, out * channels).
    """
    if not serves(x, w, codable=table.codable):
        return plain(table, x, w, elements, lie)
    wide = x.dtype if x.dtype in KERNEL_DTYPES else torch.float32
    none = x.new_empty(0, 0) if elements is None else elements
    z: Tensor = torch.ops.etp.power_forward.default(
        x.to(wide), w.to(wide), none, table.index("code"), lie, table.table("numbers", wide),
        table.out * channels,
    )  # fmt: skip
    return z.to(x.dtype)


# The operators. Shapes of what they give, and their derivatives.

_TABLES = "Tensor elements, Tensor program, Tensor places, Tensor values"
for _schema in (
    f"power_forward(Tensor x, Tensor w, {_TABLES}, int width) -> Tensor",
    f"power_forward_change(Tensor x, Tensor w, Tensor hx, Tensor hw, {_TABLES}, int width)"
    " -> Tensor",
    f"power_backward(Tensor grad, Tensor x, Tensor w, {_TABLES}, bool want_x, bool want_w)"
    " -> (Tensor, Tensor)",
    f"power_backward_change(Tensor grad, Tensor x, Tensor w, Tensor hx, Tensor hw, {_TABLES},"
    " bool want_x, bool want_w) -> (Tensor, Tensor)",
):
    _FRAGMENT.define(_schema)


def _forward_shape(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], rest[-1])


def _backward_shapes(grad: Tensor, x: Tensor, w: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    want_x, want_w = rest[-2:]
    return (
        x.new_empty(x.shape[0] if want_x else 0, x.shape[1]),
        w.new_empty(w.shape if want_w else (0,)),
    )


for _name in ("power_forward", "power_forward_change"):
    torch.library.register_fake(f"etp::{_name}", _forward_shape)
for _name in ("power_backward", "power_backward_change"):
    torch.library.register_fake(f"etp::{_name}", _backward_shapes)


def _forward_backward(ctx: Any, grad: Tensor) -> Grads:
    x, w, *tables = ctx.saved_tensors
    want = ctx.needs_input_grad[:2]
    made = torch.ops.etp.power_backward(grad, x, w, *tables, *want)
    return (*(g if asked else None for g, asked in zip(made, want, strict=True)), *[None] * 5)


def _backward_backward(ctx: Any, hx: Tensor, hw: Tensor) -> Grads:
    """Gradients of <hx, gx> + <hw, gw>: what the operators give along (hx, hw)."""
    grad, x, w, *tables = ctx.saved_tensors
    wanted_x, wanted_w = ctx.rest
    along = (hx if wanted_x else torch.zeros_like(x), hw if wanted_w else torch.zeros_like(w))
    given = (x, w, *along, *tables)
    out: list[Tensor | None] = [None] * 3
    if ctx.needs_input_grad[0]:
        out[0] = torch.ops.etp.power_forward_change(*given, grad.shape[1])
    want = ctx.needs_input_grad[1:3]
    if any(want):
        made = torch.ops.etp.power_backward_change(grad, *given, *want)
        out[1:] = [g if asked else None for g, asked in zip(made, want, strict=True)]
    return (*out, *[None] * 6)


# Derivatives of third order are those of the plain form, with graphs of their own.


def _restored(tables: Sequence[Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """What ``power_forward`` computes, as a function of x and w, from its tables alone."""
    elements, program, lie, values = tables
    with real_tensors():
        table = restored(program, values)
    table = table.to(values.device)
    own = elements if elements.ndim == 1 else None
    return lambda x, w: plain(table, x, w, own, lie)


def _forward_change_backward(ctx: Any, grad: Tensor) -> Grads:
    *tensors, elements, program, lie, values = ctx.saved_tensors
    product = _restored((elements, program, lie, values))

    def change(x: Tensor, w: Tensor, hx: Tensor, hw: Tensor) -> tuple[Tensor, ...]:
        return (torch.func.jvp(product, (x, w), (hx, hw))[1],)

    return (*vjp(change, tensors, [grad]), *[None] * 5)


def _backward_change_backward(ctx: Any, *grads: Tensor) -> Grads:
    *tensors, elements, program, lie, values = ctx.saved_tensors
    product = _restored((elements, program, lie, values))
    want = ctx.rest

    def gradients(grad: Tensor, x: Tensor, w: Tensor, hx: Tensor, hw: Tensor) -> tuple[Tensor, ...]:
        total = (grad * torch.func.jvp(product, (x, w), (hx, hw))[1]).sum()
        own = [t for t, asked in zip((x, w), want, strict=True) if asked]
        return torch.autograd.grad(total, own, create_graph=True)

    asked = [g for g, wanted in zip(grads, want, strict=True) if wanted]
    return (*vjp(gradients, tensors, asked), *[None] * 6)


for _name, _count, _backward in (
    ("power_forward", 2, _forward_backward),
    ("power_backward", 3, _backward_backward),
    ("power_forward_change", 4, _forward_change_backward),
    ("power_backward_change", 5, _backward_change_backward),
):
    torch.library.register_autograd(f"etp::{_name}", _backward, setup_context=keep(_count))

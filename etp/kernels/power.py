r"""Powers given by polynomials: each channel of a node is raised to sums of products of itself.

.. math::
    z_{n,k,u} = \sum_{m} c_{k,m,u}(n)\, a_{n,i_1,u} \cdots a_{n,i_\nu,u}, \qquad
    c_{k,m,u}(n) = \sum_p T_{k,m,p}\, w_{e(n),p,u}

over the sorted monomials m = (i_1 <= ... <= i_nu) that occur. On a CPU this runs as
``on_cpu/power.c``: weights are contracted once for each element, and derivatives of first and
second order take the same walk. On a GPU ``on_gpu/triton_power.py`` does so. Powers by steps
(:class:`PowerSteps`) are the same operators, and run as ``on_cpu/power_steps.c``. Elsewhere, and
for what the kernels do not serve, all run in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from etp.kernels.modes import plain_only, real_tensors
from etp.kernels.operators import KERNEL_DTYPES, Grads, keep, serves, vjp
from etp.kernels.power_steps import PowerSteps, by_steps
from etp.kernels.power_table import PowerTable, plain, restored
from etp.kernels.straight import derived

Table = PowerTable | PowerSteps
_FRAGMENT = torch.library.Library("etp", "FRAGMENT")


def power(
    table: PowerTable | PowerSteps,
    x: Tensor,
    w: Tensor,
    elements: Tensor | None,
    lie: Tensor,
    channels: int,
) -> Tensor:
    """Raise features; differentiable any number of times.

    Args:
        table: What is computed of one channel, polynomials or steps.
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
    if x.dtype not in KERNEL_DTYPES:
        return power(table, x.float(), w.float(), elements, lie, channels).to(x.dtype)
    none = x.new_empty(0, 0) if elements is None else elements
    z: Tensor = _forward(
        x, w, none, table.index("code"), lie, table.table("numbers", x.dtype),
        table.out * channels,
    )  # fmt: skip
    return z


_FRAGMENT.define("one_hot_places(Tensor rows) -> Tensor")


def one_hot_places(rows: Tensor) -> Tensor | None:
    """Where each row of (N, Z), which holds a one and else zeros, has its one, (N,).

    Returns:
        int32 or int64; None where a row is not one-hot, where there are no numbers, and where a
        call must not depend on values.
    """
    if torch.compiler.is_compiling() or plain_only() or not rows.numel():
        return None
    if rows.device.type == "cpu" and rows.dtype in KERNEL_DTYPES and serves(rows):
        own: Tensor = torch.ops.etp.one_hot_places.default(rows)
        return own if len(own) else None
    largest, places = rows.max(1)
    # A one in every row, and as many numbers as rows: nothing else.
    one_hot = bool((largest == 1).all()) and int(rows.count_nonzero()) == len(rows)
    return places if one_hot else None


# The operators. Shapes of what they give, and their derivatives.

_TABLES = "Tensor elements, Tensor program, Tensor places, Tensor values"
for _schema in (
    f"power_forward(Tensor x, Tensor w, {_TABLES}, int width) -> Tensor",
    f"power_backward(Tensor grad, Tensor x, Tensor w, {_TABLES}, bool want_x, bool want_w)"
    " -> (Tensor, Tensor)",
    f"power_second(Tensor grad, Tensor x, Tensor w, Tensor hx, Tensor hw, {_TABLES},"
    " bool want_grad, bool want_x, bool want_w) -> (Tensor, Tensor, Tensor)",
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


def _second_shapes(grad: Tensor, x: Tensor, w: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    along = grad.new_empty(grad.shape[0] if rest[-3] else 0, grad.shape[1])
    return along, *_backward_shapes(grad, x, w, *rest)


def _forward_backward(ctx: Any, grad: Tensor) -> Grads:
    x, w, *tables = ctx.saved_tensors
    want = ctx.needs_input_grad[:2]
    made = _backward(grad, x, w, *tables, *want)
    return (*(g if asked else None for g, asked in zip(made, want, strict=True)), *[None] * 5)


def _keep_what_is_asked(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    keep(3)(ctx, inputs, output)
    # Forces ask nothing of gradients by weights: zeros would be walked through like numbers.
    ctx.set_materialize_grads(False)


def _backward_backward(ctx: Any, hx: Tensor | None, hw: Tensor | None) -> Grads:
    """Gradients of <hx, gx> + <hw, gw>: what the operators give along (hx, hw)."""
    grad, x, w, *tables = ctx.saved_tensors
    if hx is None and hw is None:
        return (None,) * 9
    wanted_x, wanted_w = ctx.rest
    along = (
        hx if wanted_x and hx is not None else torch.zeros_like(x),
        hw if wanted_w and hw is not None else w.new_empty(0),
    )
    want = ctx.needs_input_grad[:3]
    made = _second(grad, x, w, *along, *tables, *want)
    return (*(g if asked else None for g, asked in zip(made, want, strict=True)), *[None] * 6)


# Derivatives of third order are those of the plain form, with graphs of their own.


def _restored(tables: Sequence[Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """What ``power_forward`` computes, as a function of x and w, from its tables alone."""
    elements, program, lie, values = tables
    with real_tensors():
        table: PowerTable | PowerSteps = (
            PowerSteps.restored(program, values) if by_steps(program) else restored(program, values)
        )
    table = table.to(values.device)
    own = elements if elements.ndim == 1 else None
    return lambda x, w: plain(table, x, w, own, lie)


def _second_backward(ctx: Any, *grads: Tensor) -> Grads:
    *tensors, elements, program, lie, values = ctx.saved_tensors
    product = _restored((elements, program, lie, values))
    want = ctx.rest

    def second(grad: Tensor, x: Tensor, w: Tensor, hx: Tensor, hw: Tensor) -> tuple[Tensor, ...]:
        along = hw if hw.numel() else torch.zeros_like(w)
        change: Tensor = torch.func.jvp(product, (x, w), (hx, along))[1]
        own = [t for t, asked in zip((x, w), want[1:], strict=True) if asked]
        made = torch.autograd.grad((grad * change).sum(), own, create_graph=True) if own else ()
        return (change, *made) if want[0] else made

    asked = [g for g, wanted in zip(grads, want, strict=True) if wanted]
    return (*vjp(second, tensors, asked), *[None] * 7)


for _name, _shapes in (
    ("power_forward", _forward_shape),
    ("power_backward", _backward_shapes),
    ("power_second", _second_shapes),
):
    torch.library.register_fake(f"etp::{_name}", _shapes)
_forward = derived("power_forward", 2, keep(2), _forward_backward)
_backward = derived("power_backward", 3, _keep_what_is_asked, _backward_backward)
_second = derived("power_second", 5, keep(5), _second_backward)

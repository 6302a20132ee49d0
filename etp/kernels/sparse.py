"""Bilinear map given by a table of non-zeros: ``z[n, k] += w * x[n, i] * y[n, j]``.

Walked by Numba where there is no C++ compiler. Its derivatives are bilinear maps with the same
entries in other roles, so one kernel serves any order of differentiation.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from etp.kernels.modes import plain_only, traced

if TYPE_CHECKING:
    from etp.kernels.tables import TableModule


class CompressedRows(NamedTuple):
    """Entries sorted by the output component: compressed rows.

    Attributes:
        rows: int32, shape (dim_out + 1,): entries of component k are rows[k]..rows[k + 1].
        first: int32 component of the first factor of each entry.
        second: int32 component of the second factor.
        values: Coefficient of each entry.
    """

    rows: Tensor
    first: Tensor
    second: Tensor
    values: Tensor


class Forms(NamedTuple):
    """The map and its two transposes: x, y -> z; z, y -> x; z, x -> y."""

    product: CompressedRows
    by_first: CompressedRows
    by_second: CompressedRows


class SparseTable:
    """Entries of a bilinear map, kept as tables and buffers of a product.

    Args:
        owner: The product.
        name: Prefix of the names of the tables.
        entries: Components (i, j, k) of each entry, int64, shape (3, entries).
        values: Float64 coefficients, shape (entries,).
        dims: Numbers of components (dim1, dim2, dim_out).

    Attributes:
        entries: As given.
    """

    def __init__(
        self,
        owner: TableModule,
        name: str,
        entries: Tensor,
        values: Tensor,
        dims: tuple[int, int, int],
    ) -> None:
        self._owner, self._name = owner, name
        self.entries = entries
        self._forms: dict[torch.dtype, Forms] = {}
        i, j, k = entries
        for form, (out, first, second, dim) in {
            "product": (k, i, j, dims[2]),
            "by_first": (i, k, j, dims[0]),
            "by_second": (j, k, i, dims[1]),
        }.items():
            order = torch.argsort(out * (int(first.max()) + 1) + first, stable=True)
            counts = torch.bincount(out, minlength=dim)
            rows = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
            for part, tensor in (
                ("rows", rows),
                ("first", first[order]),
                ("second", second[order]),
            ):
                owner.register_buffer(
                    f"{name}_{form}_{part}", tensor.to(torch.int32), persistent=False
                )
            owner.register_table(f"{name}_{form}", values[order])

    def forms(self, dtype: torch.dtype) -> Forms:
        """The three forms with coefficients in ``dtype``; the same ones until the owner moves."""
        forms = self._forms.get(dtype)
        if forms is None or forms.product.values is not self._owner.table(
            f"{self._name}_product", dtype
        ):
            forms = Forms(*(self._form(form, dtype) for form in Forms._fields))
            self._forms[dtype] = forms
        return forms

    def _form(self, form: str, dtype: torch.dtype) -> CompressedRows:
        owner, prefix = self._owner, f"{self._name}_{form}"
        rows, first, second = (
            owner.index(f"{prefix}_{part}") for part in ("rows", "first", "second")
        )
        return CompressedRows(rows, first, second, owner.table(prefix, dtype))


def applies(x: Tensor) -> bool:
    """Whether the walk is at hand for ``x``, and nothing but numbers is asked for."""
    return x.is_cpu and type(x) is Tensor and not (traced() or plain_only() or cpu_kernel_missing())


def sparse_bilinear(x: Tensor, y: Tensor, forms: Forms) -> Tensor:
    """Apply the map to (N, dim1) and (N, dim2); differentiable any number of times."""
    result: Tensor = _Bilinear.apply(x, y, forms)  # type: ignore[no-untyped-call]
    return result


class _Bilinear(torch.autograd.Function):
    """Autograd on top of the kernel: each gradient is another bilinear map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, forms: Forms) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.forms = forms
        return apply_form(x.contiguous(), y.contiguous(), *forms.product)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        product, by_first, by_second = ctx.forms
        need_x, need_y, _ = ctx.needs_input_grad
        to_x = Forms(by_first, product, _swapped(by_second))
        to_y = Forms(by_second, _swapped(product), _swapped(by_first))
        return (
            sparse_bilinear(grad, y, to_x) if need_x else None,
            sparse_bilinear(grad, x, to_y) if need_y else None,
            None,
        )


def _swapped(form: CompressedRows) -> CompressedRows:
    return form._replace(first=form.second, second=form.first)


def apply_form(
    x: Tensor, y: Tensor, rows: Tensor, first: Tensor, second: Tensor, values: Tensor
) -> Tensor:
    """Evaluate one form, shape (N, len(rows) - 1)."""
    from etp.kernels.on_cpu import sparse_cpu

    out = x.new_empty(len(x), len(rows) - 1)
    sparse_cpu.run(x, y, rows, first, second, values, out)
    return out


@cache
def cpu_kernel_missing() -> str | None:
    """Why the kernel used where there is no C++ compiler cannot be; None if it can."""
    return None if find_spec("numba") else "numba is not installed: pip install numba"

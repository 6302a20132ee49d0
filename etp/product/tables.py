"""Constants of a product: kept in float64, cast to the dtype of the inputs once, last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from typing_extensions import override


class TableModule(nn.Module):
    """Module with float64 tables that follow it from device to device; nothing of it is saved."""

    def __init__(self) -> None:
        super().__init__()
        self._device = torch.device("cpu")
        self._tables: dict[str, Tensor] = {}
        self._cast: dict[tuple[str, torch.dtype], Tensor] = {}

    @property
    def table_bytes(self) -> int:
        """Memory of the tables in the dtypes in use, and of their float64 originals."""
        tables = [*self._tables.values(), *self._cast.values(), *self.buffers()]
        return sum(t.numel() * t.element_size() for t in tables)

    @property
    def device(self) -> torch.device:
        """Where the tables are, and the inputs must be."""
        return self._device

    def register_table(self, name: str, values: Tensor) -> None:
        """Keep a float64 table, cast on use to the dtype of the inputs by :meth:`table`."""
        self._tables[name] = values.to(torch.float64)
        self._cast_table(name, torch.get_default_dtype())

    def table(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return a registered table in ``dtype``, cast once from float64. Read-only."""
        cast = self._cast.get((name, dtype))
        return cast if cast is not None else self._cast_table(name, dtype)

    def _cast_table(self, name: str, dtype: torch.dtype) -> Tensor:
        # A table made in inference mode could not be used by autograd later.
        with torch.inference_mode(False):
            cast = self._tables[name].to(dtype).contiguous()
        self._cast[name, dtype] = cast
        return cast

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        probe = fn(torch.empty(0, device=self._device))
        self._device = probe.device
        self._tables = {name: table.to(probe.device) for name, table in self._tables.items()}
        self._cast = {}
        for name in self._tables:
            self._cast_table(name, probe.dtype)
        return self

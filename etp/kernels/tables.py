"""Constants of a product: kept in float64, cast to the dtype of the inputs once, last."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.kernels.modes import real_tensors, seen


class BuiltForReal(ABCMeta):
    """Builds modules on the CPU, whatever mode is in force, and then moves them.

    Coefficients are computed, so that there is no product without values: what is built where the
    default device is ``meta``, or in inference mode, can be moved and trained like any other.
    """

    @override
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        device = torch.get_default_device()
        with real_tensors():
            module = super().__call__(*args, **kwargs)
        return module if device.type == "cpu" else module.to(device)


class Unscripted(nn.Module):
    """A module that says so where ``torch.jit.script`` would read its source."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by ``torch.jit.script``, which cannot read this."""
        raise TypeError(
            f"torch.jit.script cannot read {type(self).__name__}: use torch.jit.trace, or "
            "torch.export with torch._inductor.aoti_compile_and_package, whose files run where "
            "etp is not"
        )


class TableModule(Unscripted, metaclass=BuiltForReal):
    """Module with constants that follow it from device to device; nothing of them is saved.

    Tables are float64, indices are buffers that are not persistent. Originals stay on the CPU, from
    which they are made again when the module moves.
    """

    def __init__(self) -> None:
        super().__init__()
        self._device = torch.device("cpu")
        self._tables: dict[str, Tensor] = {}
        self._indices: dict[str, Tensor] = {}
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
        self._tables[name] = values.to(torch.float64).contiguous()
        self._cast_table(name, torch.get_default_dtype())

    def table(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return a registered table in ``dtype``, cast once from float64. Read-only."""
        if dtype == torch.float64 and self._device.type == "cpu":
            # Itself: a compiler that found no cast, and had one made, would see another module.
            return seen(self._tables[name])
        cast = self._cast.get((name, dtype))
        return seen(cast if cast is not None else self._cast_table(name, dtype))

    def index(self, name: str) -> Tensor:
        """Return a registered index. Read-only."""
        index = self._buffers[name]  # get_buffer takes as long as a small kernel
        assert index is not None
        return seen(index)

    def optional_index(self, name: str) -> Tensor | None:
        """The same, None where none was needed or registered."""
        index = self._buffers.get(name)
        return None if index is None else seen(index)

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _cast_table(self, name: str, dtype: torch.dtype) -> Tensor:
        with real_tensors():
            cast = self._tables[name].to(self._device, dtype).contiguous()
        self._cast[name, dtype] = cast
        return cast

    @override
    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        if not persistent:
            if tensor is None:  # torch.export would count it as an input
                return
            # Its own memory under each name: export takes two names of one tensor for one input.
            tensor = self._indices[name] = tensor.clone()
        super().register_buffer(name, tensor, persistent)

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with real_tensors():
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
            probe = fn(torch.empty(0, device=self._device))
            self._device = probe.device
            # Their values do not come from the outside: nothing but the device is asked of them.
            self._buffers |= {name: t.to(probe.device) for name, t in self._indices.items()}
        self._cast = {}
        for name in self._tables:
            self._cast_table(name, probe.dtype)
        return self

"""Edge products and convolutions that another library computes, as its users call them."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.modes import module_seen, real_tensors
from etp.product.edge import EdgeProduct
from etp.product.graph import check_nodes
from etp.products._library import BEFORE, LibraryCall, bytes_of, dense_macs, edge_layout, runs_on


class LibraryEdge(EdgeProduct):
    """An edge product by one call of a library, in the order of our own features.

    A convolution is what its users write: gather, call, add up by receiver. Irreps that stand in
    several blocks, and another layout than the library's, are served in groups of channels as
    every edge product.
    """

    @abstractmethod
    def library_call(self, dtype: torch.dtype, device: torch.device, *, weighted: bool) -> Any:
        """Build the library's call: ``(x, y)``, or ``(x, y, weights)`` with a row for each edge."""

    @override
    def build(self) -> None:
        self._calls: dict[tuple[torch.dtype, bool], LibraryCall] = {}
        merged = all(
            len({ir for _, ir in irreps}) == len(irreps)
            for irreps in (self.irreps_in1, self.irreps_in2)
        )
        self.direct = merged and self.layout == edge_layout(self.algorithm)
        if self.direct:
            self.groups = []
        else:
            super().build()

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        if not self.direct:
            return super().multiply_channels(x1, x2, weights)
        if weights is None:
            return self._call(x1.dtype, weighted=False)(x1, x2)
        rows = weights.reshape(-1, self.weight_numel).expand(x1.shape[0], -1)
        return self._call(x1.dtype, weighted=True)(x1, x2, rows)

    @override
    def convolve(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> Tensor:
        check_nodes(x, senders, receivers, num_nodes)
        messages = self.multiply_channels(x.index_select(0, senders), y, weights)
        sums = messages.new_zeros(num_nodes, messages.shape[1])
        return sums.index_add(0, receivers, messages)

    def _call(self, dtype: torch.dtype, *, weighted: bool) -> LibraryCall:
        call = self._calls.get((dtype, weighted))
        if call is None:
            call = self._calls[dtype, weighted] = self._built(dtype, weighted=weighted)
        return module_seen(call)

    @torch.compiler.disable(reason=BEFORE)  # type: ignore[untyped-decorator]
    def _built(self, dtype: torch.dtype, *, weighted: bool) -> LibraryCall:
        with real_tensors():
            call: LibraryCall = self.library_call(dtype, self.device, weighted=weighted)
        return call

    @override
    def macs(self) -> int:
        if not self.direct:
            return super().macs()
        return sum(self.muls[path.ir_in1] * dense_macs([path]) for path in self.paths)

    @override
    def weight_macs(self) -> int:
        return self.scaled_macs() if self.direct else super().weight_macs()

    @property
    @override
    def table_bytes(self) -> int:
        if not self.direct:
            return super().table_bytes
        return bytes_of(self._calls.values())

    @override
    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._calls.clear()
        # As models call it, and now: compilers cannot build it.
        if self.direct and self.device.type in runs_on(self.algorithm):
            self._call(fn(torch.empty(0, device=self.device)).dtype, weighted=True)
        return self

    @override
    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the library's call."""
        built = self.library_call
        compiled = partial(torch.compile, *args, **kwargs)
        self.library_call = lambda *a, **k: compiled(built(*a, **k))  # type: ignore[method-assign]
        self._calls.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the library built; a copy builds its own."""
        return self.__dict__ | {"_calls": {}}

"""Products that another library computes, behind the same interface and in its own layout.

Timed is the library's own call on inputs in the library's layout. Bringing its output to ours is
checked, like every output, but not timed: its users would not pay for it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.e3 import o3
from etp.irreps import Layout
from etp.kernels.modes import module_seen, real_tensors
from etp.maths import so3
from etp.maths.layout import output_index
from etp.problem import Weights
from etp.product.base import Cost, Path, TensorProduct
from etp.product.base import dense_macs as dense_macs

LibraryCall = Callable[..., Tensor]
BEFORE = "move the product with .to(device, dtype), or call it once, before it is compiled"
"""What a compiler is told that meets a library's call which is not built yet."""


class LibraryProduct(TensorProduct):
    """Channel-wise product with one block for each irrep in inputs and output, as libraries do it.

    Attributes:
        own_irreps: Both inputs and the output in the library's order: C of each irrep of
            ``irs_in1`` and ``irs_in2``, and C for each of ``irs_out`` (class attributes below).
        components_first: Whether a block is stored as (component, channel) instead of
            (channel, component).
        edge_layout: Layout of features that its call for edges takes.
        runs_on: Types of device that the library supports.
    """

    keeps_paths = True
    weights_per = "path"
    edge_layout: ClassVar[Layout] = "mul_ir"
    components_first: ClassVar[bool] = False
    runs_on: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Iterable[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        self._calls: dict[torch.dtype, LibraryCall] = {}
        self._compiler: Callable[[LibraryCall], LibraryCall] | None = None
        irs_of = {"own1": self.irs_in1, "own2": self.irs_in2, "own_out": self.irs_out}
        self.own_irreps = tuple(
            o3.Irreps([(self.channels, ir) for ir in irs]) for irs in irs_of.values()
        )
        for name, irs in irs_of.items():
            index = self._own_index(irs)
            if name == "own_out":
                index = index.argsort()
            identity = torch.equal(index, torch.arange(len(index)))
            self.register_buffer(name, None if identity else index, persistent=False)

    @abstractmethod
    def library_call(self, dtype: torch.dtype, device: torch.device) -> LibraryCall:
        """Build the library's call for inputs of a dtype on a device.

        It takes both inputs, (batch, dim) in the library's layout, and :meth:`more_inputs`.

        Raises:
            ValueError: If the library cannot do it; the message says why.
        """

    def more_inputs(self, like: Tensor, weights: Tensor | None = None) -> tuple[Tensor, ...]:
        """Further inputs of the library's call, such as weights, for a batch of ``len(like)``.

        Raises:
            ValueError: If there are weights and the library's call takes none.
        """
        if weights is not None:
            raise ValueError(
                f"{self.name} takes no weights: time it without, or a product that has them"
            )
        return ()

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        first, second = self._own_inputs(x1, x2)
        return self._to_rows(self._call(x1.dtype)(first, second, *self.more_inputs(first)))

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        if weights is not None:
            return super().multiply_channels(x1, x2, weights)
        return self.from_library(self.call_library(*self.to_library(x1, x2)))

    def to_library(
        self, x1: Tensor, x2: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Features, (N, dim) each, and weights as the library's call takes them.

        Args:
            x1: First input.
            x2: Second input.
            weights: Free weights, or None.
        """
        first, second = self._own_inputs(
            self._to_channels(x1, "layout1", self._dims[0]),
            self._to_channels(x2, "layout2", self._dims[1]),
        )
        return first, second, *self.more_inputs(first, weights)

    def call_library(self, *inputs: Tensor) -> Tensor:
        """The library's own call, in its own layout."""
        return self._call(inputs[0].dtype)(*inputs)

    def from_library(self, z: Tensor) -> Tensor:
        """Output of :meth:`call_library` as features, (N, irreps_out.dim)."""
        return self._from_channels(self._to_rows(z)).reshape(z.shape[0], -1)

    @property
    @override
    def table_bytes(self) -> int:
        return super().table_bytes + bytes_of(self._calls.values())

    def _call(self, dtype: torch.dtype) -> LibraryCall:
        call = self._calls.get(dtype)
        if call is None:
            call = self._calls[dtype] = self._built(dtype)
        return module_seen(call)

    @torch.compiler.disable(reason=BEFORE)  # type: ignore[untyped-decorator]
    def _built(self, dtype: torch.dtype) -> LibraryCall:
        if self.device.type not in (*self.runs_on, "meta"):
            raise ValueError(
                f"{self.name} runs on {' and '.join(self.runs_on)} only, got {self.device.type}"
            )
        with real_tensors():
            call = self.library_call(dtype, self.device)
        return call if self._compiler is None else self._compiler(call)

    @override
    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the library's call, which is what is timed; the reordering around it is ours."""
        self._compiler = partial(torch.compile, *args, **kwargs)
        self._calls = {dtype: self._compiler(call) for dtype, call in self._calls.items()}

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._calls.clear()
        # Now rather than at the first call: it belongs to setting up, and compilers cannot do it.
        if self.device.type in self.runs_on:
            self._call(fn(torch.empty(0, device=self.device)).dtype)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the library built; a copy builds its own."""
        return self.__dict__ | {"_calls": {}}

    def _own_index(self, irs: Sequence[o3.Irrep]) -> Tensor:
        """Positions in C rows of one channel of the library's components."""
        index = output_index(irs, self.channels)
        if not self.components_first:
            return index
        blocks = index.split([self.channels * ir.dim for ir in irs])
        return torch.cat([block.reshape(self.channels, -1).T.flatten() for block in blocks])

    def _own_inputs(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of one channel, (batch * C, dim), in the library's layout: (batch, C * dim)."""
        first, second = (
            self._selected(x.reshape(-1, self.channels * x.shape[1]), name)
            for x, name in ((x1, "own1"), (x2, "own2"))
        )
        return first, second

    def _to_rows(self, z: Tensor) -> Tensor:
        """The library's output (batch, C * dim) as rows of one channel."""
        return self._selected(z, "own_out").reshape(-1, self._dims[2])

    def _selected(self, x: Tensor, name: str) -> Tensor:
        index = self.optional_index(name)
        return x if index is None else x.index_select(-1, index)


class WeightedLibraryProduct(LibraryProduct):
    """With a weight for each sample, path and channel, an input of its own.

    Where none are given they are ones. Timed is always the call with its weights, (batch,
    paths * C), which are derived by too in the backward directions, as they come from a network.
    """

    @override
    def more_inputs(self, like: Tensor, weights: Tensor | None = None) -> tuple[Tensor, ...]:
        if weights is None:
            return (like.new_ones(like.shape[0], self.weight_numel),)
        return (weights.expand(like.shape[0], -1).contiguous(),)

    @override
    def cost(self, batch: int, itemsize: int, weights: Weights = "none") -> Cost:
        return super().cost(batch, itemsize, "per-sample")

    @override
    def weight_macs(self) -> int:
        return 0


def edge_layout(product: type[TensorProduct]) -> Layout:
    """Layout in which a class's edge products are timed: a library's own."""
    return product.edge_layout if issubclass(product, LibraryProduct) else "mul_ir"


def runs_on(product: type[TensorProduct]) -> tuple[str, ...]:
    """Types of device that a class's library supports."""
    return product.runs_on if issubclass(product, LibraryProduct) else ()


def bytes_of(calls: Iterable[LibraryCall]) -> int:
    """Bytes of the tables and parameters of a library's calls, where they are modules."""
    modules = [call for call in calls if isinstance(call, nn.Module)]
    tables = [t for module in modules for t in (*module.buffers(), *module.parameters())]
    return sum(t.numel() * t.element_size() for t in tables)


Instructions = list[tuple[int, int, int, str, bool]]


def instructions(product: TensorProduct, mode: str, *, weighted: bool) -> Instructions:
    """Paths as e3nn writes them: blocks of the inputs and the output, and how channels meet."""
    place1 = {ir: number for number, ir in enumerate(product.irs_in1)}
    place2 = {ir: number for number, ir in enumerate(product.irs_in2)}
    return [
        (place1[path.ir_in1], place2[path.ir_in2], number, mode, weighted)
        for number, path in enumerate(product.paths)
    ]


def nonzero_macs(paths: Iterable[Path]) -> int:
    """Multiply-adds of ``c * x * y`` for each coefficient that is not zero."""
    blocks = (so3.clebsch_gordan(p.ir_in1.l, p.ir_in2.l, p.ir_out.l) for p in paths)
    return sum(2 * int((block.abs() > so3.ZERO).sum()) for block in blocks)


def missing(*modules: str) -> str | None:
    """Name of the first module that is not installed; imports none of them."""
    return next((name for name in modules if find_spec(name) is None), None)

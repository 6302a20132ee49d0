"""The one interface: a tensor product is a set of weighted paths plus an algorithm.

A product *claims* its paths, ``z[l3] += c(l1, l2, l3) * (x[l1] . y[l2] . wigner_3j(l1, l2, l3))``,
through :meth:`TensorProduct.coefficient`; its :meth:`TensorProduct.multiply` computes them. The
measures in :mod:`etp.measure` hold the two against each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, Self

import torch
from e3nn import o3
from torch import Tensor, nn
from typing_extensions import override

from etp import irreps as irreps_module
from etp.layout import as_filter, channel_index, distinct, output_index, terms


class Path(NamedTuple):
    """One interaction: which irreps meet, where the result goes, and how strongly.

    ``coefficient`` is relative to ``e3nn.o3.wigner_3j`` and never 0.
    """

    ir_in1: o3.Irrep
    ir_in2: o3.Irrep
    ir_out: o3.Irrep
    coefficient: float


class Cost(NamedTuple):
    """What one call must do at the least: multiply-adds, and bytes read and written once."""

    macs: int
    bytes: int

    @property
    def flops(self) -> int:
        """Floating point operations, two for a multiply-add."""
        return 2 * self.macs


class TensorProduct(nn.Module, ABC):
    """Bilinear equivariant map of two sets of irreps; base class of every product.

    Multiplicities are channels: channel u of input 1 meets channel u of input 2. The product works
    in the dtype of its inputs; its tables are kept in float64 and cast last.

    Args:
        irreps_in1: First input, every irrep with the same multiplicity C.
        irreps_in2: Second input, same multiplicity.
        filter_ir_out: Irreps to keep in the output; None keeps all that can be reached.

    Attributes:
        channels: The common multiplicity C.
        keep: Output irreps asked for, None for all.
        weighted: Whether each path has a free weight (class attribute).
        bilinear: Whether both inputs are free; False where one is made from a direction.
        paths: Claimed paths of one channel, in the order of the output.
        irreps_out: One copy per path where ``keeps_paths``, one per irrep where not; times C.

    Raises:
        IrrepsError: If an input is not valid, or multiplicities differ.
        ValueError: If no path is left, naming the irreps and the rule that removed them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    group: ClassVar[str] = "O(3)"
    keeps_paths: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    bilinear: ClassVar[bool] = True

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Iterable[o3.Irrep] | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in1 = irreps_module.parse(irreps_in1, "irreps_in1")
        self.irreps_in2 = irreps_module.parse(irreps_in2, "irreps_in2")
        self.channels = self._common_channels()
        self.irs_in1 = distinct(self.irreps_in1)
        self.irs_in2 = distinct(self.irreps_in2)
        self.keep = None if filter_ir_out is None else as_filter(filter_ir_out)
        self.lmax_in1 = max(ir.l for ir in self.irs_in1)
        self.lmax_in2 = max(ir.l for ir in self.irs_in2)
        candidates = [
            (ir1, ir2, ir_out)
            for ir1 in self.irs_in1
            for ir2 in self.irs_in2
            for ir_out in self.couple(ir1, ir2)
            if self.keep is None or ir_out in self.keep
        ]
        self.lmax_out = max((ir_out.l for _, _, ir_out in candidates), default=0)
        claimed = (Path(*triple, self.coefficient(*triple)) for triple in candidates)
        self.paths = tuple(
            sorted((path for path in claimed if path.coefficient != 0.0), key=lambda p: p.ir_out)
        )
        if not self.paths:
            raise ValueError(self._why_empty(candidates))
        self.irs_out: tuple[o3.Irrep, ...] = (
            tuple(path.ir_out for path in self.paths)
            if self.keeps_paths
            else tuple(sorted({path.ir_out for path in self.paths}))
        )
        self.irreps_out = o3.Irreps([(self.channels, ir) for ir in self.irs_out]).simplify()
        self._device = torch.device("cpu")
        self._tables: dict[str, Tensor] = {}
        self._cast: dict[tuple[str, torch.dtype], Tensor] = {}
        self._register_layouts()

    @abstractmethod
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        """Return the claimed coefficient of a path relative to ``wigner_3j``; 0 if there is none.

        Called once the inputs' irreps and ``lmax_out`` are known.
        """

    @abstractmethod
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Multiply one channel: (N, dim1) and (N, dim2) to (N, dim_out).

        Components are those of ``irs_in1``, ``irs_in2`` and ``irs_out``, in that order.
        """

    @abstractmethod
    def macs(self) -> int:
        """Exact number of multiply-adds of :meth:`multiply` for one sample."""

    @classmethod
    def unavailable(cls) -> str | None:
        """Why this product cannot run here, with the mend; None if it can."""
        return None

    def couple(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep) -> Iterator[o3.Irrep]:
        """Labels of the output irreps that two input irreps could reach."""
        yield from ir_in1 * ir_in2

    @override
    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Multiply features of shape (..., irreps_in1.dim) and (..., irreps_in2.dim).

        Leading axes broadcast. Returns shape (..., irreps_out.dim).

        Raises:
            ValueError: If a shape, dtype or device does not fit; the message says what must hold.
        """
        self._check(x1, x2)
        batch = x1.shape[:-1]
        if x2.shape[:-1] != batch:
            batch = torch.broadcast_shapes(batch, x2.shape[:-1])
        if 0 in batch:
            # Transforms refuse empty batches; the sums keep the result differentiable.
            return x1.new_zeros(*batch, self._dims[2] * self.channels) + x1.sum() + x2.sum()
        # Views that change nothing still cost autograd a node each, so they are left out.
        x1, x2 = (x if x.shape[:-1] == batch else x.expand(*batch, -1) for x in (x1, x2))
        z = self._from_channels(
            self.multiply(
                self._to_channels(x1, "layout1", self._dims[0]),
                self._to_channels(x2, "layout2", self._dims[1]),
            )
        )
        return z if len(batch) == 1 else z.reshape(*batch, self._dims[2] * self.channels)

    def cost(self, batch: int, itemsize: int) -> Cost:
        """Multiply-adds and minimal bytes of one call on ``batch`` samples."""
        numbers = self.irreps_in1.dim + self.irreps_in2.dim + self.irreps_out.dim
        return Cost(self.macs() * batch * self.channels, numbers * batch * itemsize)

    @property
    def table_bytes(self) -> int:
        """Memory of the tables in the dtypes in use, and of their float64 originals."""
        tables = [*self._tables.values(), *self._cast.values(), *self.buffers()]
        return sum(t.numel() * t.element_size() for t in tables)

    @property
    def device(self) -> torch.device:
        """Where the tables are, and the inputs must be."""
        return self._device

    def random_inputs(
        self, batch: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor]:
        """Draw typical inputs on the CPU: independent standard normal components."""
        dims = (self.irreps_in1.dim, self.irreps_in2.dim)
        x1, x2 = (torch.randn(batch, dim, dtype=torch.float64, generator=generator) for dim in dims)
        return x1.to(dtype), x2.to(dtype)

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

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"{self.irreps_in1} x {self.irreps_in2} -> {self.irreps_out}"

    def _common_channels(self) -> int:
        counts = [
            irreps_module.channels(terms(irreps), field)
            for irreps, field in ((self.irreps_in1, "irreps_in1"), (self.irreps_in2, "irreps_in2"))
        ]
        if counts[0] != counts[1]:
            raise ValueError(
                "irreps_in1 and irreps_in2 must have the same multiplicity, got "
                f"{counts[0]} and {counts[1]}: channel u of input 1 meets channel u of input 2"
            )
        return counts[0]

    def _why_empty(self, candidates: list[Any]) -> str:
        if candidates:
            paths = ", ".join(f"{a} x {b} -> {c}" for a, b, c in candidates)
            return (
                f"{self.name} has no path for irreps_in1={self.irreps_in1}, irreps_in2="
                f"{self.irreps_in2}: it cannot couple {paths} (coefficient 0). Choose a product "
                "that reaches these paths, such as cg-dense, or other irreps."
            )
        wanted = "+".join(map(str, sorted(self.keep or ())))
        return "filter_ir_out leaves no path. " + irreps_module.why_empty(
            str(self.irreps_in1), str(self.irreps_in2), wanted
        )

    def _register_layouts(self) -> None:
        """Index features of C channels as C rows of one-channel features, and back."""
        # Plain numbers: the compiler cannot guard e3nn's irreps.
        self._dims = tuple(
            sum(ir.dim for ir in irs) for irs in (self.irs_in1, self.irs_in2, self.irs_out)
        )
        for name, irreps, irs in (
            ("layout1", self.irreps_in1, self.irs_in1),
            ("layout2", self.irreps_in2, self.irs_in2),
        ):
            index = channel_index(irreps, irs)
            identity = torch.equal(index, torch.arange(len(index)))
            self.register_buffer(name, None if identity else index, persistent=False)
        out = output_index(self.irs_out, self.channels) if self.channels > 1 else None
        self.register_buffer("layout_out", out, persistent=False)

    def _to_channels(self, x: Tensor, layout: str, dim: int) -> Tensor:
        index = self._buffers[layout]
        if index is not None:
            x = x.index_select(-1, index)
        return x if x.ndim == 2 and x.shape[1] == dim else x.reshape(-1, dim)

    def _from_channels(self, z: Tensor) -> Tensor:
        index = self._buffers["layout_out"]
        if index is None:
            return z
        return z.reshape(-1, len(index)).index_select(-1, index)

    def _check(self, x1: Tensor, x2: Tensor) -> None:
        for number, x in enumerate((x1, x2)):
            name = f"x{number + 1}"
            if x.ndim == 0 or x.shape[-1] != self._dims[number] * self.channels:
                irreps = (self.irreps_in1, self.irreps_in2)[number]
                raise ValueError(
                    f"{name} must have shape (..., {irreps.dim}) for irreps {irreps}, "
                    f"got {tuple(x.shape)}"
                )
            if x.device != self._device:
                raise ValueError(
                    f"{name} must be on {self._device}, where the product is, got {x.device}; "
                    f"move the product with .to('{x.device}')"
                )
            if not x.dtype.is_floating_point:
                raise ValueError(f"{name} must have a floating point dtype, got {x.dtype}")
        if x1.dtype != x2.dtype:
            raise ValueError(f"x1 and x2 must have the same dtype, got {x1.dtype} and {x2.dtype}")

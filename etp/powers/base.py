r"""What powers share: one input, an order, outputs asked for, weights for each element.

A power takes each channel of a node to sums of products of up to ``order`` of its components, as
the symmetric contraction of MACE does (Batatia et al. 2022, arXiv:2206.07697, eq. 10 and 11).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp import irreps as irreps_module
from etp.e3 import o3
from etp.irreps import LAYOUTS, IrrepsError, Layout
from etp.kernels.modes import autocasting
from etp.kernels.power_table import places
from etp.kernels.tables import TableModule
from etp.maths.layout import terms
from etp.problem import Weights
from etp.product.graph import check_below
from etp.product.inputs import has_shape, promoted
from etp.product.path import Cost


class WeightBlock(NamedTuple):
    """Weights that lead to one output irrep by one degree.

    Attributes:
        ir: The output irrep.
        degree: Number of factors.
        start: First weight of a channel in the block.
        size: Weights of a channel.
    """

    ir: o3.Irrep
    degree: int
    start: int
    size: int


class Power(TableModule):
    """Equivariant polynomial map of each channel; base class of every power.

    Args:
        irreps_in: C channels of every irrep, each irrep once: ``"16x0e+16x1o"``.
        order: Largest number of factors, at least 1.
        irreps_out: Irreps wanted, C channels of each, each once.
        layout: Order within the blocks of input and output, ``mul_ir`` or ``ir_mul``.

    Attributes:
        channels: C.
        irs_in: Irreps of one channel of the input.
        irs_out: Irreps of one channel of the output.
        blocks: What each part of the weights scales: for each output irrep, for each degree. A
            block holds its numbers in the order of the couplings, channels fastest.
        weights_per_channel: Weights of one channel of an element.

    Raises:
        IrrepsError: If irreps are not valid, or not C channels of irreps that are named once, or
            cannot be reached.
        ValueError: If ``order`` is below 1, or the layout is unknown.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    keeps_couplings: ClassVar[bool] = False
    """Whether each way to couple factors has a weight of its own: in the order of e3nn's sums, or,
    where it states tables, in theirs."""

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot run here; None if it can."""
        return None

    def __init__(
        self,
        irreps_in: str | o3.Irreps,
        *,
        order: int,
        irreps_out: str | o3.Irreps,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__()
        if not isinstance(order, int) or order < 1:
            raise ValueError(f"order must be a whole number of at least 1, got {order!r}")
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        self.irreps_in = irreps_module.parse(irreps_in, "irreps_in")
        self.irreps_out = irreps_module.parse(irreps_out, "irreps_out")
        self.order, self.layout = order, layout
        self.channels = _channels(self.irreps_in, self.irreps_out)
        self.irs_in = tuple(ir for _, ir in self.irreps_in)
        self.irs_out = tuple(ir for _, ir in self.irreps_out)
        first, last = ([ir.dim for ir in irs] for irs in (self.irs_in, self.irs_out))
        by_component = layout == "ir_mul"
        out = places(last, self.channels, by_component)
        for name, own in (
            ("lie", places(first, self.channels, by_component)),
            ("lie_whole", places([sum(first)], self.channels, False)),
        ):
            table = torch.tensor(own + out, dtype=torch.int32)
            self.register_buffer(name, table, persistent=False)
        self.blocks: tuple[WeightBlock, ...] = ()
        self.weights_per_channel = 0
        # Numbers of its own: compilers cannot look into irreps.
        self._dim = self.channels * sum(first)
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Number the weights and keep what is computed with, once the irreps are known.

        Raises:
            IrrepsError: If no product of the input leads to an irrep of the output.
        """

    def _count(self, counts: Sequence[tuple[o3.Irrep, int, int]]) -> None:
        """Number the weights: (output irrep, degree, weights of a channel) in order."""
        starts = accumulate((count for _, _, count in counts), initial=0)
        self.blocks = tuple(
            WeightBlock(ir, degree, start, size)
            for (ir, degree, size), start in zip(counts, starts, strict=False)
        )
        self.weights_per_channel = sum(size for _, _, size in counts)

    def _refuse_unreached(self, reached: Iterable[o3.Irrep]) -> None:
        """Raise for an output irrep that no product of the input leads to."""
        kept = set(reached)
        absent = [str(ir) for ir in self.irs_out if ir not in kept]
        if absent:
            rest = [term for term in terms(self.irreps_out) if str(term.ir) not in absent]
            raise IrrepsError(
                "irreps_out",
                f"{', '.join(absent)} cannot be reached: no {self.title} product of up to "
                f"{self.order} equal factors of {self.irreps_in} leads there.",
                irreps_module.to_text(rest) or None,
            )

    @property
    def weight_numel(self) -> int:
        """Numbers that an element has as weights."""
        return self.weights_per_channel * self.channels

    def tables(self) -> Sequence[Sequence[Tensor]] | None:
        """Its polynomials, where it states them; None where they are sums of couplings.

        Returns:
            For each output irrep its tables of degree 1, 2, ..., each float64 of shape
            (2l + 1, dim, ..., dim, weights), in the order of ``blocks``.
        """
        return None

    def first(self, ir: o3.Irrep) -> float:
        """What an irrep of the input is scaled by in the first power; claimed."""
        return 1.0

    @abstractmethod
    def coefficient(self, left: o3.Irrep, ir: o3.Irrep, ir_out: o3.Irrep) -> float:
        """What one factor more is multiplied in with; claimed, and checked by the oracle.

        Args:
            left: Irrep of a product of factors.
            ir: Irrep of the input that is the next factor.
            ir_out: Irrep of the longer product.

        Returns:
            The number that ``wigner_3j(left.l, ir.l, ir_out.l)`` is scaled by.
        """

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiply-adds of one channel of one node, weights contracted before."""

    def cost(self, nodes: int, itemsize: int, weights: Weights = "shared") -> Cost:
        """Multiply-adds and minimal bytes of one call.

        Args:
            nodes: Rows of the input.
            itemsize: Bytes of a number: 4 in float32.
            weights: Whether all nodes share weights or each has its own.

        Examples:
            >>> from etp import powers
            >>> power = powers.get("cg")("0e+1o", order=2, irreps_out="0e")
            >>> power.cost(10, 4).macs
            70
        """
        numbers = (self.irreps_in.dim + self.irreps_out.dim) * nodes
        numbers += self.weight_numel * (nodes if weights == "per-sample" else 1)
        return Cost(self.macs * nodes * self.channels, numbers * itemsize)

    @abstractmethod
    def evaluate(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> Tensor:
        """Raise features, as :meth:`forward` takes them, to (N, irreps_out.dim).

        ``weights`` are (weight_numel,), (N, weight_numel), or with ``elements`` (Z, weight_numel).
        """

    def lies(self, a: Tensor) -> Tensor:
        """Where components of features ``a`` are (:func:`etp.kernels.power_table.places`)."""
        return self.index("lie" if a.ndim == 2 else "lie_whole")

    @override
    def forward(self, a: Tensor, weights: Tensor, elements: Tensor | None = None) -> Tensor:
        """Raise the features of nodes.

        Args:
            a: Shape (N, irreps_in.dim), or (N, C, components) with all irreps of a channel one
                after the other, as MACE keeps them.
            weights: With ``elements`` (Z, weight_numel); without (weight_numel,), the same for all
                nodes, or (N, weight_numel).
            elements: Row of ``weights`` of each node: (N,) whole numbers below Z.

        Returns:
            Shape (N, irreps_out.dim).

        Raises:
            ValueError: If a shape, dtype or device does not fit, or on a CPU an element has no row;
                the message says what must hold.
        """
        autocast = autocasting(self._device.type)
        if autocast:
            a, weights, _ = promoted(a, weights, None)
        self._check(a, weights, elements)
        if not autocast:
            return self.evaluate(a, weights, elements)
        # In the dtype of the inputs: autocast would take digits from the maps.
        with torch.autocast(self._device.type, enabled=False):
            return self.evaluate(a, weights, elements)

    def _check(self, a: Tensor, weights: Tensor, elements: Tensor | None) -> None:
        for name, given in (("a", a), ("weights", weights)):
            if not isinstance(given, Tensor) or not given.dtype.is_floating_point:
                got = given.dtype if isinstance(given, Tensor) else type(given).__name__
                raise ValueError(f"{name} must be a floating point tensor, got {got}")
            if given.device != self._device:
                raise ValueError(
                    f"{name} must be on {self._device}, where the power is, got {given.device}; "
                    f"move the power with .to('{given.device}')"
                )
        if a.dtype != weights.dtype:
            raise ValueError(
                f"a and weights must have the same dtype, got {a.dtype} and {weights.dtype}"
            )
        dim = self._dim
        if tuple(a.shape[1:]) not in ((dim,), (self.channels, dim // self.channels)):
            raise ValueError(
                f"a must have shape (N, {dim}) or (N, {self.channels}, {dim // self.channels}) for "
                f"irreps {self.irreps_in}, got {tuple(a.shape)}"
            )
        numel, shape = self.weight_numel, tuple(weights.shape)
        if elements is None:
            if not has_shape(weights, (numel,), (a.shape[0], numel)):
                raise ValueError(
                    f"weights must have shape ({numel},) or ({a.shape[0]}, {numel}) where no "
                    f"elements are given, got {shape}"
                )
            return
        if len(shape) != 2 or shape[1] != numel:
            raise ValueError(f"weights must have shape (Z, {numel}) with elements, got {shape}")
        if not isinstance(elements, Tensor) or elements.dtype not in (torch.int32, torch.int64):
            got = elements.dtype if isinstance(elements, Tensor) else type(elements).__name__
            raise ValueError(f"elements must be an int64 or int32 tensor, got {got}")
        if tuple(elements.shape) != (a.shape[0],) or elements.device != self._device:
            raise ValueError(
                f"elements must have shape ({a.shape[0]},), one for each row of a, on "
                f"{self._device}, got {tuple(elements.shape)} on {elements.device}"
            )
        check_below("elements", elements, weights.shape[0])

    def pack_weights(self, parts: Sequence[Tensor]) -> Tensor:
        """Join weights of the blocks to what :meth:`forward` takes.

        Args:
            parts: For each of ``blocks`` a tensor of shape (..., size, C).

        Returns:
            Shape (..., weight_numel).

        Raises:
            ValueError: If a shape does not fit.
        """
        wanted = [(block.size, self.channels) for block in self.blocks]
        got = [tuple(part.shape[-2:]) for part in parts]
        if got != wanted:
            raise ValueError(f"parts must end in the shapes {wanted}, got {got}")
        return torch.cat([part.flatten(-2) for part in parts], dim=-1)

    @override
    def extra_repr(self) -> str:
        return (
            f"{self.irreps_in} -> {self.irreps_out}, order={self.order}, "
            f"{self.weight_numel} weights, layout={self.layout}"
        )


def _channels(irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> int:
    for field, irreps in (("irreps_in", irreps_in), ("irreps_out", irreps_out)):
        names = [str(ir) for _, ir in irreps]
        if len(set(names)) < len(names):
            again = next(name for name in names if names.count(name) > 1)
            raise IrrepsError(
                field,
                f"must name each irrep once, with its channels as multiplicity; {again} comes "
                f"{names.count(again)} times in {irreps}.",
            )
    count = irreps_module.channels(terms(irreps_in), "irreps_in")
    if irreps_module.channels(terms(irreps_out), "irreps_out") != count:
        mend = irreps_module.to_text(term._replace(mul=count) for term in terms(irreps_out))
        raise IrrepsError(
            "irreps_out",
            f"must have the {count} channels of irreps_in in every irrep, because a power takes "
            f"channel u to channel u; got {irreps_out}.",
            mend,
        )
    return count

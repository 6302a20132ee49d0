"""Edge products: one channel of input 2 meets every channel of input 1 (e3nn's ``uvu``).

Any product of one channel makes an edge product: channel u of input 1 holds the irreps that have
more than u copies, so channels fall into groups, and each group runs the product's own algorithm
on its irreps. What the algorithm makes of input 2 is made once and shared by all channels, where
it can. Products that are tables of coefficients run as kernels that read features as they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.irreps import Layout
from etp.kernels.tables import TableModule
from etp.maths.layout import distinct, places
from etp.problem import Weights
from etp.product.base import Cost, TensorProduct
from etp.product.kinds import edge_form

OF_CLASS = (
    "name", "title", "reference", "group", "keeps_paths", "weights_per", "rule",
    "bilinear", "as_table", "broadcasts", "approximate", "kinds",
)  # fmt: skip
"""What an edge product has from the class of its algorithm."""
SAME = 1e-12
"""Coefficients closer than this are the same."""


@edge_form("groups")
class EdgeProduct(TensorProduct):
    """The edge product of an algorithm.

    Features of a block ``mul x ir`` lie as ``layout`` says. ``paths`` are those of one channel;
    a path has as many channels as its irrep of input 1 has copies. The output has one block for
    each path where paths are kept, in their order, else one for each irrep, as wide as the widest
    path into it.

    Weights are a number for each factor and each copy of what it scales: a path has the channels
    of its input 1, a factor of an irrep of input 2, which has one channel, is one number.

    Args:
        algorithm: Class of the product.
        irreps_in1: First input, any multiplicities.
        irreps_in2: Second input, multiplicity 1.
        layout: Order within the blocks.
        options: Of the algorithm, the output filter among them.

    Attributes:
        whole: The algorithm's product of one channel that holds every irrep.
        muls: Copies of each irrep of input 1.
        channels: The most copies that an irrep of input 1 has.
    """

    kind = "edge"

    def __init__(
        self,
        algorithm: type[TensorProduct],
        irreps_in1: o3.Irreps,
        irreps_in2: o3.Irreps,
        layout: Layout,
        options: dict[str, Any],
    ) -> None:
        super(TensorProduct, self).__init__()
        for field in OF_CLASS:
            setattr(self, field, getattr(algorithm, field))
        self.algorithm, self.layout, self.options = algorithm, layout, options
        self.irreps_in1, self.irreps_in2 = irreps_in1, irreps_in2
        self.muls = irreps_in1_muls(irreps_in1)
        self.channels = max(self.muls.values())
        self.whole = self._core(distinct(irreps_in1))
        for field in ("irs_in1", "irs_in2", "keep", "lmax_in1", "lmax_in2", "lmax_out", "paths",
                      "irs_out", "weighting"):  # fmt: skip
            setattr(self, field, getattr(self.whole, field))
        self.slots = self._slots()
        self.irreps_out = o3.Irreps([(mul, ir) for ir, mul in self.slots])
        self._widths = (irreps_in1.dim, irreps_in2.dim, self.irreps_out.dim)
        self._dims = self._widths
        self._count_weights()
        self.build()

    def build(self) -> None:
        """Make what runs: by default a group of channels for each number of copies."""
        self._in_order = places(self.irreps_in1, self.irs_in1, self.layout)
        bounds = sorted({0, *self.muls.values()})
        self.groups: list[Group] = []
        for low, high in pairwise(bounds):
            irs = tuple(ir for ir in self.irs_in1 if self.muls[ir] > low)
            if any(path.ir_in1 in irs for path in self.paths):
                self.groups.append(Group(self, self._same(irs), irs, low, high))
        # Kept as modules too, so that they follow the product from device to device.
        self.cores = torch.nn.ModuleList(self.groups)
        order = torch.cat([group.outputs for group in self.groups]).argsort()
        self.register_buffer("output_order", _unless_identity(order), persistent=False)

    def _core(self, irs_in1: Sequence[o3.Irrep]) -> TensorProduct:
        """The algorithm's product of one channel with some irreps of input 1."""
        single = o3.Irreps([(1, ir) for ir in irs_in1])
        return self.algorithm(single, self.irreps_in2, **self.options)

    def _same(self, irs: Sequence[o3.Irrep]) -> TensorProduct:
        """A product of fewer irreps with the same coefficients; the whole one where there is none.

        Coefficients of a matrix product depend on the largest degree, and factors of a sum of
        products do even where the sum does not.
        """
        if tuple(irs) == self.irs_in1:
            return self.whole
        core = self._core(irs)
        wanted, own = _pieces(self.whole, irs), _pieces(core, irs)
        same = wanted.keys() == own.keys() and all(
            abs(own[piece] - value) <= SAME * abs(value) for piece, value in wanted.items()
        )
        return core if same else self.whole

    def _slots(self) -> list[tuple[o3.Irrep, int]]:
        """Irrep and copies of each block of the output."""
        if self.keeps_paths:
            return [(path.ir_out, self.muls[path.ir_in1]) for path in self.paths]
        return [
            (ir, max(self.muls[path.ir_in1] for path in self.paths if path.ir_out == ir))
            for ir in self.irs_out
        ]

    def _count_weights(self) -> None:
        widest = dict(self.slots)
        counts = []
        for factor in self.weighting.factors:
            match factor.side, factor.target:
                case "path", path:
                    counts.append(self.muls[path.ir_in1])
                case "order", (ir, _):
                    counts.append(self.muls[ir])
                case "in1", ir:
                    counts.append(self.muls[ir])
                case "in2", _:
                    counts.append(1)
                case _, ir:
                    counts.append(widest[ir])
        self._weight_counts = tuple(counts)

    @property
    @override
    def weight_counts(self) -> tuple[int, ...]:
        return self._weight_counts

    @override
    def weight_places(self) -> Tensor:
        """Where the weights hold each channel's factors, (channels, factors).

        A channel that a factor does not have is given another's: it does not use it.
        """
        starts = torch.tensor([0, *self.weight_counts]).cumsum(0)[:-1]
        last = torch.tensor(self.weight_counts) - 1
        return starts + torch.minimum(torch.arange(self.channels)[:, None], last)

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        x2 = x2.contiguous()
        z = torch.cat([group(x1, x2, weights) for group in self.groups], dim=1)
        order = self.optional_index("output_order")
        return z if order is None else z.index_select(1, order)

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return self.whole.coefficient(ir_in1, ir_in2, ir_out)

    @override
    def candidates(self) -> list[tuple[o3.Irrep, o3.Irrep, o3.Irrep]]:
        return self.whole.candidates()

    @override
    def couple(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep) -> Iterator[o3.Irrep]:
        return self.whole.couple(ir_in1, ir_in2)

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.whole.multiply(x1, x2)

    @override
    def macs(self) -> int:
        """Multiply-adds of all channels of one edge."""
        return sum(group.macs() for group in self.groups)

    @override
    def weight_macs(self) -> int:
        """Multiply-adds that weights add for all channels of one edge."""
        return sum(group.count * group.core.weight_macs() for group in self.groups)

    def scaled_macs(self) -> int:
        """Multiply-adds that a weight for each path and channel adds for one edge."""
        return sum(self.muls[path.ir_in1] * path.ir_out.dim for path in self.paths)

    @override
    def cost(self, batch: int, itemsize: int, weights: Weights = "none") -> Cost:
        """Multiply-adds and minimal bytes of one call on ``batch`` edges."""
        macs, numbers = self.macs(), sum(self._widths) * batch
        if weights != "none":
            macs += self.weight_macs()
            numbers += self.weight_numel * (batch if weights == "per-sample" else 1)
        return Cost(macs * batch, numbers * itemsize)

    @property
    @override
    def table_bytes(self) -> int:
        parts = {id(group.core): group.core for group in self.groups}
        return super().table_bytes + sum(core.table_bytes for core in parts.values())


class Group(TableModule):
    """Channels of an edge product that hold the same irreps.

    Args:
        owner: The edge product.
        core: Product of one channel that holds these irreps, and maybe others.
        irs: The irreps.
        low: First channel.
        high: One more than the last channel.

    Attributes:
        outputs: Places in the owner's output of what it computes, channel by channel.
    """

    def __init__(
        self,
        owner: EdgeProduct,
        core: TensorProduct,
        irs: Sequence[o3.Irrep],
        low: int,
        high: int,
    ) -> None:
        super().__init__()
        self.core, self.count = core, high - low
        blocks, there = [], []
        for ir in core.irs_in1:
            block = owner._in_order[ir]
            # The whole product reads anything for an irrep that the channels lack, times zero.
            there.append(torch.full((self.count, ir.dim), ir in irs))
            blocks.append(block[low:high] if ir in irs else block[:1].expand(self.count, -1))
        source = torch.cat(blocks, dim=1).flatten()
        identity = len(source) == owner.irreps_in1.dim
        self.register_buffer("source", _unless_identity(source) if identity else source, False)
        present = torch.cat(there, dim=1)
        self.register_buffer("present", None if present.all() else present, persistent=False)
        kept, outputs = self._read(owner, irs, low, high)
        self.register_buffer("kept", _unless_all(kept, core.irreps_out.dim), persistent=False)
        self.outputs = outputs
        self._place_weights(owner, low, high)

    def _read(
        self, owner: EdgeProduct, irs: Sequence[o3.Irrep], low: int, high: int
    ) -> tuple[Tensor, Tensor]:
        """Components of one channel's output that these channels have, and where they go."""
        blocks = places(owner.irreps_out, None, owner.layout)
        core = self.core
        keys = list(core.paths) if core.keeps_paths else list(core.irs_out)
        slots = list(owner.paths) if core.keeps_paths else list(owner.irs_out)
        triples = [slot[:3] if core.keeps_paths else slot for slot in slots]
        kept, outputs, start = [], [], 0
        for key, ir in zip(keys, core.irs_out, strict=True):
            into = [key] if core.keeps_paths else [p for p in core.paths if p.ir_out == ir]
            if any(path.ir_in1 in irs for path in into):
                slot = triples.index(key[:3] if core.keeps_paths else key)
                kept.append(torch.arange(start, start + ir.dim))
                outputs.append(blocks[slot][low:high])
            start += ir.dim
        return torch.cat(kept), torch.cat(outputs, dim=1).flatten()

    def _place_weights(self, owner: EdgeProduct, low: int, high: int) -> None:
        """Which of the owner's weights each channel's factors are: (count, factors of the core)."""
        numbers = {_key(factor): n for n, factor in enumerate(owner.weighting.factors)}
        columns = torch.tensor([numbers[_key(factor)] for factor in self.core.weighting.factors])
        chosen = owner.weight_places()[low:high, columns]
        self.register_buffer("weight_source", chosen.flatten(), persistent=False)

    def forward(self, x1: Tensor, x2: Tensor, weights: Tensor | None) -> Tensor:
        """Rows (E, in1.dim), (E, in2.dim) and weights to (E, components of these channels).

        Args:
            x1: (E, in1.dim).
            x2: (E, in2.dim).
            weights: (E, weight_numel), (weight_numel,) or None.
        """
        source, present = self.optional_index("source"), self.optional_index("present")
        rows = x1 if source is None else x1.index_select(1, source)
        if present is not None:
            rows = rows * present.flatten()
        rows = rows.reshape(x1.shape[0] * self.count, -1)
        if weights is not None:
            chosen = weights.reshape(-1, weights.shape[-1]).index_select(
                1, self.index("weight_source")
            )
            weights = chosen.reshape(chosen.shape[0] * self.count, -1)
        z = self.core.multiply_shared(rows, x2, weights)
        kept = self.optional_index("kept")
        z = z if kept is None else z.index_select(1, kept)
        return z.reshape(x1.shape[0], -1)

    def macs(self) -> int:
        """Multiply-adds for one edge."""
        second = self.core.second_macs() if self.core.broadcasts else 0
        return self.count * (self.core.macs() - second) + second


def irreps_in1_muls(irreps: o3.Irreps) -> dict[o3.Irrep, int]:
    """Copies of each irrep in all, in order of first appearance."""
    muls: dict[o3.Irrep, int] = {}
    for mul, ir in irreps:
        muls[ir] = muls.get(ir, 0) + mul
    return muls


def _pieces(core: TensorProduct, irs: Sequence[o3.Irrep]) -> dict[Any, float]:
    """Coefficients of a product's paths from some irreps, by path and by what weighs them."""
    pieces: dict[Any, float] = {}
    for number, factors, coefficient in core.weighting.terms:
        path = core.paths[number]
        if path.ir_in1 in irs:
            piece = path[:3], tuple(_key(core.weighting.factors[f]) for f in factors)
            pieces[piece] = pieces.get(piece, 0.0) + coefficient
    return pieces


def _key(factor: Any) -> tuple[Any, ...]:
    target = factor.target
    return factor.side, target if isinstance(target, o3.Irrep) else target[:3], factor.number


def _unless_identity(index: Tensor) -> Tensor | None:
    return None if torch.equal(index, torch.arange(len(index))) else index


def _unless_all(index: Tensor, width: int) -> Tensor | None:
    return None if len(index) == width else index

"""Edge products that are tables of coefficients: kernels read the features as they lie."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.edge import edge, run
from etp.kernels.edge_table import EdgePath, EdgeTable
from etp.kernels.operators import serves
from etp.maths import so3
from etp.maths.layout import slices
from etp.product.edge import EdgeProduct
from etp.product.graph import check_nodes
from etp.product.kinds import edge_form


@edge_form("table")
class TableEdge(EdgeProduct):
    """Edge product of an algorithm whose coefficients are few, such as a Clebsch-Gordan product.

    Where blocks cannot be told to the kernel (parts of a block in layout ``ir_mul``) it runs in
    groups of channels as every edge product.

    Attributes:
        edges: Whether the table is what runs.
    """

    @override
    def build(self) -> None:
        paths = list(self._table_paths())
        self.edges = all(path is not None for path in paths)
        if not self.edges:
            super().build()
            return
        self.groups = []
        kept = [path for path in paths if path is not None]
        wide1, _, wide3 = self._widths
        dims = wide1, self.second_numel, wide3
        self.edge_table = EdgeTable(kept, dims, self.weight_numel, self.layout)
        # Input 2 meets each coefficient once an edge, each channel what comes of it.
        self._macs = sum(
            int((path.values != 0).sum()) + path.mul * int((path.values != 0).any(1).sum())
            for path in kept
        )

    def _table_paths(self) -> Iterator[EdgePath | None]:
        """Pieces of the paths, each of whole parts of blocks; None for one that is no such part."""
        cuts = self._cuts()
        blocks = self._blocks()
        outputs = [part.start for part in self.irreps_out.slices()]
        weights = torch.tensor([0, *self.weight_counts]).cumsum(0).tolist()
        for number, own in enumerate(self.couplings()):
            copies, dim = self.slots[own.slot][1], own.values.shape[2]
            for block in blocks:
                if block.ir != own.ir_in1:
                    continue
                inside = [cut for cut in cuts if block.first < cut < block.first + block.mul]
                for low, high in pairwise([block.first, *inside, block.first + block.mul]):
                    whole = high - low == block.mul == copies
                    if self.layout == "ir_mul" and not whole:
                        yield None
                        continue
                    yield EdgePath(
                        x=block.start + (low - block.first) * own.values.shape[0],
                        y=own.y,
                        z=outputs[own.slot] + low * dim,
                        w=weights[number] + low,
                        mul=high - low,
                        values=own.values,
                    )

    @property
    def second_numel(self) -> int:
        """Numbers of an edge that the table reads."""
        return self._widths[1]

    def second(self, x2: Tensor) -> Tensor:
        """What the table reads of input 2, (E, second_numel)."""
        return x2

    def couplings(self) -> Iterator[Scaled]:
        """What each weight of a channel scales, in their order."""
        starts2 = dict(zip(self.irs_in2, slices(self.irs_in2), strict=True))
        for number, path in enumerate(self.paths):
            slot = number if self.keeps_paths else self.irs_out.index(path.ir_out)
            couplings = so3.clebsch_gordan(path.ir_in1.l, path.ir_in2.l, path.ir_out.l)
            values = torch.where(couplings.abs() > so3.ZERO, path.coefficient * couplings, 0.0)
            yield Scaled(path.ir_in1, slot, starts2[path.ir_in2].start, values)

    def _cuts(self) -> list[int]:
        """Channels at which every block is cut, so that pieces are the same or apart."""
        cuts = {block.first for block in self._blocks()}
        if not self.keeps_paths:
            cuts |= set(self.muls.values())
        return sorted(cuts)

    def _blocks(self) -> list[_Block]:
        blocks, seen = [], dict.fromkeys(self.irs_in1, 0)
        for (mul, ir), part in zip(self.irreps_in1, self.irreps_in1.slices(), strict=True):
            blocks.append(_Block(ir, part.start, mul, seen[ir]))
            seen[ir] += mul
        return blocks

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        if not self.edges:
            return super().multiply_channels(x1, x2, weights)
        return edge(self.edge_table, x1, self.second(x2), self._own(weights))

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
        own = self._own(weights)
        if not self.edges or not serves(x, y, own, codable=self.edge_table.codable):
            return super().convolve(x, y, weights, senders, receivers, num_nodes)
        try:
            return run(self.edge_table, x, self.second(y), own, senders, receivers, num_nodes)
        except RuntimeError:  # a kernel looks at the nodes in any case
            check_nodes(x, senders, receivers, num_nodes)
            raise

    def _own(self, weights: Tensor | None) -> Tensor | None:
        """Weights of all edges as one row."""
        shared = weights is not None and weights.numel() == self.weight_numel
        return weights.reshape(-1) if shared and weights is not None else weights

    @override
    def macs(self) -> int:
        return self._macs if self.edges else super().macs()

    @override
    def weight_macs(self) -> int:
        return self.scaled_macs() if self.edges else super().weight_macs()

    @property
    @override
    def table_bytes(self) -> int:
        if not self.edges:
            return super().table_bytes
        return self.edge_table.table_bytes


class Scaled(NamedTuple):
    """Coefficients that one weight of a channel scales.

    Attributes:
        ir_in1: Irrep of input 1 that is read.
        slot: Number of the block of the output.
        y: First number that is read of :meth:`TableEdge.second`.
        values: Shape (components of input 1, numbers of the edge, components of the output).
    """

    ir_in1: o3.Irrep
    slot: int
    y: int
    values: Tensor


class _Block(NamedTuple):
    """A block of input 1: its irrep, first number, copies, and which copy of the irrep is first."""

    ir: object
    start: int
    mul: int
    first: int

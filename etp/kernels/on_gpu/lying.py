"""Where the components of each channel lie in the features that a kernel reads and writes."""

from __future__ import annotations

from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from etp.e3 import o3
from etp.kernels.on_gpu.row_form import ChannelBlock, input_blocks, output_blocks
from etp.maths.layout import channel_index, output_index


class OfIrreps(Protocol):
    """What is asked of a product: its irreps, and those of one channel."""

    irreps_in1: o3.Irreps
    irreps_in2: o3.Irreps
    irs_in1: tuple[o3.Irrep, ...]
    irs_in2: tuple[o3.Irrep, ...]
    channels: int

    @property
    def irs_out(self) -> tuple[o3.Irrep, ...]:
        """Irreps of one channel of the output."""


class Lying(NamedTuple):
    """Features of a product, or rows of one of its channels.

    Attributes:
        irreps_in1: Of input 1.
        irreps_in2: Of input 2.
        irs_in1: Irreps of one channel of input 1.
        irs_in2: Of input 2.
        irs_out: Of the output.
        channels: Number of channels C.
    """

    irreps_in1: o3.Irreps
    irreps_in2: o3.Irreps
    irs_in1: tuple[o3.Irrep, ...]
    irs_in2: tuple[o3.Irrep, ...]
    irs_out: tuple[o3.Irrep, ...]
    channels: int

    @classmethod
    def of(cls, product: OfIrreps) -> Self:
        """Features as users give them."""
        return cls(
            product.irreps_in1, product.irreps_in2,
            product.irs_in1, product.irs_in2, product.irs_out, product.channels,
        )  # fmt: skip

    @classmethod
    def in_rows(cls, product: OfIrreps) -> Self:
        """Rows of one channel, its irreps in their order."""
        first, second = (
            o3.Irreps([(1, ir) for ir in irs]) for irs in (product.irs_in1, product.irs_in2)
        )
        return cls(first, second, product.irs_in1, product.irs_in2, product.irs_out, 1)

    def places(self) -> list[Tensor]:
        """Positions of each side's components: (channels, components of a channel)."""
        ways = ((self.irreps_in1, self.irs_in1), (self.irreps_in2, self.irs_in2))
        indices = [channel_index(irreps, irs) for irreps, irs in ways]
        # Its argument sort inverts a permutation.
        indices.append(torch.argsort(output_index(self.irs_out, self.channels)))
        return [index.reshape(self.channels, -1) for index in indices]

    def blocks(self) -> list[list[ChannelBlock]] | None:
        """Blocks of each irrep of each side; None if the channels of one are in several pieces."""
        inputs = [input_blocks(irreps) for irreps in (self.irreps_in1, self.irreps_in2)]
        whole = [list(blocks.values()) for blocks in inputs if blocks is not None]
        return [*whole, output_blocks(self.irs_out, self.channels)] if len(whole) == 2 else None

"""Forms whose kernels hold one row in each lane: a channel of a sample, in registers.

Features are read and written as e3nn lays them out: an irrep's block is a tile of neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import gcd
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.multilinear import Evaluation
from etp.kernels.on_gpu import launches
from etp.kernels.on_gpu.kernel_form import KernelForm, Launch
from etp.kernels.on_gpu.launches import WARP
from etp.kernels.on_gpu.triton_source import Source
from etp.maths.layout import channel_index, distinct, slices


class ChannelBlock(NamedTuple):
    """An irrep of all channels within the features: channels one after the other.

    Attributes:
        start: Where channel 0 begins.
        dim: Components, neighbours in memory.
    """

    start: int
    dim: int


class RowForm(KernelForm):
    """A form whose kernels hold one row in each lane.

    Args:
        key: As for every form.
        channels: Number of channels C.
        sides: Blocks of each side.
    """

    def __init__(self, key: str, channels: int, sides: Sequence[Sequence[ChannelBlock]]) -> None:
        self.sides = tuple(tuple(side) for side in sides)
        widths = tuple(channels * sum(b.dim for b in side) for side in self.sides)
        super().__init__(key, widths, channels)

    @cached_property
    def ragged(self) -> bool:
        """Whether a program takes rows of several samples, with masks and divisions."""
        return gcd(self.channels, self._most) < WARP

    @cached_property
    def rows(self) -> int:
        """Rows of a program."""
        return self._most if self.ragged else gcd(self.channels, self._most)

    @cached_property
    def _most(self) -> int:
        # Asked when kernels are written, for then the card is known; an interpreter has none.
        card = torch.cuda.get_device_name() if torch.cuda.is_initialized() else ""
        return launches.shape("rows", card)

    @override
    def launch(self, evaluation: Evaluation, like: Tensor) -> Launch:
        return Launch(self.rows, {"num_warps": self.rows // WARP})


class RowWriter:
    """Writes one kernel: where rows lie, and how their blocks are read and written."""

    def __init__(self, name: str, form: RowForm, evaluation: Evaluation) -> None:
        self._form, self._evaluation = form, evaluation
        inputs, outputs = range(len(evaluation.inputs)), range(len(evaluation.outputs))
        arguments = [
            *(f"a{n}" for n in inputs),
            *(f"s{n}" for n in inputs),
            *(f"o{n}" for n in outputs),
            "rows",
        ]
        self.source = Source(name, arguments, ragged=form.ragged)
        channels, add = form.channels, self.source.add
        add("first = tl.program_id(0).to(tl.int64) * BLOCK")
        # Samples are counted from the tile's first: large offsets stay scalars.
        add(f"sample = first // {channels}")
        add(f"lane = (first - sample * {channels}).to(tl.int32) + tl.arange(0, BLOCK)")
        add("zero = tl.load(a0 + lane, mask=lane < 0, other=0.0).to(ACC)")
        if form.ragged:
            add(f"live = lane < rows - sample * {channels}")
            add(f"step = lane // {channels}")
            add(f"channel = lane % {channels}")
        else:
            add("channel = lane")
        for n in inputs:
            add(f"a{n} += sample * s{n}")
        for o, out in enumerate(evaluation.outputs):
            add(f"o{o} += sample * {form.widths[out.side]}")

    def load_input(self, number: int, block: int, *, settled: bool) -> list[str]:
        """Names of the components of a block of an input, by number."""
        place = self._form.sides[self._evaluation.inputs[number]][block]
        address = self._address(f"a{number}", f"s{number}", place)
        return self.source.load(address, place.dim, settled=settled)

    def load_output(self, number: int, block: int) -> list[str]:
        """The same of an output, as earlier kernels left it."""
        place = self._form.sides[self._evaluation.outputs[number].side][block]
        return self.source.load(self._output_address(number, place), place.dim, settled=True)

    def store_output(self, number: int, block: int, components: Sequence[str]) -> None:
        """Write a block of an output."""
        place = self._form.sides[self._evaluation.outputs[number].side][block]
        self.source.store(self._output_address(number, place), components)

    def _output_address(self, number: int, place: ChannelBlock) -> str:
        width = self._form.widths[self._evaluation.outputs[number].side]
        return self._address(f"o{number}", str(width), place)

    def _address(self, pointer: str, stride: str, place: ChannelBlock) -> str:
        step = f"step * {stride} + " if self._form.ragged else ""
        return f"{pointer} + ({step}channel * {place.dim} + {place.start})"


def output_blocks(irs: Sequence[o3.Irrep], channels: int) -> list[ChannelBlock]:
    """Blocks of a product's output."""
    return [
        ChannelBlock(channels * s.start, ir.dim) for ir, s in zip(irs, slices(irs), strict=True)
    ]


def input_blocks(irreps: o3.Irreps) -> dict[o3.Irrep, ChannelBlock] | None:
    """Block of each irrep; None if the channels of one do not lie in one piece."""
    irs = distinct(irreps)
    index = channel_index(irreps, irs).reshape(-1, sum(ir.dim for ir in irs))
    blocks = {}
    for ir, part in zip(irs, slices(irs), strict=True):
        block = index[:, part].flatten()
        if not torch.equal(block, block[0] + torch.arange(len(block))):
            return None
        blocks[ir] = ChannelBlock(int(block[0]), ir.dim)
    return blocks

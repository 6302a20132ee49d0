"""Products that say what they compute, and leave to executors how."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.multilinear import WEIGHTED, Form
from etp.kernels.on_cpu import tile
from etp.kernels.on_cpu.program import Bilinear
from etp.kernels.on_gpu.lying import Lying
from etp.kernels.on_gpu.triton_source import interpreted
from etp.maths import sphere
from etp.maths.layout import slices
from etp.product.base import TensorProduct
from etp.product.weighting import Side, of_second, scaled
from etp.products import _forms as forms
from etp.products._description import ONE_SLOT, Description
from etp.products._executors import Executor, NumbaWalk, Tiles, Triton, pick
from etp.products._grid import Fields, top_degrees
from etp.products._paths import Paths
from etp.products._plain import in_pytorch
from etp.products._programs import has_programs, programs

SIDES: tuple[Side, Side, Side] = ("in1", "in2", "out")


class Described(TensorProduct):
    """A product given by a description of its bilinear map.

    Where components have several weights, because several things are made of them, the weighted
    product is described on *slots*: a copy of the components for each weight.

    Attributes:
        plain: Runs the description anywhere.
        tiles: Runs it on a CPU.
        across: Runs it on features of several channels as they lie, on a CPU.
        fused: The same on a GPU.
        executors: What runs it on rows of one channel, in order of preference.
        slotted: The same for the description on slots; empty where each component has one weight.
    """

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Iterable[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        whole, apart = self.describe(), self.describe_slots()
        self._slots = ONE_SLOT if apart is None else apart.slots
        self.plain = in_pytorch(whole, self)
        self.tiles = Tiles(self._programs if has_programs(whole) else None)
        fills = has_programs(whole) and self._fills()
        self.across = Tiles(self._programs_across if fills else None)
        self.fused = Triton(self._form)
        self.fused_weighted = Triton(self._weighted_form, WEIGHTED)
        walks = []
        if isinstance(whole, Paths) and not whole.dense:
            walks.append(NumbaWalk(whole.table(self, "coefficients")))
        self.executors: tuple[Executor, ...] = (
            self.tiles, Triton(self._row_form), *walks, self.plain,
        )  # fmt: skip
        self.slotted: tuple[Executor, ...] = ()
        self._plain_slotted = self.plain
        if apart is not None and any(list(slots) != [0] for slots in apart.slots):
            self._plain_slotted = in_pytorch(apart, self, self.plain)
            tiles, fused = Tiles(self._slot_programs), Triton(self._slot_form)
            self.slotted = (tiles, fused, self._plain_slotted)
        # Weights of paths that are added up scale none of the three sides.
        scales = self.keeps_paths or self.weights_per == "degree"
        self._scales = scales and fills and not self.slotted
        if self._scales:
            self._register_weights_across()

    @abstractmethod
    def describe(self) -> Description:
        """What is computed on the components of one channel, without weights."""

    def describe_slots(self) -> Description | None:
        """The same with a slot for each weight of a component; None where there is one each."""
        return None

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return pick(self.executors, x1, x2).multiply(x1, x2)

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        if weights is None:
            if self._as_they_lie and x1.is_cpu and not interpreted():
                return self.multiply(x1, x2)
            for executor in (self.fused, self.across):
                if executor.serves(x1, x2):
                    return executor.multiply(x1, x2)
        if weights is not None and self.fused_weighted.serves(x1, x2):
            each = weights.reshape(-1, self.weight_numel).expand(x1.shape[0], -1)
            return self.fused_weighted.multiply(x1, x2, each)
        if weights is not None and self._scales and self.across.serves(x1, x2):
            return self._weighted_across(x1, x2, weights.reshape(-1, self.weight_numel))
        return super().multiply_channels(x1, x2, weights)

    def _weighted_across(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Features as they lie, times weights (1 or N, weight_numel)."""
        if self.weights_per == "degree":
            x1 = x1 * weights.index_select(1, self.index("weight_in1"))
            x2 = x2 * weights.index_select(1, self.index("weight_in2"))
        z = self.across.multiply(x1, x2)
        return z * weights.index_select(1, self.index("weight_out"))

    def _register_weights_across(self) -> None:
        """Which weight each number of the features is scaled by."""
        places = self.weight_places()
        sides = SIDES if self.weights_per == "degree" else ("out",)
        for side, irs in zip(SIDES, (self.irs_in1, self.irs_in2, self.irs_out), strict=True):
            if side in sides:
                factors = places[:, self.index(f"weights_{side}_0")]
                own = [factors[:, part].flatten() for part in slices(irs)]
                self.register_buffer(f"weight_{side}", torch.cat(own), persistent=False)

    @override
    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        if not self.slotted:
            return super().multiply_weighted(x1, x2, weights)
        first = _copies(x1, self._factors(0, weights))
        second = _copies(x2, self._factors(1, of_second(weights, x1, x2)))
        z = pick(self.slotted, first, second).multiply(first, second)
        factors = self._factors(2, weights)
        parts = z.unflatten(1, (len(factors), -1)).unbind(1)
        scales = [scaled(part, factor) for part, factor in zip(parts, factors, strict=True)]
        return sum(scales[1:], start=scales[0])

    def _factors(self, side: int, weights: Tensor) -> Sequence[Tensor]:
        """Weights of each slot: (G, components) each."""
        return [self.weighting.spread(weights, SIDES[side], slot) for slot in self._slots[side]]

    @override
    def macs(self) -> int:
        return self.plain.macs()

    @override
    def second_macs(self) -> int:
        return self.plain.macs((1,))

    @override
    def weight_macs(self) -> int:
        if not self.slotted:
            return super().weight_macs()
        scales = sum(dim * len(slots) for dim, slots in zip(self._dims, self._slots, strict=True))
        return scales + self._plain_slotted.macs() - self.plain.macs()

    @override
    def run_macs(self) -> int:
        if self.device.type != "cpu" or not self.tiles.able():
            return self.macs()
        return int(self.tiles.programs.forward.macs)

    # Methods rather than functions made here: a product is copied and pickled.

    def _programs(self) -> Bilinear:
        return programs(self.describe())

    def _fills(self) -> bool:
        """Whether the channels of a sample fill tiles, and each irrep is one block of them."""
        irreps = self.irreps_in1 + self.irreps_in2
        return tile.fills(self.channels) and [tuple(block) for block in irreps] == [
            (self.channels, ir) for ir in (*self.irs_in1, *self.irs_in2)
        ]

    def _programs_across(self) -> Bilinear:
        widths = [[ir.dim for ir in irs] for irs in (self.irs_in1, self.irs_in2, self.irs_out)]
        return self.tiles.programs.across(self.channels, widths)

    def _slot_programs(self) -> Bilinear:
        return programs(self._apart())

    def _form(self, device: torch.device, dtype: torch.dtype) -> Form | None:
        return forms.form(self.describe(), Lying.of(self), device, dtype)

    def _weighted_form(self, device: torch.device, dtype: torch.dtype) -> Form | None:
        return forms.weighted_form(self.describe(), Lying.of(self), device, dtype)

    def _row_form(self, device: torch.device, dtype: torch.dtype) -> Form | None:
        return forms.form(self.describe(), Lying.in_rows(self), device, dtype)

    def _slot_form(self, device: torch.device, dtype: torch.dtype) -> Form | None:
        return forms.form(self._apart(), Lying.in_rows(self), device, dtype)

    def _apart(self) -> Description:
        """What is computed on slots, or without any the same."""
        apart = self.describe_slots()
        return self.describe() if apart is None else apart


class DescribedFields(Described):
    """A product by fields on a grid; slots tell apart what is made of the same components."""

    broadcasts = True

    @property
    def resolution(self) -> tuple[int, int]:
        """Rows and columns of the grid: the smallest exact one."""
        return sphere.exact_resolution(*top_degrees(self))

    @abstractmethod
    def fields(self, *, apart: bool) -> Fields:
        """What is made of the components, and multiplied.

        Args:
            apart: Whether each of it has a slot of its own on every side.
        """

    @override
    def describe(self) -> Fields:
        return self.fields(apart=False)

    @override
    def describe_slots(self) -> Fields:
        return self.fields(apart=True)


def _copies(x: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """(N, dim) to (N, slots * dim): the components times the weights of each slot."""
    copies = [scaled(x, factor) for factor in factors]
    return copies[0] if len(copies) == 1 else torch.cat(copies, dim=1)

"""cuEquivariance (NVIDIA) by its PyTorch front end: CUDA kernels, and plain PyTorch on a CPU."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from typing_extensions import override

from etp.product.base import Path, TensorProduct
from etp.product.registry import register
from etp.products._library import LibraryCall, LibraryProduct, dense_macs, missing, nonzero_macs
from etp.products._library_edge import LibraryEdge


@register
class CuEquivariance(LibraryProduct):
    """Every path channel by channel as one ``SegmentedPolynomial``, blocks (component, channel).

    Its ready-made ``channelwise_tensor_product`` pairs every channel of input 1 with every channel
    of input 2; the descriptor made here, ``iu,ju,ku+ijk``, pairs channel u with channel u. On a GPU
    it is run by the ``uniform_1d`` kernels (one thread for each channel: fewer than 32 channels
    leave threads idle), on a CPU by ``naive``, all that the library has there. Not run on a GPU by
    this project yet.
    """

    name, title = "cuequivariance", "cuEquivariance"
    reference = "NVIDIA, github.com/NVIDIA/cuEquivariance"
    components_first = True
    edge_layout = "ir_mul"

    @classmethod
    @override
    def edge_class(cls) -> type[TensorProduct]:
        return CuEquivarianceEdge

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        return not_installed()

    @override
    def library_call(self, dtype: torch.dtype, device: torch.device) -> LibraryCall:
        import cuequivariance_torch

        made = cuequivariance_torch.SegmentedPolynomial(self._descriptor(), method=method(device))
        return _Call(made.to(device))

    def _descriptor(self) -> Any:
        import cuequivariance as cue

        descriptor = cue.SegmentedTensorProduct.from_subscripts("iu,ju,ku+ijk")
        for operand, irs in enumerate((self.irs_in1, self.irs_in2, self.irs_out)):
            for ir in irs:
                descriptor.add_segment(operand, (ir.dim, self.channels))
        place1 = {ir: number for number, ir in enumerate(self.irs_in1)}
        place2 = {ir: number for number, ir in enumerate(self.irs_in2)}
        for number, path in enumerate(self.paths):
            descriptor.add_path(place1[path.ir_in1], place2[path.ir_in2], number, c=_block(path))
        return cue.SegmentedPolynomial.eval_last_operand(descriptor)

    @override
    def macs(self) -> int:
        count = nonzero_macs if self.device.type == "cuda" else dense_macs
        return count(self.paths)


class CuEquivarianceEdge(LibraryEdge):
    """One ``SegmentedPolynomial``, ``u,iu,j,ku+ijk``: weights, input 1, input 2 and the output."""

    @override
    def library_call(
        self, dtype: torch.dtype, device: torch.device, *, weighted: bool
    ) -> LibraryCall:
        import cuequivariance_torch

        made = cuequivariance_torch.SegmentedPolynomial(
            self._descriptor(weighted), method=method(device)
        )
        return _EdgeCall(made.to(device))

    def _descriptor(self, weighted: bool) -> Any:
        import cuequivariance as cue

        made = cue.SegmentedTensorProduct.from_subscripts(
            "u,iu,j,ku+ijk" if weighted else "iu,j,ku+ijk"
        )
        first = int(weighted)
        for mul, ir in self.irreps_in1:
            made.add_segment(first, (ir.dim, mul))
        for ir in self.irs_in2:
            made.add_segment(first + 1, (ir.dim,))
        for mul, ir in self.irreps_out:
            made.add_segment(first + 2, (ir.dim, mul))
        place1 = {ir: number for number, (_, ir) in enumerate(self.irreps_in1)}
        place2 = {ir: number for number, ir in enumerate(self.irs_in2)}
        for number, path in enumerate(self.paths):
            own = [made.add_segment(0, (self.muls[path.ir_in1],))] if weighted else []
            made.add_path(*own, place1[path.ir_in1], place2[path.ir_in2], number, c=_block(path))
        return cue.SegmentedPolynomial.eval_last_operand(made)


def _block(path: Path) -> Any:
    """Coefficients as ours: their blocks have norm sqrt(2 l3 + 1), those of wigner_3j norm 1."""
    import cuequivariance as cue

    (block,) = cue.clebsch_gordan(*(cue.O3(ir.l, ir.p) for ir in path[:3]))
    return block / sqrt(path.ir_out.dim)


def not_installed() -> str | None:
    """Why the library cannot be called here; None if it can."""
    if (name := missing("cuequivariance", "cuequivariance_torch")) is not None:
        return f"{name} is not installed: pip install cuequivariance cuequivariance-torch"
    return None


def method(device: torch.device) -> str:
    """How the library runs polynomials on a device.

    Raises:
        ValueError: If it has nothing but its slow fallback there.
    """
    if device.type != "cuda":
        return "naive"
    if missing("cuequivariance_ops_torch"):
        major = str(torch.version.cuda).partition(".")[0]
        raise ValueError(
            "cuequivariance has no CUDA kernels here, only its slow fallback: "
            f"pip install cuequivariance-ops-torch-cu{major}"
        )
    return "uniform_1d"


class _EdgeCall(torch.nn.Module):
    """A polynomial of weights, if any, and both inputs, with the weights given last."""

    def __init__(self, polynomial: torch.nn.Module) -> None:
        super().__init__()
        self.polynomial = polynomial

    @override
    def forward(self, x: torch.Tensor, y: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        (z,) = self.polynomial([*weights, x, y])
        output: torch.Tensor = z
        return output


class _Call(torch.nn.Module):
    """A polynomial with one output as a function of its inputs."""

    def __init__(self, polynomial: torch.nn.Module) -> None:
        super().__init__()
        self.polynomial = polynomial

    @override
    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.polynomial(list(inputs))[0]
        return output

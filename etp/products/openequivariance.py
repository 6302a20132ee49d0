"""OpenEquivariance (Bharadwaj et al. 2025): kernels generated for a GPU when a product is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from etp.e3 import o3
from etp.product.registry import register
from etp.products._library import (
    LibraryCall,
    WeightedLibraryProduct,
    instructions,
    missing,
    nonzero_macs,
)

DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


@register
class OpenEquivariance(WeightedLibraryProduct):
    """``TensorProduct`` with instructions ``uvu`` of one channel, a weight per sample and path.

    Not run on a GPU by this project yet: written against the interface its README documents.
    """

    name, title = "openequivariance", "OpenEquivariance (uvu)"
    reference = "Bharadwaj et al. 2025, arXiv:2501.13986"
    runs_on = ("cuda",)

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Iterable[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        if self.channels != 1:
            raise ValueError(
                "openequivariance does not apply: its uvu multiplies every channel of input 1 with "
                f"every channel of input 2, not channel by channel; use 1 channel instead of "
                f"{self.channels}"
            )

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        if missing("openequivariance"):
            return "openequivariance is not installed: pip install openequivariance (needs CUDA)"
        if not torch.cuda.is_available():
            return "openequivariance needs CUDA: use a machine with an NVIDIA GPU"
        return None

    @override
    def library_call(self, dtype: torch.dtype, device: torch.device) -> LibraryCall:
        if dtype not in DTYPES:
            raise ValueError(f"openequivariance computes in float32 and float64 only, got {dtype}")
        import openequivariance

        try:
            with torch.cuda.device(device):
                problem = openequivariance.TPProblem(**self.problem(dtype))
                call: LibraryCall = openequivariance.TensorProduct(problem, torch_op=True)
        except (ImportError, AssertionError, RuntimeError) as error:
            raise ValueError(f"openequivariance cannot build this product: {error}") from error
        return call

    def problem(self, dtype: torch.dtype) -> dict[str, Any]:
        """Arguments of its ``TPProblem``; coefficients are those of ``wigner_3j``."""
        names = ("irreps_in1", "irreps_in2", "irreps_out")
        return dict(zip(names, map(str, self.own_irreps), strict=True)) | {
            "instructions": instructions(self, "uvu", weighted=True),
            "irrep_normalization": "none",
            "shared_weights": False,
            "internal_weights": False,
            "irrep_dtype": DTYPES[dtype],
            "weight_dtype": DTYPES[dtype],
        }

    @override
    def macs(self) -> int:
        return nonzero_macs(self.paths) + sum(path.ir_out.dim for path in self.paths)

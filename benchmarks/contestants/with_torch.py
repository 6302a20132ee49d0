"""Peers on PyTorch: e3nn and cuEquivariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch_calls import Work, call_torch, forget, set_threads

__all__ = ["OFFERS", "forget", "set_threads"]


def _e3nn(work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    from e3nn import o3

    keep = None if work["keep"] is None else [ir for _, ir in o3.Irreps(work["keep"])]
    module = o3.FullTensorProduct(work["irreps1"], work["irreps2"], filter_ir_out=keep)
    return call_torch(module, work, x, y)


class _E3nnGrid(torch.nn.Module):
    """Product of signals on e3nn's grid, exact; a single degree is padded as its interface asks."""

    def __init__(self, work: Work) -> None:
        from e3nn.o3 import FromS2Grid, ToS2Grid

        super().__init__()
        lmax, self.single, self.last = work["lmax"], work["single_in"], work["single_out"]
        top = lmax if self.last else 2 * lmax
        total = 2 * lmax + top
        grid = (total + 2 + total % 2, total + 1 + total % 2)
        self.pad = lmax * lmax
        self.tail = top * top if self.last else 0
        self.to_grid = ToS2Grid(lmax, grid, normalization="integral", dtype=torch.float32)
        self.from_grid = FromS2Grid(grid, top, normalization="integral", dtype=torch.float32)

    def forward(self, x: Any, y: Any) -> Any:
        if self.single:
            x, y = (torch.nn.functional.pad(t, (self.pad, 0)) for t in (x, y))
        return self.from_grid(self.to_grid(x) * self.to_grid(y))[:, self.tail :]


def _e3nn_grid(work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    return call_torch(_E3nnGrid(work), work, x, y)


def _cue(work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    import cuequivariance as cue
    import cuequivariance_torch as cuet

    keep = None if work["keep"] is None else [ir for _, ir in cue.Irreps("O3", work["keep"])]
    whole = cue.descriptors.full_tensor_product(
        cue.Irreps("O3", work["irreps1"]), cue.Irreps("O3", work["irreps2"]), keep
    )
    inner = cuet.SegmentedPolynomial(whole.polynomial, method="naive")

    def module(a: Any, b: Any) -> Any:
        return inner([a, b])[0]

    return call_torch(module, work, x, y)


OFFERS = {
    "cg": {"e3nn": _e3nn, "cuequivariance-torch": _cue},
    "gaunt": {"e3nn grid": _e3nn_grid},
    "matrix": {},
}

"""Table walk compiled by Numba: tiles of samples, transposed so that each entry is a vector op.

Bounded by the first-level cache: an entry reads two rows of a tile and updates one. The tile's
output is written component block by component block, so that it never leaves the second level.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etp.kernels import compile_times as compiling
from etp.kernels.on_cpu import cache as on_disk

_TILE = 64
_BLOCK = 16


def run(
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    first: Tensor,
    second: Tensor,
    values: Tensor,
    out: Tensor,
) -> None:
    """Write ``out[n, k] = sum of values * x[n, first] * y[n, second]`` over the entries of row k.

    All tensors are contiguous and on the CPU. Half precision is computed in float32.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    target = out if out.dtype == wide else out.to(wide)
    threads = max(1, min(torch.get_num_threads(), _max_threads()))
    numba.set_num_threads(threads)
    arguments = (
        *(t.detach().to(wide).numpy() for t in (x, y)),
        *(t.numpy() for t in (rows, first, second)),
        values.detach().to(wide).numpy(),
        target.detach().numpy(),
    )
    if compiling.OPEN:
        compiling.used(_compiled(arguments[0].dtype.name, *map(numba.typeof, arguments)))
    _walk(*arguments)
    if target is not out:
        out.copy_(target)


@cache
def _compiled(dtype: str, *types: numba.types.Type) -> compiling.Artifact:
    """Compile for given arguments now rather than at the call; kept on disk, it is only loaded."""
    start = time.perf_counter()
    _walk.compile(types)
    seconds = time.perf_counter() - start
    compiling.spent(seconds)
    return compiling.Artifact(f"Numba, {dtype}", seconds)


def _max_threads() -> int:
    return int(getattr(numba.config, "NUMBA_NUM_THREADS", 0)) or os.cpu_count() or 1


def _kept_on_disk(walk: Any) -> Any:
    """Keep what is compiled where our libraries are: the package's folder may not be ours."""
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = before or str(on_disk.writable_folder())  # type: ignore[attr-defined]
    try:
        walk.enable_caching()
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]
    real = walk._cache.save_overload

    def save(signature: Any, made: Any) -> None:
        # On a full disk it is compiled again by the next process, and runs in this one.
        with suppress(OSError):
            real(signature, made)

    walk._cache.save_overload = save
    return walk


@_kept_on_disk
@numba.njit(parallel=True, fastmath={"contract", "reassoc"}, nogil=True)
def _walk(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    rows: NDArray[np.int32],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    values: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None:
    samples, dim = out.shape
    for tile in numba.prange((samples + _TILE - 1) // _TILE):
        low = tile * _TILE
        size = min(_TILE, samples - low)
        xt = np.zeros((x.shape[1], _TILE), x.dtype)
        yt = np.zeros((y.shape[1], _TILE), x.dtype)
        for s in range(size):
            for i in range(x.shape[1]):
                xt[i, s] = x[low + s, i]
            for j in range(y.shape[1]):
                yt[j, s] = y[low + s, j]
        zt = np.empty((_BLOCK, _TILE), x.dtype)
        for block in range(0, dim, _BLOCK):
            height = min(_BLOCK, dim - block)
            for r in range(height):
                for t in range(_TILE):
                    zt[r, t] = 0
                for e in range(rows[block + r], rows[block + r + 1]):
                    i, j, w = first[e], second[e], values[e]
                    for t in range(_TILE):
                        zt[r, t] += w * xt[i, t] * yt[j, t]
            for s in range(size):
                for r in range(height):
                    out[low + s, block + r] = zt[r, s]

"""Ways of doing the same: tried in turn, the fastest kept, on disk too; the results are equal."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import pytest
import torch

from etp import products
from etp.kernels.on_cpu import build
from etp.measure.drawing import random_inputs
from etp.product.base import TensorProduct

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
WAYS = {"straight": 0, "moved": 1, "buffered": 2, "streamed": 3}


class Trial(ctypes.Structure):
    _fields_ = (("entry", ctypes.c_int), ("way", ctypes.c_int), ("start", ctypes.c_int64))


@pytest.fixture
def choices(tmp_path):
    """The library, keeping its choices in a file of the test."""
    handle = build.library().handle
    handle.etp_try.restype = Trial
    handle.etp_tried.argtypes = (Trial, ctypes.c_double)
    handle.etp_tried.restype = None
    file = tmp_path / "kept.forms"
    handle.etp_choices(os.fsencode(file))
    yield handle, file
    handle.etp_choices(b"")


def decided(handle: ctypes.CDLL, key: int, seconds: tuple[float, ...]) -> int:
    """Try a case whose ways take so long, until one is chosen."""
    for _ in range(100):
        trial = handle.etp_try(key, len(seconds))
        if trial.entry < 0:
            return int(trial.way)
        time.sleep(seconds[trial.way])
        handle.etp_tried(trial, 1.0)
    raise AssertionError("nothing was decided")


@pytest.mark.parametrize(
    ("key", "seconds", "wanted"),
    [
        (0xFFFF0001, (0.004, 0.001, 0.004), 1),
        (0xFFFF0002, (0.001, 0.004), 0),
        (0xFFFF0003, (0.004, 0.004, 0.004, 0.001), 3),
    ],
)
def test_the_fastest_way_is_kept_and_written_down(key, seconds, wanted, choices):
    handle, file = choices
    assert handle.etp_choice(ctypes.c_uint32(key)) == -1
    assert decided(handle, key, seconds) == wanted
    assert handle.etp_choice(ctypes.c_uint32(key)) == wanted
    assert file.read_text() == f"{key} {wanted}\n"


def test_what_was_written_down_is_not_tried_again(choices):
    handle, file = choices
    file.write_text("nonsense\n4294836228 2\n7 99\n-1 -1\n" + "x" * 500 + "\n4294836229 1")
    handle.etp_choices(os.fsencode(file))
    for key, way in ((4294836228, 2), (4294836229, 1)):
        trial = handle.etp_try(ctypes.c_uint32(key), 3)
        assert (trial.entry, trial.way) == (-1, way)
    # A way that this case does not have is the usual one.
    assert handle.etp_try(ctypes.c_uint32(4294836228), 2).way == 0
    assert handle.etp_choice(7) == -1


def test_choices_work_where_nothing_can_be_written(choices):
    handle, _ = choices
    handle.etp_choices(b"/no/such/folder/kept.forms")
    assert decided(handle, 0xFFFF0009, (0.002, 0.0)) == 1


def fix(handle: ctypes.CDLL, file: Path, dim: int, way: int) -> None:
    """Decide every case in which the widest output has ``dim`` components."""
    keys = [dim << 9 | size << 3 | rest for size in range(20, 26) for rest in range(8)]
    file.write_text("".join(f"{key} {way}\n" for key in keys))
    handle.etp_choices(os.fsencode(file))
    assert {handle.etp_choice(key) for key in keys} == {way}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
# 256 fills whole lines, 81 and 225 do not; 17 is one more than the narrowest that is buffered.
@pytest.mark.parametrize(
    ("irreps1", "irreps2", "dim"),
    [("0e+1o+2e+3o", "0e+1o+2e+3o", 256), ("0e+1o+2e", "0e+1o+2e", 81), ("0e+8e", "0e", 18),
     ("7o", "7e", 225)],
)  # fmt: skip
def test_every_way_writes_the_same_numbers(irreps1, irreps2, dim, dtype, choices):
    handle, file = choices
    tp = products.get("cg-sparse")(irreps1, irreps2)
    assert tp.irreps_out.dim == dim
    # More than a mebibyte, and not a whole number of tiles.
    batch = (1 << 20) // (4 * dim) + 45
    x, y = (
        t.requires_grad_()
        for t in random_inputs(tp, batch, torch.Generator().manual_seed(0), dtype)
    )
    found = {}
    for name, way in WAYS.items():
        fix(handle, file, dim, way)
        z = tp(x, y)
        found[name] = (z, *torch.autograd.grad(z.square().sum(), (x, y)))
    wanted = torch.einsum("ni,nj,ijk->nk", x, y, _dense(tp, dtype))
    torch.testing.assert_close(found["straight"][0], wanted, rtol=1e-4, atol=1e-5)
    for tensors in found.values():
        for mine, right in zip(tensors, found["straight"], strict=True):
            assert torch.equal(mine, right)


def _dense(tp: TensorProduct, dtype: torch.dtype) -> torch.Tensor:
    """The map as a tensor, from pairs of unit vectors: so few that they are written straight."""
    first, second = (irreps.dim for irreps in (tp.irreps_in1, tp.irreps_in2))
    a = torch.eye(first, dtype=dtype).repeat_interleave(second, 0)
    b = torch.eye(second, dtype=dtype).repeat(first, 1)
    return tp(a, b).view(first, second, -1).detach()

"""Compile ``tile.c`` for this processor at first use and run tile programs with it.

The library is built by the C compiler found (``CC``, gcc, cc or clang), once for each precision, in
about a second, and kept under ``~/.cache/etp`` under the hash of everything it depends on. Where
there is no compiler, :func:`missing` says so and products use their plain form.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from etp import compiling
from etp.kernels.program import Bilinear, Program

_SOURCE = Path(__file__).with_name("tile.c")
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno")
_REAL = {torch.float32: ("-DREAL=float", "-DSINGLE"), torch.float64: ("-DREAL=double",)}
_NUMPY: dict[torch.dtype, np.dtype[np.floating]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
_THREAD_MACS = 1 << 19
"""Multiply-adds that are worth waking one more thread (some microseconds)."""


class _Struct(ctypes.Structure):
    _fields_ = (
        ("steps", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("n_steps", "rows", "n_in", "n_out")),
        ("in_row", ctypes.c_int32 * 3),
        ("in_dim", ctypes.c_int32 * 3),
        ("out_row", ctypes.c_int32 * 2),
        ("out_dim", ctypes.c_int32 * 2),
    )


class _Ready:
    """A program cast to one precision, laid out for C."""

    def __init__(self, program: Program, dtype: torch.dtype) -> None:
        self._arrays = program.arrays(_NUMPY[dtype])
        self._struct = _Struct(
            *(array.ctypes.data for array in self._arrays),
            len(program.steps), program.rows, len(program.inputs), len(program.outputs),
            program.in_rows, program.inputs, program.out_rows, program.outputs,
        )  # fmt: skip
        self._address = ctypes.addressof(self._struct)
        self.artifact, self._run = _library(dtype)
        self._dims = program.outputs
        self._macs = program.macs
        self._no_in = (None,) * (3 - len(program.inputs))
        self._no_out = (None,) * (2 - len(program.outputs))

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        samples = inputs[0].shape[0]
        outputs = [inputs[0].new_empty(samples, dim) for dim in self._dims]
        threads = min(torch.get_num_threads(), 1 + samples * self._macs // _THREAD_MACS)
        failed = self._run(
            self._address,
            *[x.data_ptr() for x in inputs],
            *self._no_in,
            *[z.data_ptr() for z in outputs],
            *self._no_out,
            samples,
            threads,
        )
        if failed:
            raise MemoryError("no memory for a tile of samples")
        return outputs


_READY: weakref.WeakKeyDictionary[Program, dict[torch.dtype, _Ready]]
_READY = weakref.WeakKeyDictionary()


def run(program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a program on contiguous tensors (N, dim) on the CPU; half precision works in float32."""
    dtype = inputs[0].dtype
    wide = dtype if dtype in _REAL else torch.float32
    ready = _READY.setdefault(program, {})
    if wide not in ready:
        ready[wide] = _Ready(program, wide)
    if compiling.OPEN:
        compiling.used(ready[wide].artifact)
    if wide is dtype:
        return ready[wide]([x.contiguous() for x in inputs])
    return [z.to(dtype) for z in ready[wide]([x.to(wide).contiguous() for x in inputs])]


def bilinear(x: Tensor, y: Tensor, both: Bilinear) -> Tensor:
    """Apply a bilinear map to (N, dim1) and (N, dim2); differentiable any number of times."""
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        z: Tensor = _Apply.apply(x, y, both)  # type: ignore[no-untyped-call]
        return z
    return run(both.forward, (x, y))[0]


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, both: Bilinear) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.both = both
        return run(both.forward, (x, y))[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        return *_gradients(grad, x, y, ctx.both), None


def _gradients(grad: Tensor, x: Tensor, y: Tensor, both: Bilinear) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled():
        found: tuple[Tensor, Tensor] = _Gradients.apply(grad, x, y, both)  # type: ignore[no-untyped-call]
        return found
    gx, gy = run(both.gradient, (grad, x, y))
    return gx, gy


class _Gradients(torch.autograd.Function):
    """Both gradients in one pass; their own derivatives are the same two maps once more."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, y: Tensor, both: Bilinear
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(grad, x, y)
        ctx.both = both
        gx, gy = run(both.gradient, (grad, x, y))
        return gx, gy

    @staticmethod
    def backward(
        ctx: Any, to_gx: Tensor, to_gy: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        grad, x, y = ctx.saved_tensors
        to_grad = None
        if ctx.needs_input_grad[0]:
            to_grad = bilinear(to_gx, y, ctx.both) + bilinear(x, to_gy, ctx.both)
        if not any(ctx.needs_input_grad[1:3]):
            return to_grad, None, None, None
        return to_grad, *_gradients(grad, to_gx, to_gy, ctx.both), None


def applies(x: Tensor) -> bool:
    """Whether ``x`` is a plain tensor on the CPU, outside any tracing or function transform."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)
        and not torch._C._are_functorch_transforms_active()
        and missing() is None
    )


@cache
def missing() -> str | None:
    """Why tile programs cannot be run here, with the mend; None if they can."""
    if _compiler() is None:
        return "no C compiler was found: install gcc or clang, or set CC"
    try:
        _library(torch.float32)
    except (OSError, subprocess.SubprocessError) as error:
        return f"the C compiler {_compiler()} could not build the kernel: {error}"
    return None


@cache
def _compiler() -> str | None:
    names = (os.environ.get("CC"), "gcc", "cc", "clang")
    return next((path for name in names if name and (path := shutil.which(name))), None)


class _Library(NamedTuple):
    """What was compiled for one precision, and its entry."""

    artifact: compiling.Artifact
    run: Any


@cache
def _library(dtype: torch.dtype) -> _Library:
    """Build or load the library of one precision."""
    start = time.perf_counter()
    compiler = str(_compiler())
    flags = (*_FLAGS, *_REAL[dtype])
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, check=True, timeout=60
    ).stdout
    parts = (_SOURCE.read_bytes(), " ".join(flags).encode(), version, _processor().encode())
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    path = cache_folder() / f"tile-{key}.so"
    took = path.with_suffix(".seconds")
    if not (path.exists() and took.exists()):
        begun = time.perf_counter()
        _build(compiler, flags, path)
        half = took.with_suffix(f".{os.getpid()}")
        half.write_text(repr(time.perf_counter() - begun))
        half.replace(took)
    library = ctypes.CDLL(str(path))
    library.run.argtypes = (*(ctypes.c_void_p,) * 6, ctypes.c_int64, ctypes.c_int)
    library.run.restype = ctypes.c_int
    compiling.spent(time.perf_counter() - start)
    name = f"C, {str(dtype).removeprefix('torch.')}"
    return _Library(compiling.Artifact(name, float(took.read_text())), library.run)


def _build(compiler: str, flags: Sequence[str], path: Path) -> None:
    """Compile beside the target and rename, so that nobody loads half a library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, *flags, str(_SOURCE), "-o", str(made)]
        # torch has loaded its OpenMP runtime already; the same name gives the same threads.
        tries = ([*command, "-fopenmp"], command)
        for attempt in tries:
            done = subprocess.run(attempt, capture_output=True, text=True, timeout=120)
            if done.returncode == 0:
                made.replace(path)
                return
    raise OSError(done.stderr.strip()[-400:])


def cache_folder() -> Path:
    """Where built kernels are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "etp"


def _processor() -> str:
    """Machine and instruction sets, on which ``-march=native`` depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    wanted = ("flags", "Features", "model name")
    found = dict.fromkeys(line for line in lines if line.startswith(wanted))
    return f"{platform.machine()} {' '.join(found)}"

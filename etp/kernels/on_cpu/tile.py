"""Compile ``tile.c`` and its operators at first use, and run tile programs with them.

One library is built by the C++ compiler found (``CXX``, g++, c++ or clang++) for this processor and
this PyTorch, in a few seconds, and kept under ``~/.cache/etp`` under the hash of everything it
depends on. Where there is no compiler, :func:`missing` says so and products use their plain form.
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
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary, finalize

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from typing_extensions import override

from etp.kernels import compile_times as compiling
from etp.kernels.on_cpu.program import Bilinear, Program

_FOLDER = Path(__file__).parent
_TORCH = Path(torch.__file__).parent
_ALL = ("-fPIC", f"-I{_FOLDER}")
_C = (*_ALL, "-x", "c", "-std=gnu11", "-O3", "-march=native", "-fno-math-errno")
_PARTS = {
    "float": ("tile.c", (*_C, "-DREAL=float", "-DSINGLE", "-DRUN=etp_tile_float")),
    "double": ("tile.c", (*_C, "-DREAL=double", "-DRUN=etp_tile_double")),
    "operator": ("operator.cpp", (*_ALL, "-std=c++17", "-O2", f"-I{_TORCH / 'include'}")),
}
"""Objects of the library: their source and how it is compiled."""
_LINK = (f"-L{_TORCH / 'lib'}", "-ltorch_cpu")
_NUMPY: dict[torch.dtype, np.dtype[np.floating]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
Arrays = Sequence[np.ndarray[Any, Any]]
"""Steps, indices and coefficients of a program."""


class _Struct(ctypes.Structure):
    """``Program`` of ``tile.h``."""

    _fields_ = (
        ("steps", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("n_steps", "rows", "n_in", "n_out")),
        ("in_row", ctypes.c_int32 * 3),
        ("in_dim", ctypes.c_int32 * 3),
        ("out_row", ctypes.c_int32 * 2),
        ("out_dim", ctypes.c_int32 * 2),
        ("macs", ctypes.c_int64),
    )

    def __init__(self, program: Program, arrays: Arrays) -> None:
        super().__init__(
            *(array.ctypes.data for array in arrays),
            len(program.steps), program.rows, len(program.inputs), len(program.outputs),
            program.in_rows, program.inputs, program.out_rows, program.outputs, program.macs,
        )  # fmt: skip


class Kept:
    """A bilinear map cast to one precision, which the operators know by its number.

    The number is a hash of the content: a graph that ``torch.compile`` has kept on disk finds the
    same map in a later process, or none.
    """

    def __init__(
        self, both: Bilinear, arrays: Sequence[Arrays], number: int, *, single: bool
    ) -> None:
        self.number = number
        (self.dim_out,) = both.forward.outputs
        self._arrays = arrays
        self._structs = [_Struct(*laid) for laid in zip(both, arrays, strict=True)]
        library = _library().handle
        library.etp_tile_keep(number, *map(ctypes.byref, self._structs), single)
        finalize(self, library.etp_tile_drop, number).atexit = False


_KEPT: WeakValueDictionary[int, Kept] = WeakValueDictionary()
_OF_GRAPHS: set[Kept] = set()
"""What compiled graphs use, which may outlive the products that they were traced from."""


def kept(both: Bilinear, dtype: torch.dtype) -> Kept:
    """The map in the precision that inputs of ``dtype`` are computed in, made once."""
    if compiling.OPEN:
        compiling.used(_library().artifact)
    found: Kept | None = both.kept.get(dtype)
    if found is None:
        wide = dtype if dtype in _NUMPY else torch.float32
        arrays = [program.arrays(_NUMPY[wide]) for program in both]
        number = _number(both, arrays)
        single = wide == torch.float32
        found = both.kept[dtype] = _KEPT.get(number) or Kept(both, arrays, number, single=single)
        _KEPT[number] = found
    return found


def kept_for_graph(both: Bilinear, dtype: torch.dtype) -> int:
    """Number of a map that stays as long as the process."""
    found = kept(both, dtype)
    _OF_GRAPHS.add(found)
    return found.number


def _number(both: Bilinear, arrays: Sequence[Arrays]) -> int:
    digest = hashlib.blake2b(digest_size=7)
    for program, laid in zip(both, arrays, strict=True):
        digest.update(repr((program.inputs, program.outputs, program.rows)).encode())
        for array in laid:
            digest.update(array.dtype.str.encode())
            digest.update(array.tobytes())
    return int.from_bytes(digest.digest(), "little")


def bilinear(x: Tensor, y: Tensor, number: int) -> Tensor:
    """Apply a bilinear map to (N, dim1) and (N, dim2); differentiable any number of times.

    Half precision is computed in float32.
    """
    if x.dtype not in _NUMPY:
        return bilinear(x.float(), y.float(), number).to(x.dtype)
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        z: Tensor = _Product.apply(x, y, number)  # type: ignore[no-untyped-call]
        return z
    z = torch.ops.etp.tile.default(x, y, number)
    return z


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, number: int) -> Tensor:
        _remember(ctx, number, x, y)
        z: Tensor = torch.ops.etp.tile.default(x, y, number)
        return z

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        return *_gradients(grad, x, y, ctx.number), None


def _gradients(grad: Tensor, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled():
        found: tuple[Tensor, Tensor] = _Gradients.apply(grad, x, y, number)  # type: ignore[no-untyped-call]
        return found
    gx, gy = torch.ops.etp.tile_gradients.default(grad, x, y, number)
    return gx, gy


class _Gradients(torch.autograd.Function):
    """Both gradients in one pass; their own derivatives are the same two maps once more."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
        _remember(ctx, number, grad, x, y)
        gx, gy = torch.ops.etp.tile_gradients.default(grad, x, y, number)
        return gx, gy

    @staticmethod
    @override
    def backward(
        ctx: Any, to_gx: Tensor, to_gy: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        grad, x, y = ctx.saved_tensors
        to_grad = None
        if ctx.needs_input_grad[0]:
            to_grad = bilinear(to_gx, y, ctx.number) + bilinear(x, to_gy, ctx.number)
        if not any(ctx.needs_input_grad[1:3]):
            return to_grad, None, None, None
        return to_grad, *_gradients(grad, to_gx, to_gy, ctx.number), None


def _remember(ctx: Any, number: int, *tensors: Tensor) -> None:
    ctx.save_for_backward(*tensors)
    ctx.number = number
    if not torch.compiler.is_compiling():
        ctx.kept = _KEPT[number]  # alive as long as a gradient may be asked for


torch.library.define("etp::tile", "(Tensor x, Tensor y, int number) -> Tensor")
torch.library.define(
    "etp::tile_gradients", "(Tensor grad, Tensor x, Tensor y, int number) -> (Tensor, Tensor)"
)


@torch.library.register_fake("etp::tile")  # type: ignore[untyped-decorator]
def _(x: Tensor, y: Tensor, number: int) -> Tensor:
    return x.new_empty(x.shape[0], _KEPT[number].dim_out)


@torch.library.register_fake("etp::tile_gradients")  # type: ignore[untyped-decorator]
def _(grad: Tensor, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), y.new_empty(y.shape)


def applies(x: Tensor) -> bool:
    """Whether ``x`` is on the CPU, and nothing is asked that the operators cannot give."""
    return (
        x.is_cpu
        and _at_hand()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        # An exported graph runs where this package is not.
        and not torch.compiler.is_exporting()
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _at_hand() -> bool:
    return missing() is None


@cache
def missing() -> str | None:
    """Why tile programs cannot be run here, with the mend; None if they can."""
    if _compiler() is None:
        return "no C++ compiler was found: install g++ or clang++, or set CXX"
    try:
        _library()
    except (OSError, subprocess.SubprocessError) as error:
        return f"the C++ compiler {_compiler()} could not build the kernel: {error}"
    return None


@cache
def _compiler() -> str | None:
    names = (os.environ.get("CXX"), "g++", "c++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


class _Library(NamedTuple):
    """What was compiled, and its plain entries."""

    artifact: compiling.Artifact
    handle: ctypes.CDLL


@cache
def _library() -> _Library:
    """Build or load the library."""
    start = time.perf_counter()
    compiler = str(_compiler())
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, check=True, timeout=60
    ).stdout
    sources = [(_FOLDER / name).read_bytes() for name in ("tile.h", "tile.c", "operator.cpp")]
    made_of = (*sources, repr((_PARTS, _LINK, torch.__version__, _processor())).encode(), version)
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:24]
    path = cache_folder() / f"tile-{key}.so"
    took = path.with_suffix(".seconds")
    if not (path.exists() and took.exists()):
        begun = time.perf_counter()
        _build(compiler, path)
        half = took.with_suffix(f".{os.getpid()}")
        half.write_text(repr(time.perf_counter() - begun))
        half.replace(took)
    library = ctypes.CDLL(str(path))
    library.etp_tile_keep.argtypes = (ctypes.c_int64, *(ctypes.c_void_p,) * 2, ctypes.c_int)
    library.etp_tile_drop.argtypes = (ctypes.c_int64,)
    library.etp_tile_keep.restype = library.etp_tile_drop.restype = None
    compiling.spent(time.perf_counter() - start)
    return _Library(compiling.Artifact("C++", float(took.read_text())), library)


def _build(compiler: str, path: Path) -> None:
    """Compile beside the target and rename, so that nobody loads half a library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # torch has loaded its OpenMP runtime already; the same name gives the same threads.
        for threads in (("-fopenmp",), ()):
            commands = [
                [compiler, *flags, *threads, "-c", str(_FOLDER / source), "-o", f"{folder}/{name}"]
                for name, (source, flags) in _PARTS.items()
            ]
            objects = [command[-1] for command in commands]
            made = Path(folder) / path.name
            link = [compiler, "-shared", *threads, *objects, *_LINK, "-o", str(made)]
            error = _all(commands) or _all([link])
            if error is None:
                made.replace(path)
                return
    raise OSError(error)


def _all(commands: Sequence[Sequence[str]]) -> str | None:
    """Run commands side by side; the end of what the first that failed said."""
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    said = [process.communicate(timeout=240)[1] for process in running]
    failed = (
        text.strip()[-400:] or f"exit status {process.returncode}"
        for process, text in zip(running, said, strict=True)
        if process.returncode
    )
    return next(failed, None)


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

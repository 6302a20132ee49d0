"""Triton source written by a program: tiles of irreps features, turned into components and back.

A program of a kernel holds one row in each lane: one channel of one sample. Features lie as e3nn
lays them out, so the ``dim`` components of a block are neighbours in memory and those of the next
channel follow. A tile (rows, components) is therefore loaded and stored whole, where neighbouring
lanes touch neighbouring addresses, and split into one vector for each component in registers.

Not measured on a GPU.
"""

from __future__ import annotations

import hashlib
import linecache
import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from etp.kernels import compile_times as compiling


@cache
def triton_missing() -> str | None:
    """Why the GPU kernels cannot be used; None if they can."""
    if torch.version.hip is not None:
        return "the kernels are written for NVIDIA's cards: on AMD's the plain form runs"
    return None if find_spec("triton") else "triton is not installed: pip install triton"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def serves(device: str) -> bool:
    """Whether kernels run on this type of device: a GPU, or the interpreter on the CPU."""
    if device == "cuda":
        return triton_missing() is None
    return interpreted() and triton_missing() is None


@cache
def interpreted() -> bool:
    """Whether Triton runs kernels in Python on the CPU, as the tests do."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program may use; without a GPU those of a Hopper card."""
    if device.type != "cuda":
        return 227 << 10
    card = torch.cuda.get_device_properties(device)
    return int(getattr(card, "shared_memory_per_block_optin", card.shared_memory_per_block))


def padded(dim: int) -> int:
    """Smallest power of 2 that is not below ``dim``: sizes of tiles are powers of 2."""
    return 1 << (dim - 1).bit_length()


class Source:
    """Lines of one kernel.

    Args:
        name: Name of the function.
        arguments: Names of its arguments, ``BLOCK`` and ``ACC`` not among them.
        ragged: Whether rows may lie beyond the end, where the vector ``live`` is false.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, ragged: bool) -> None:
        self.name, self._ragged = name, ragged
        constants = ("BLOCK: tl.constexpr", "ACC: tl.constexpr")
        self._lines = [f"def {name}({', '.join((*arguments, *constants))}):"]
        self._count = 0
        self._ranges: set[int] = set()

    def add(self, line: str) -> None:
        """Append a statement."""
        self._lines.append(f"    {line}")

    def new(self) -> str:
        """A name not used before."""
        self._count += 1
        return f"t{self._count}"

    def let(self, expression: str) -> str:
        """Append an assignment to a new name, and return the name."""
        name = self.new()
        self.add(f"{name} = {expression}")
        return name

    def load(self, address: str, dim: int, *, settled: bool) -> list[str]:
        """Names of the vectors of the components at ``address`` of each row.

        ``settled`` adds the vector ``zero``, loaded lane by lane. Triton lets the layout of sums
        and products follow that of such loads; without one it moves every stored tile through
        shared memory several times.
        """
        if dim == 1:
            rows = ", mask=live, other=0.0" if self._ragged else ""
            return [self.let(f"tl.load({address}{rows}).to(ACC)")]
        width = padded(dim)
        pointers, mask = self._tile(address, dim)
        shape = ", ".join(["2"] * (width.bit_length() - 1))
        tile = self.let(f"tl.load({pointers}, mask={mask}, other=0.0).to(ACC)")
        bits = self.let(f"tl.reshape({tile}, (BLOCK, {shape}))")
        parts = self._split(bits, width)[:dim]
        return [self.let(f"{part} + zero") for part in parts] if settled else parts

    def store(self, address: str, components: Sequence[str]) -> None:
        """Write one vector for each component at ``address`` of each row."""
        dim = len(components)
        if dim == 1:
            self.add(f"tl.store({address}, {components[0]}{', mask=live' if self._ragged else ''})")
            return
        width = padded(dim)
        bits = self._join([*components, *[components[0]] * (width - dim)])
        pointers, mask = self._tile(address, dim)
        self.add(f"tl.store({pointers}, tl.reshape({bits}, (BLOCK, {width})), mask={mask})")

    def text(self) -> str:
        """The whole source."""
        return "\n".join(self._lines) + "\n"

    def _tile(self, address: str, dim: int) -> tuple[str, str]:
        width = padded(dim)
        if width not in self._ranges:
            self._ranges.add(width)
            self.add(f"m{width} = tl.arange(0, {width})[None, :]")
        rows = "live[:, None] & " if self._ragged else ""
        return f"({address})[:, None] + m{width}", f"{rows}(m{width} < {dim})"

    def _split(self, tile: str, width: int) -> list[str]:
        """Columns of a tile of shape (rows, 2, 2, ...), by halves: last bit of the column first."""
        if width == 1:
            return [tile]
        even, odd = self.new(), self.new()
        self.add(f"{even}, {odd} = tl.split({tile})")
        halves = (self._split(part, width // 2) for part in (even, odd))
        return [name for pair in zip(*halves, strict=True) for name in pair]

    def _join(self, columns: Sequence[str]) -> str:
        """Inverse of :meth:`_split`."""
        if len(columns) == 1:
            return columns[0]
        even, odd = (self._join(columns[bit::2]) for bit in (0, 1))
        return f"tl.join({even}, {odd})"


def compiled(source: Source) -> Any:
    """Make a kernel of a source."""
    return compiled_text(source.name, source.text())


def compiled_text(name: str, text: str) -> Any:
    """Make a kernel of a text. Python's line cache stands in for the file Triton reads."""
    import triton
    import triton.language as tl

    file = f"<etp kernel {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(text, file, "exec"), namespace)
    return triton.jit(namespace[name])


class _Listener:
    """What Triton's compiler takes while one evaluation runs, kept under the evaluation's name."""

    def __init__(self) -> None:
        from triton import knobs

        self._name = ""
        self._took: dict[str, float] = {}
        self._before = knobs.compilation.listener
        knobs.compilation.listener = self._heard

    def called(self, name: str) -> _Listener:
        """Count what is compiled from now on under ``name``."""
        self._name = name
        return self

    def note(self) -> None:
        """Say what the evaluation uses, whether it was compiled now or earlier."""
        if compiling.OPEN and self._name in self._took:
            compiling.used(compiling.Artifact(self._name, self._took[self._name]))

    def _heard(self, *, times: Any, **rest: Any) -> None:
        seconds = 1e-6 * times.total
        self._took[self._name] = self._took.get(self._name, 0.0) + seconds
        compiling.spent(seconds)
        if self._before is not None:
            self._before(times=times, **rest)


_listener = cache(_Listener)


def compile_times(name: str) -> _Listener:
    """Listen to the compiler from now on, and count under ``name``."""
    return _listener().called(name)


def accumulator(dtype: torch.dtype) -> tuple[torch.dtype, Any]:
    """Type of sums for inputs of ``dtype``, for torch and for Triton: float32 at the least."""
    import triton.language as tl

    wide = torch.promote_types(dtype, torch.float32)
    return wide, tl.float64 if wide == torch.float64 else tl.float32


def on_device_of(x: Tensor) -> Any:
    """Context in which kernels are launched where ``x`` is."""
    return torch.cuda.device(x.device if x.is_cuda else -1)

"""The operators as a file that ``torch.ops.load_library`` loads where this package is not.

Graphs that hold them (of ``torch.jit.trace``, ``make_fx``, AOTInductor) run there, in Python and in
C++, on processors that have the instructions it was compiled for. Derivatives are this package's:
a graph that is to give them must hold them, as one that was traced over energy and forces does.
"""

from __future__ import annotations

import re
import tempfile
from importlib import import_module
from pathlib import Path

import torch

from etp.kernels.on_cpu import build

_DEFINED_IN = ("etp.kernels.on_cpu.tile", "etp.kernels.edge", "etp.kernels.power")
"""Modules that define operators; here the library defines them itself."""
_SCHEMAS = """
#include <torch/csrc/stable/library.h>
STABLE_TORCH_LIBRARY_FRAGMENT(etp, m) {{
{lines}
}}
"""


def operators() -> list[str]:
    """Names of the operators that the library implements."""
    sources = {part.source for part in build.PARTS.values() if part.source.endswith(".cpp")}
    texts = [(build.FOLDER / source).read_text() for source in sorted(sources)]
    return [name for text in texts for name in re.findall(r'm\.impl\("(\w+)"', text)]


def schemas() -> list[str]:
    """What the operators take and give, in PyTorch's language."""
    for module in _DEFINED_IN:
        import_module(module)
    full = [str(getattr(torch.ops.etp, name).default._schema) for name in operators()]
    return [schema.removeprefix("etp::") for schema in full]


def write(path: Path, march: str = "native") -> None:
    """Compile every kernel and operator into one file.

    Args:
        path: Where it is written, whole or not at all.
        march: Processors it is for, as the compiler's ``-march``; native is this one.

    Raises:
        ValueError: If the folder does not exist.
        UnbuiltError: If there is no compiler, or it fails.
    """
    if not path.parent.is_dir():
        raise ValueError(f"out must lie in a folder that exists, got {path}")
    parts = {
        name: build.Part(
            str(build.FOLDER / part.source),
            tuple(f"-march={march}" if flag == "-march=native" else flag for flag in part.flags),
        )
        for name, part in build.PARTS.items()
    }
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as scratch:
        folder = Path(scratch)
        lines = "\n".join(f'    m.def("{schema}");' for schema in schemas())
        (folder / "schemas.cpp").write_text(_SCHEMAS.format(lines=lines))
        made = folder / "made.so"
        parts["schemas"] = build.Part("schemas.cpp", build.CPP)
        build.link_all(parts, folder, build.LINK, made)
        made.replace(path)

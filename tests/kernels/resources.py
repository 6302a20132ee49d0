"""What compiled kernels use of a GPU, read off without one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler
from triton.compiler import ASTSource, make_backend

CUOBJDUMP = Path(compiler.__file__).parent / "bin" / "cuobjdump"


def stack_bytes(cubin: bytes, folder: Path) -> int:
    """Memory of a thread: what does not fit into 255 registers is spilled there."""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    command = [str(CUOBJDUMP), "--dump-resource-usage", str(file)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (found,) = re.findall(r"STACK:(\d+)", listed)
    return int(found)


def shared_bytes(
    kernel: Any, kinds: dict[str, str], constants: dict[str, Any], capability: int, warps: int
) -> int:
    """Shared memory that Triton reserves: known before the assembler, which takes most time."""
    signature = {name: kinds.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    options = backend.parse_options({"num_warps": warps})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    stages: dict[str, Any] = {}
    backend.add_stages(stages, options, source.language)
    module = source.make_ir(
        target, options, backend.get_codegen_implementation(options),
        backend.get_module_map(), context,
    )  # fmt: skip
    found: dict[str, Any] = {"hash": "", "target": target, **options.__dict__}
    for stage in ("ttir", "ttgir", "llir"):
        module = stages[stage](module, found)
    return int(found["shared"])

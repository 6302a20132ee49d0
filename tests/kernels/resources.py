"""What compiled kernels use of a GPU, read off without one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from triton.backends.nvidia import compiler

CUOBJDUMP = Path(compiler.__file__).parent / "bin" / "cuobjdump"


def stack_bytes(cubin: bytes, folder: Path) -> int:
    """Memory of a thread: what does not fit into 255 registers is spilled there."""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    command = [str(CUOBJDUMP), "--dump-resource-usage", str(file)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (found,) = re.findall(r"STACK:(\d+)", listed)
    return int(found)

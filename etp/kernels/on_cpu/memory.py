"""Memory of large results, which the kernels keep for the next call (``memory.c``)."""

from __future__ import annotations

import ctypes

from etp.kernels.on_cpu import build


def release_memory() -> int:
    """Give the memory of freed results that is kept for further ones back to the system.

    There is no need to: the system takes it by itself as soon as anybody runs short of memory.
    Until then it counts as this process's.

    Returns:
        Bytes.

    Examples:
        >>> import etp
        >>> etp.release_memory() >= 0
        True
    """
    if build.missing() is not None:
        return 0
    release = build.library().handle.etp_memory_release
    release.restype = ctypes.c_size_t
    return int(release())

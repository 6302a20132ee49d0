"""What the system says of a file, as a sentence with the mend."""

from __future__ import annotations

import errno

_USER = 2
"""Exit status where another path mends it; 1 where the machine must be mended."""
_MENDS = {
    errno.ENOENT: (_USER, "is not there: make its folder first, or name another place"),
    errno.ENOTDIR: (_USER, "does not lie in a folder: name another place"),
    errno.EISDIR: (_USER, "is a folder: name a file"),
    errno.EEXIST: (_USER, "is there already and no folder: name another place"),
    errno.EACCES: (_USER, "is not open to this user: get the right to it, or name another place"),
    errno.EPERM: (_USER, "is not open to this user: get the right to it, or name another place"),
    errno.EROFS: (_USER, "lies on a disk that cannot be written: name another place"),
    errno.ENAMETOOLONG: (_USER, "has too long a name: name a shorter one"),
    errno.ENOSPC: (1, "cannot be written, no space is left on its disk: free some"),
    errno.EDQUOT: (1, "cannot be written, this user's share of the disk is used up: free some"),
}


def of_system(error: OSError) -> tuple[str, int]:
    """A sentence and an exit status for an error of the system.

    Examples:
        >>> of_system(IsADirectoryError(21, "Is a directory", "/tmp"))
        ('/tmp is a folder: name a file', 2)
    """
    known = _MENDS.get(error.errno or 0)
    if known is None or (error.filename is None and known[0] == _USER):
        return str(error), 1
    status, mend = known
    name = str(error.filename or "the file")
    return f"{name if len(name) < 100 else name[:97] + '...'} {mend}", status

"""What happens on a server, one JSON object a line: for a log that programs read.

Nothing is written unless a server asks for it with :func:`to_stderr`.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

_LOG = logging.getLogger("etp.events")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


class _LineHandler(logging.Handler):
    """Writes a record as one line, whatever it holds."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line to standard error as it is now."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": when, "event": record.getMessage(), **getattr(record, "told", {})}
        if record.exc_info:
            told["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        print(json.dumps(told, default=str), file=sys.stderr, flush=True)


def event(name: str, **told: object) -> None:
    """Note that something happened; inside ``except`` with the traceback, if ``error`` is told."""
    raised = "error" in told and sys.exc_info()[1] is not None
    _LOG.info("%s", name, extra={"told": told}, exc_info=raised)


def to_stderr() -> None:
    """Write events to standard error from now on."""
    if not any(isinstance(handler, _LineHandler) for handler in _LOG.handlers):
        _LOG.addHandler(_LineHandler())
        _LOG.setLevel(logging.INFO)

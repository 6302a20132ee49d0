"""What a runner has to write, kept in memory for as long as the store cannot take it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from etp.results.database import StoreError
from etp.run.events import event

AGAIN_S = 1.0


class Outbox:
    """Writes in order, each until it has succeeded; used from any thread.

    Writes must be such that doing one twice is the same as doing it once.

    Attributes:
        trouble: Why the store takes nothing at the moment, None if it does.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._waiting: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._again = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, write: Callable[[], object]) -> None:
        """Do a write as soon as it can be done: mostly now."""
        self._waiting.append(write)
        self.flush()

    def flush(self) -> bool:
        """Try what waits; whether all of it is written. Rests after a failure."""
        with self._lock:
            if self._waiting and time.monotonic() < self._again:
                return False
            while self._waiting:
                try:
                    self._waiting[0]()
                except StoreError as error:
                    if self.trouble is None:
                        event("store_trouble", reason=str(error), waiting=len(self._waiting))
                    self.trouble = str(error)
                    self._again = time.monotonic() + AGAIN_S
                    return False
                except Exception:
                    # Refused for what it is, not for the state of the store: never to be written.
                    self._waiting.popleft()
                    raise
                self._waiting.popleft()
            if self.trouble is not None:
                event("store_mended")
            self.trouble = None
            return True

    def drain(self, seconds: float) -> bool:
        """Try for a while, as at the end of the program; whether all of it is written."""
        end = time.monotonic() + seconds
        while not self.flush():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

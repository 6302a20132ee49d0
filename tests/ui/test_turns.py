"""Few pages are made at once, and none waits for ever for another."""

from __future__ import annotations

import threading

import pytest

from etp.ui import frame


def test_no_more_pages_than_turns_are_made_at_once():
    now, most, lock = 0, 0, threading.Lock()

    def page() -> None:
        nonlocal now, most
        with frame._turn():
            with lock:
                now += 1
                most = max(most, now)
            threading.Event().wait(0.02)
            with lock:
                now -= 1

    threads = [threading.Thread(target=page) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (now, most) == (0, 2)


def test_a_page_that_hangs_holds_up_nobody(monkeypatch):
    monkeypatch.setattr(frame, "PATIENCE_S", 0.01)
    with frame._turn(), frame._turn(), frame._turn():
        pass
    # Whoever did not wait for a turn gives none back.
    assert frame._TURNS._value == 2


def test_a_page_that_fails_gives_its_turn_back():
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), frame._turn():
            raise ValueError("broken")
    assert frame._TURNS._value == 2

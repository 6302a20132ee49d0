"""The frame of every page: its settings, its colours, and errors in words."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, StopException

from etp.charts.theme import Mode
from etp.run.events import event
from etp.ui.navigation import LOGO, ensure_navigation
from etp.ui.plain import plain
from etp.ui.session import follow_address
from etp.ui.visitors import access

_KEYBOARD = """
<style>
[data-testid="stHeaderActionElements"] { display: none; }
:has(> .st-key-run):has(> .st-key-cancel) > :is(.st-key-run, .st-key-cancel)[data-stale="true"] {
  display: none;
}
</style>
<script>
if (!window.etpKeyboard) {
  window.etpKeyboard = true;
  const first = 'input:not([disabled]), button:not([disabled], [aria-label^="Help for"]), '
    + '[role="slider"], [tabindex="0"]';
  const enter = (body, frames) => requestAnimationFrame(() => {
    body.querySelector(first)?.focus();
    const outside = body.isConnected && !body.contains(document.activeElement);
    if (outside && frames) enter(body, frames - 1);
  });
  let focused = null;
  new MutationObserver(() => {
    const body = document.querySelector('[data-testid="stPopoverBody"]');
    if (body === focused) return;
    focused = body;
    if (body) enter(body, 60);
  }).observe(document.body, { childList: true, subtree: true });
}
</script>
"""
"""Popovers are drawn at the end of the document: one that opens takes the focus, as soon as what is
in it is there and seen. The links of
headings would be a stop of the Tab key each. What a rerun leaves out stays until it has ended: of
Run and Cancel only the one that is new is shown."""


@contextmanager
def page(title: str) -> Iterator[None]:
    """Everything on a page happens inside: it works alone, and no error ends in a traceback."""
    st.set_page_config(page_title=f"{title} · etp", page_icon=str(LOGO), layout="wide")
    ensure_navigation()
    st.html(_KEYBOARD, unsafe_allow_javascript=True)
    try:
        follow_address(title)
        _login()
        with _turn():
            yield
    except (RerunException, StopException):
        raise
    except Exception as error:
        # The whole story goes to the log; a visitor gets what happened and what to do.
        event("page_failed", page=title, error=str(error))
        st.error(
            f"This page could not be shown: {plain(error)} \n\n"
            "Nothing that runs or is stored is lost. Reload the page, or start again from Compare.",
            icon=":material/error:",
        )
    _settle()


_TURNS = threading.Semaphore(2)
PATIENCE_S = 0.5
"""How long a page waits for its turn: what holds one for longer is waiting for something itself."""


@contextmanager
def _turn() -> Iterator[None]:
    """Let few pages be made at once.

    Threads of one process take turns at the interpreter every few milliseconds. Many pages at once
    are then all ready at the end, and the thread that sends them waits behind each of them.
    """
    taken = _TURNS.acquire(timeout=PATIENCE_S)
    try:
        yield
    finally:
        if taken:
            _TURNS.release()


def _login() -> None:
    """Where visitors are told apart by a provider: the button to it, and away from it."""
    if access().mode != "oidc":
        return
    if st.user.is_logged_in:
        label = f"Log out {plain(str(st.user.get('email') or ''))}".strip()
        st.button(label, icon=":material/logout:", key="log_out", on_click=st.logout)
    else:
        st.button("Log in", icon=":material/login:", key="log_in", on_click=st.login)


@st.cache_resource(show_spinner=False)
def _settle() -> None:
    """Take libraries and reference results out of the garbage collector's sight, once.

    Streamlit collects all garbage after every rerun; walking what stays for good each time took
    longer than most reruns, beside the measurement that a page watches.
    """
    gc.collect()
    gc.freeze()


def mode() -> Mode:
    """Light or dark, as the visitor sees the page."""
    return "dark" if st.context.theme.type == "dark" else "light"


def on_phone() -> bool:
    """A guess for the first layout only; nothing depends on it being right."""
    return "Mobi" in (st.context.headers.get("User-Agent") or "")

"""Settings of this visitor: one set for all pages, which addresses and controls only show.

The settings are the authority. A control is given the value in force each time it is drawn, and is
made anew (by its key) when that value is not the one it holds, so it cannot show or send another.
The address is written after every change, one entry of the browser's history each; an address that
was not written here (a link, Back, Forward) is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from etp.ui.plain import plain
from etp.ui.settings import Settings

_KEY = "settings"
_ERRORS = "address_errors"
_CHANGED = "settings_changed"
_WRITTEN = "address_written"
_BARE = "pages_entered"
_HELD = "controls_held"
_SAME = object()


def settings() -> Settings:
    """What is chosen now."""
    chosen: Settings | None = st.session_state.get(_KEY)
    if chosen is None:
        _read(_address())
        chosen = st.session_state[_KEY]
    return chosen


def choose(**changes: Any) -> None:
    """Change settings (from a callback)."""
    st.session_state[_KEY] = settings().with_(**changes)
    st.session_state[_ERRORS] = []
    st.session_state[_CHANGED] = True


def follow_address(page: str) -> None:
    """Bring settings and address together when a page begins, and say what could not be read."""
    query, changed = _address(), st.session_state.pop(_CHANGED, False)
    # Written first, so that a visitor's first page is read and not compared.
    before, written = st.session_state.get(_WRITTEN, (page, None))
    if written is None:
        settings()
    elif page != before and not query:
        # The links between pages carry no settings: Back to one of them finds these here.
        st.session_state.setdefault(_BARE, {}).setdefault(page, []).append(settings())
    elif not changed and (page, query) != (before, written):
        entered = st.session_state.get(_BARE, {}).get(page)
        if entered and not query:
            st.session_state[_KEY] = entered.pop()
        else:
            _read(query)
    write_address(page)
    for error in st.session_state.get(_ERRORS, []):
        st.warning(plain(error), icon=":material/link_off:")


def write_address(page: str | None = None) -> None:
    """Put the settings into the address; without a page, of the page that is shown."""
    query = settings().to_query()
    if _address() != query:
        st.query_params.from_dict(query)
    st.session_state[_WRITTEN] = (page or st.session_state[_WRITTEN][0], query)
    st.session_state.pop(_CHANGED, None)


def bound(
    field: str,
    argument: str = "value",
    options: Sequence[Any] | None = None,
    *,
    shown: Any = _SAME,
    at: str = "",
) -> dict[str, Any]:
    """Arguments that tie a control to a setting.

    Args:
        field: Name of the setting.
        argument: Name of the control's argument for its first value: ``value``, ``default`` or
            ``index``.
        options: What can be chosen, where ``argument`` is ``index``.
        shown: What the control shows, where that is not the setting itself.
        at: Tells apart controls of one setting on one page.
    """
    value = getattr(settings(), field) if shown is _SAME else shown
    held = st.session_state.setdefault(_HELD, {})
    revision, last = held.get((field, at), (0, value))
    if last != value:
        revision += 1
    held[field, at] = (revision, value)
    key = f"choose_{field}{at}_{revision}"
    first = value if options is None else list(options).index(value)
    return {argument: first, "key": key, "on_change": _taken, "args": (field, at, key)}


def _taken(field: str, at: str, key: str) -> None:
    value = st.session_state[key]
    if isinstance(value, list):
        value = tuple(value)
    held = st.session_state[_HELD]
    held[field, at] = (held[field, at][0], value)
    choose(**{field: value})


def _read(query: dict[str, str]) -> None:
    st.session_state[_KEY], st.session_state[_ERRORS] = Settings.from_query(query)


def _address() -> dict[str, str]:
    return {name: st.query_params[name] for name in st.query_params}

"""Settings of this visitor: from the address at first, kept while she moves between pages."""

from __future__ import annotations

from typing import Any

import streamlit as st

from etp.ui.settings import Settings

_KEY = "settings"
_ERRORS = "address_errors"


def settings() -> Settings:
    """What is chosen now."""
    if _KEY not in st.session_state:
        query = {name: st.query_params[name] for name in st.query_params}
        st.session_state[_KEY], st.session_state[_ERRORS] = Settings.from_query(query)
    found: Settings = st.session_state[_KEY]
    return found


def choose(**changes: Any) -> None:
    """Change settings from a callback, and the controls that show them."""
    st.session_state[_KEY] = settings().with_(**changes)
    for field, value in changes.items():
        key = _widget(field)
        if key in st.session_state:
            st.session_state[key] = list(value) if isinstance(value, tuple) else value


def write_address() -> None:
    """Put the settings into the address; say what could not be read from it."""
    query = settings().to_query()
    if {name: st.query_params[name] for name in st.query_params} != query:
        st.query_params.from_dict(query)
    for error in st.session_state.get(_ERRORS, []):
        st.warning(error, icon=":material/link_off:")


def bound(field: str) -> dict[str, Any]:
    """Arguments that tie a widget to a setting."""
    key = _widget(field)
    if key not in st.session_state:
        value = getattr(settings(), field)
        st.session_state[key] = list(value) if isinstance(value, tuple) else value
    return {"key": key, "on_change": _taken, "args": (field,)}


def _taken(field: str) -> None:
    value = st.session_state[_widget(field)]
    if isinstance(value, list):
        value = tuple(value)
    st.session_state[_KEY] = settings().with_(**{field: value})
    st.session_state[_ERRORS] = []


def _widget(field: str) -> str:
    return f"choose_{field}"

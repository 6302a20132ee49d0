"""Settings of this visitor: from the address at first, kept while she moves between pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from etp.ui.settings import Settings

_KEY = "settings"
_ERRORS = "address_errors"
_REVISIONS = "revisions"
Bound = dict[str, Any]


def settings() -> Settings:
    """What is chosen now."""
    if _KEY not in st.session_state:
        query = {name: st.query_params[name] for name in st.query_params}
        st.session_state[_KEY], st.session_state[_ERRORS] = Settings.from_query(query)
    found: Settings = st.session_state[_KEY]
    return found


def choose(**changes: Any) -> None:
    """Change settings from a callback, and the controls that show them."""
    before = settings()
    st.session_state[_KEY] = before.with_(**changes)
    revisions: dict[str, int] = st.session_state.setdefault(_REVISIONS, {})
    for field, value in changes.items():
        if getattr(before, field) != value:
            # A control keeps what was chosen in it: only a new one shows another value.
            revisions[field] = revisions.get(field, 0) + 1


def write_address() -> None:
    """Put the settings into the address; say what could not be read from it."""
    query = settings().to_query()
    if {name: st.query_params[name] for name in st.query_params} != query:
        st.query_params.from_dict(query)
    for error in st.session_state.get(_ERRORS, []):
        st.warning(error, icon=":material/link_off:")


def bound(field: str, argument: str = "value", options: Sequence[Any] | None = None) -> Bound:
    """Arguments that tie a widget to a setting.

    The value in force is given as the widget's own initial value at every rerun: what stands in a
    popover is made by the browser when the popover is opened, which may be long after the run that
    would have set it through the session's state.

    Args:
        field: The setting.
        argument: Name of the widget's argument for its initial value: ``value``, ``default``, or
            ``index``.
        options: What can be chosen, where ``argument`` is ``index``.
    """
    value = getattr(settings(), field)
    if options is not None:
        value = list(options).index(value)
    elif argument == "default" and isinstance(value, tuple):
        value = list(value)
    return {argument: value, "key": _widget(field), "on_change": _taken, "args": (field,)}


def _taken(field: str) -> None:
    value = st.session_state[_widget(field)]
    if isinstance(value, list):
        value = tuple(value)
    st.session_state[_KEY] = settings().with_(**{field: value})
    st.session_state[_ERRORS] = []


def _widget(field: str) -> str:
    revision = st.session_state.get(_REVISIONS, {}).get(field, 0)
    return f"choose_{field}_{revision}"

"""What is folded away is made when it is opened.

Closed, nobody sees it, and it would be made and sent again at every rerun of every page. What a
control changes does not stand in here: a fold is told apart by its label, which must stay.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st


def popover(label: str, content: Callable[[], None], *, key: str, icon: str) -> None:
    """A button that opens what ``content`` makes.

    Args:
        label: On the button.
        content: Makes what is inside, when it is open.
        key: Name on the page; whether it is open is in the session's state under it.
        icon: Name of a Material symbol.
    """
    place = st.popover(label, icon=f":material/{icon}:", key=key, on_change="rerun")
    if place.open:
        with place:
            content()


def expander(label: str, content: Callable[[], None], *, key: str, icon: str | None = None) -> None:
    """A line that unfolds what ``content`` makes; arguments as of :func:`popover`."""
    icon = None if icon is None else f":material/{icon}:"
    place = st.expander(label, icon=icon, key=key, on_change="rerun")
    if place.open:
        with place:
            content()

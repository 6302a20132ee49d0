"""Every power, one file per family; a new one is a new file under ``@register``."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache

from etp.powers._library import LibraryPower
from etp.powers.base import Power as Power
from etp.powers.registry import registry
from etp.powers.table import TablePower as TablePower
from etp.powers.table import table_power as table_power

WHY_NOT = {
    "gaunt-bracket": "the Poisson bracket of a signal with itself or with any of its powers is "
    "zero, so that gaunt-grid is all that is left",
    "vector-signal": "the cross product of a vector signal with itself is zero, and of two signals "
    "of one feature it is a product, no power",
}
"""Products that have no power, and why."""


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")


def names() -> list[str]:
    """Names of all registered powers."""
    _discover()
    return list(registry())


def available() -> list[str]:
    """Names of the powers that can run here."""
    return [name for name in names() if get(name).unavailable() is None]


def own() -> list[str]:
    """Names of the powers that no other library computes."""
    return [name for name in names() if not issubclass(get(name), LibraryPower)]


def get(name: str) -> type[Power]:
    """Return the class registered under ``name``.

    Raises:
        ValueError: If there is none; the message says why a product has none, or holds the closest
            name, and all known ones.
    """
    known = names()
    if name not in known:
        if name in WHY_NOT:
            raise ValueError(f"no power {name!r}: {WHY_NOT[name]}; known: {', '.join(known)}")
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no power {name!r}; {hint}known: {', '.join(known)}")
    return registry()[name]

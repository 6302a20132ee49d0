"""Which powers there are: each registers itself under its name."""

from __future__ import annotations

from typing import TypeVar

from etp.powers.base import Power

P = TypeVar("P", bound=Power)
_REGISTRY: dict[str, type[Power]] = {}


def register(cls: type[P]) -> type[P]:
    """Class decorator: make ``cls`` available under ``cls.name``.

    Raises:
        ValueError: If the name is taken.
    """
    if _REGISTRY.setdefault(cls.name, cls) is not cls:
        raise ValueError(f"{cls.name!r} already names {_REGISTRY[cls.name].__qualname__}")
    return cls


def registry() -> dict[str, type[Power]]:
    """Return the registered powers by name, in the order of registration."""
    return dict(_REGISTRY)

"""Which tensor products there are: each registers itself under its name."""

from __future__ import annotations

from typing import TypeVar

from etp.product import TensorProduct

P = TypeVar("P", bound=TensorProduct)
_REGISTRY: dict[str, type[TensorProduct]] = {}


def register(cls: type[P]) -> type[P]:
    """Class decorator: make ``cls`` available under ``cls.name``."""
    if _REGISTRY.setdefault(cls.name, cls) is not cls:
        raise ValueError(f"{cls.name!r} already names {_REGISTRY[cls.name].__qualname__}")
    return cls


def registry() -> dict[str, type[TensorProduct]]:
    """Return the registered products by name, in the order of registration."""
    return dict(_REGISTRY)

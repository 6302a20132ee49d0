"""Which tensor products there are: each registers itself under its name."""

from __future__ import annotations

from typing import TypeVar

from etp.product.base import TensorProduct

P = TypeVar("P", bound=TensorProduct)
NEEDED = ("name", "title", "reference")
_REGISTRY: dict[str, type[TensorProduct]] = {}


def register(cls: type[P]) -> type[P]:
    """Class decorator: make ``cls`` available under ``cls.name``.

    Raises:
        ValueError: If something that every product needs is missing, or the name is taken.
    """
    absent = [name for name in NEEDED if not isinstance(getattr(cls, name, None), str)]
    absent += sorted(cls.__abstractmethods__)
    if absent:
        raise ValueError(f"{cls.__qualname__} has no {', '.join(absent)}")
    if _REGISTRY.setdefault(cls.name, cls) is not cls:
        raise ValueError(f"{cls.name!r} already names {_REGISTRY[cls.name].__qualname__}")
    return cls


def registry() -> dict[str, type[TensorProduct]]:
    """Return the registered products by name, in the order of registration."""
    return dict(_REGISTRY)

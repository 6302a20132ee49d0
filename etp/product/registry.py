"""Which tensor products there are: each registers itself under its name."""

from __future__ import annotations

from typing import TypeVar

# Edge products enter themselves where products are made.
from etp.product import edge_table as edge_table
from etp.product.base import TensorProduct

P = TypeVar("P", bound=TensorProduct)
_REGISTRY: dict[str, type[TensorProduct]] = {}


def register(cls: type[P]) -> type[P]:
    """Class decorator: make ``cls`` available under ``cls.name``, its title if it has no other.

    Raises:
        ValueError: If something that every product needs is missing, or the name is taken.

    Examples:
        >>> from etp.product import TensorProduct
        >>> class Half(TensorProduct):
        ...     name = "half"
        >>> register(Half)
        Traceback (most recent call last):
        ValueError: Half has no coefficient, multiply
    """
    absent = [] if isinstance(getattr(cls, "name", None), str) else ["name"]
    absent += sorted(cls.__abstractmethods__)
    if absent:
        raise ValueError(f"{cls.__qualname__} has no {', '.join(absent)}")
    cls.title = cls.title or cls.name
    if _REGISTRY.setdefault(cls.name, cls) is not cls:
        raise ValueError(f"{cls.name!r} already names {_REGISTRY[cls.name].__qualname__}")
    return cls


def registry() -> dict[str, type[TensorProduct]]:
    """Return the registered products by name, in the order of registration."""
    return dict(_REGISTRY)

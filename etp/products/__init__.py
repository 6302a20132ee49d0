"""Every tensor product, one file per family; a new one is a new file under ``@register``."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from etp.product import plugins
from etp.product.base import TensorProduct
from etp.product.registry import registry
from etp.products._library import LibraryProduct


@cache
def _discover() -> dict[Path, str]:
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        importlib.import_module(f"{__name__}.{module.name}")
    return plugins.load()


def not_loaded() -> dict[Path, str]:
    """Files of the user's own (``ETP_PRODUCTS``) that failed, and why.

    Examples:
        >>> from etp import products
        >>> products.not_loaded()
        {}
    """
    return dict(_discover())


def names() -> list[str]:
    """Names of all registered products, families together.

    Examples:
        >>> from etp import products
        >>> {"cg-sparse", "gaunt-grid", "matrix"} <= set(products.names())
        True
    """
    _discover()
    return list(registry())


def get(name: str) -> type[TensorProduct]:
    """Return the class registered under ``name``.

    Raises:
        ValueError: If there is none; the message holds the closest name and all known ones.

    Examples:
        >>> from etp import products
        >>> products.get("cg-sparse")("1o", "1o")
        ClebschGordanSparse(1x1o x 1x1o -> 1x0e+1x1e+1x2e)
        >>> products.get("cg-spars")
        Traceback (most recent call last):
        ValueError: no tensor product 'cg-spars'; did you mean 'cg-sparse'? known: ...
    """
    _discover()
    known = registry()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        failed = "".join(f"; {path} was not loaded: {why}" for path, why in not_loaded().items())
        raise ValueError(f"no tensor product {name!r}; {hint}known: {', '.join(known)}{failed}")
    return known[name]


def own() -> list[str]:
    """Names of the products that no other library computes.

    Examples:
        >>> from etp import products
        >>> "e3nn" in products.own()
        False
    """
    return [name for name in names() if not issubclass(get(name), LibraryProduct)]


def available() -> list[str]:
    """Names of the products that can run here.

    Examples:
        >>> from etp import products
        >>> set(products.available()) <= set(products.names())
        True
    """
    return [name for name in names() if get(name).unavailable() is None]

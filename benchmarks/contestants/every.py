"""Each of our own products, asked for by its name."""

from __future__ import annotations

from functools import partial

from ours import make
from torch_calls import forget, set_threads

from etp import products

__all__ = ["OFFERS", "forget", "set_threads"]
OFFERS = {name: {name: partial(make, name)} for name in products.names()}

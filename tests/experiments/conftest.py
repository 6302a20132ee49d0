"""e3nn is imported here first: some releases warn, and some load only as etp imports them."""

from __future__ import annotations

import warnings

import etp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    etp.products  # noqa: B018

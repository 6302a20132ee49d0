"""``e3nn.o3``, imported so that every release of e3nn can be: all of etp takes it from here.

Releases before 0.5 load their constants in a way that torch refuses since 2.6.
"""

from __future__ import annotations

import torch

with torch.serialization.safe_globals([slice]):
    from e3nn import o3

__all__ = ["o3"]

"""Launch shapes of kernels: a table for each card, made by ``benchmarks.gpu`` and shipped.

A card that is not in the table, and a kernel that is not in a card's, has the default, a guess.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import torch

WARP = 32
"""Threads that run together."""
TABLE = Path(__file__).with_name("launches.json")
DEFAULTS = {"rows": 128, "edge": 128, "power": 128}
"""Rows or channels of a program, one for each thread, of each family of kernels."""
SHAPES = (32, 64, 128)
"""What may be chosen."""


def shape(kernel: str, card: str) -> int:
    """Rows or channels of a program of a family of kernels on a card, by the card's name."""
    forced = os.environ.get(f"ETP_LAUNCH_{kernel.upper()}")
    size = int(forced) if forced else table().get(card, {}).get(kernel, DEFAULTS[kernel])
    return size if size in SHAPES else DEFAULTS[kernel]


@cache
def table() -> dict[str, dict[str, int]]:
    """Tuned shapes by card and family; empty where the file cannot be read."""
    try:
        cards: dict[str, dict[str, int]] = json.loads(TABLE.read_text())["cards"]
    except (OSError, ValueError, KeyError):
        return {}
    return cards


def write(card: str, shapes: dict[str, int], path: Path = TABLE) -> None:
    """Keep a card's shapes in a table, beside those of other cards."""
    cards = json.loads(path.read_text())["cards"] if path.exists() else {}
    cards[card] = {**cards.get(card, {}), **shapes}
    path.write_text(json.dumps({"cards": cards}, indent=1, sort_keys=True) + "\n")
    table.cache_clear()


@cache
def card(device: torch.device) -> str:
    """Name of the card that a device is; empty where it is none."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""

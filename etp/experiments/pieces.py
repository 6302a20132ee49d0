"""The eight pieces of Tetris in space; no torch, for pages."""

from __future__ import annotations

PIECES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "left screw": ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)),
    "right screw": ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, -1)),
    "line": ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)),
    "square": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),
    "corner": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "L": ((0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 0)),
    "T": ((0, 0, 0), (1, 0, 0), (2, 0, 0), (1, 1, 0)),
    "zigzag": ((0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)),
}
"""Centres of the four cubes of each piece; the first two are mirror images."""
NAMES = tuple(PIECES)

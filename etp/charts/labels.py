"""Where labels go: pushed apart on one axis, or placed greedily beside points in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, y down."""

SHARED = 12.0
"""Square pixels that two labels may share: boxes are wider than their letters."""
_NARROW = set("iljtfr.,:;|!'()[]- ·")
_WIDE = set("mwMW@%×–µ")


def text_width(text: str, size: float = 12.0, *, bold: bool = False) -> float:
    """Return the width of ``text`` in pixels, estimated on the safe side for a sans-serif.

    Args:
        text: One line.
        size: Pixels of the font.
        bold: Whether it is bold.
    """
    ems = sum(0.33 if c in _NARROW else 0.82 if c in _WIDE else 0.55 for c in text)
    return ems * size * (1.06 if bold else 1.0)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions at least ``gap`` apart, in the same order, as near as they can be.

    Neighbours closer than ``gap`` merge into one block around their mean (pool adjacent
    violators), blocks stay within ``[low, high]``. If not all fit, the gap shrinks evenly.

    Args:
        positions: Where labels want to be.
        gap: Pixels between neighbours.
        low: Lowest position.
        high: Highest position.
    """
    if not positions:
        return []
    count = len(positions)
    if count > 1:
        gap = min(gap, (high - low) / (count - 1))
    ranked = sorted(range(count), key=lambda i: positions[i])
    # Subtracting k * gap turns "at least gap apart" into "does not decrease".
    blocks: list[tuple[float, int]] = []
    for k, i in enumerate(ranked):
        total, size = positions[i] - k * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / size:
            previous = blocks.pop()
            total, size = total + previous[0], size + previous[1]
        blocks.append((total, size))
    levels = [total / size for total, size in blocks for _ in range(size)]
    top = high - (count - 1) * gap
    result = [0.0] * count
    for k, i in enumerate(ranked):
        result[i] = min(max(levels[k], low), max(top, low)) + k * gap
    return result


NARROW = 0.75
"""Share of the expected width that a plot may have on a smaller screen: names must do there too."""


@dataclass(frozen=True)
class Placement:
    """Offset in pixels of a label from its point, with the alignment that goes with it.

    Attributes:
        boxes: What it covers in the plot as wide as expected, and in the narrowest one.
    """

    dx: float
    dy: float
    align: str
    boxes: tuple[Box, ...]


def overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _candidates(
    x: float, y: float, width: float, height: float, shares: Sequence[float]
) -> list[Placement]:
    half, near, far = height / 2, 11.0, 17.0
    placements = []
    for align, dx, dy in (
        ("left", near, 0.0),
        ("center", 0.0, far),
        ("center", 0.0, -far),
        ("right", -near, 0.0),
        ("left", 8.0, 14.0),
        ("left", 8.0, -14.0),
        ("right", -8.0, 14.0),
        ("right", -8.0, -14.0),
        ("left", near, 24.0),
        ("left", near, -24.0),
        ("right", -near, 24.0),
        ("right", -near, -24.0),
        ("center", 0.0, 31.0),
        ("center", 0.0, -31.0),
    ):
        before = dx - {"left": 0.0, "center": width / 2, "right": width}[align]
        lefts = [x * share + before for share in shares]
        boxes = tuple((left, y + dy - half, left + width, y + dy + half) for left in lefts)
        placements.append(Placement(dx, dy, align, boxes))
    return placements


@dataclass
class _Plot:
    """A plot of one width: its frame, and what names in it should keep clear."""

    frame: Box
    marks: list[Box]
    obstacles: list[Box]
    names: list[Box]

    def cost(self, i: int, box: Box) -> float:
        """What the name of point ``i`` covers there of everything else, and what is outside."""
        cost = 4 * sum(overlap(box, mark) for j, mark in enumerate(self.marks) if j != i)
        cost += 6 * sum(overlap(box, name) for name in self.names)
        cost += 3 * sum(overlap(box, obstacle) for obstacle in self.obstacles)
        return cost + 8 * ((box[2] - box[0]) * (box[3] - box[1]) - overlap(box, self.frame))


def _narrowed(box: Box, share: float) -> Box:
    return box[0] * share, box[1], box[2] * share, box[3]


def place(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    frame: Box,
    obstacles: Sequence[Box] = (),
    *,
    height: float = 15.0,
    first: Sequence[int] = (),
    radius: float = 7.0,
    narrow: float = NARROW,
) -> list[Placement]:
    """Place one label beside each point: right, below, above, left, then the corners.

    Greedy in pixels. The cost of a spot is what it covers of other points, of ``obstacles``
    and of labels already placed, and what of it falls outside ``frame``: where it costs more, in
    the plot as wide as expected or in the narrowest one, in which only the letters keep their size.

    Args:
        points: Centres in pixels, y down.
        widths: Width of each label.
        frame: The plot.
        obstacles: Boxes to keep clear (segments of a front, annotations, quartile rules).
        height: Height of a label.
        first: Indices to be placed before the others.
        radius: Half width of a point.
        narrow: Share of the width that the plot has at least; 1 where its width is known.
    """
    shares = (1.0,) if narrow == 1 else (1.0, narrow)
    plots = [
        _Plot(
            _narrowed(frame, share),
            [(x * share - radius, y - radius, x * share + radius, y + radius) for x, y in points],
            [_narrowed(box, share) for box in obstacles],
            [],
        )
        for share in shares
    ]
    queue = [*first, *(i for i in range(len(points)) if i not in set(first))]
    placed: dict[int, Placement] = {}
    for i in queue:
        x, y = points[i]
        best: tuple[float, Placement] | None = None
        for rank, spot in enumerate(_candidates(x, y, widths[i], height, shares)):
            cost = rank * 0.004 * widths[i] * height
            cost += max(plot.cost(i, box) for plot, box in zip(plots, spot.boxes, strict=True))
            if best is None or cost < best[0]:
                best = (cost, spot)
        if best is not None:
            placed[i] = best[1]
            for plot, box in zip(plots, best[1].boxes, strict=True):
                plot.names.append(box)
    return [placed[i] for i in range(len(points))]


def legible(placements: Sequence[Placement]) -> list[bool]:
    """Which labels can be read: those that share no ground with one that was kept before.

    Args:
        placements: As :func:`place` gives them.
    """
    kept: list[Placement] = []
    clear = []
    for placement in placements:
        clear.append(
            not any(
                overlap(box, there) > SHARED
                for other in kept
                for box, there in zip(placement.boxes, other.boxes, strict=True)
            )
        )
        if clear[-1]:
            kept.append(placement)
    return clear

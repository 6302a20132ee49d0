"""Names beside points: where they go in plots that may come out narrower than expected."""

from __future__ import annotations

from itertools import combinations

from etp.charts import labels


def drawn(points, widths, spots, share):
    """Boxes of the names where the plot has a share of the expected width."""
    boxes = []
    for (x, y), wide, spot in zip(points, widths, spots, strict=True):
        left = share * x + spot.dx - {"left": 0, "center": wide / 2, "right": wide}[spot.align]
        boxes.append((left, y + spot.dy - 7.5, left + wide, y + spot.dy + 7.5))
    return boxes


def test_a_name_near_the_edge_stays_inside_of_a_narrower_plot():
    points, widths, frame = [(490.0, 100.0), (50.0, 100.0)], [70.0, 70.0], (0.0, 0.0, 575.0, 200.0)
    loose = labels.place(points, widths, frame, narrow=1)
    tight = labels.place(points, widths, frame)
    assert drawn(points, widths, loose, 0.75)[0][2] > 0.75 * 575, "else nothing is tested"
    for share in (1.0, labels.NARROW):
        for left, _, right, _ in drawn(points, widths, tight, share):
            assert left >= 0
            assert right <= share * 575


def test_names_that_stand_apart_do_so_in_a_narrower_plot():
    points = [(60.0 * n, 100.0) for n in range(1, 9)]
    widths, frame = [58.0] * 8, (0.0, 0.0, 560.0, 200.0)
    spots = labels.place(points, widths, frame)
    clear = labels.legible(spots)
    assert sum(clear) > 4
    for share in (1.0, labels.NARROW):
        shown = [b for b, c in zip(drawn(points, widths, spots, share), clear, strict=True) if c]
        assert max(labels.overlap(a, b) for a, b in combinations(shown, 2)) <= labels.SHARED

"""Numbers as people read them: units change with size, powers are written as powers."""

from __future__ import annotations

import math

THIN = "\u202f"
"""Narrow space that does not break: between groups of thousands."""

_SUPERSCRIPT = str.maketrans("0123456789-.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻·")
_TIME = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
_BYTES = ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
_RATE = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))


def superscript(value: float | str) -> str:
    """Return ``value`` in superscript digits: ``-12`` becomes ``⁻¹²``, ``2.5`` becomes ``²·⁵``."""
    return str(value).translate(_SUPERSCRIPT)


def count_text(value: float) -> str:
    """Return a whole number with a thin space between thousands: ``2 401``."""
    return f"{round(value):,}".replace(",", THIN)


def counted(count: float, noun: str, several: str | None = None) -> str:
    """Return a number with its noun: ``1 path``, ``85 paths``.

    Args:
        count: How many.
        noun: For one.
        several: For any other number; by default with an s.
    """
    word = noun if round(count) == 1 else several or f"{noun}s"
    return f"{count_text(count)} {word}"


def batch_text(batch: int, channels: int | None) -> str:
    """Return the size of one call: ``batch 1 000 × 16 channels``.

    Args:
        batch: Samples.
        channels: Of every sample; None where its irreps say them.
    """
    wide = "" if channels is None else f" × {counted(channels, 'channel')}"
    return f"batch {count_text(batch)}{wide}"


def quartiles_text(low: float, high: float) -> str:
    """Return quartiles in milliseconds, never as powers: ``0.131 – 0.134``, ``2 240 – 2 390``."""
    return f"{significant(low * 1e3)} – {significant(high * 1e3)}"


def significant(value: float, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits kept, never as a power: ``1.30``."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{places}f}".replace(",", THIN)


def _scaled(value: float, units: tuple[tuple[float, str], ...], digits: int) -> str:
    rounded = float(f"{value:.{digits - 1}e}")
    size, unit = units[0]
    for size_next, unit_next in units[1:]:
        # The small factor keeps 1e-3, stored a hair below itself, in milliseconds.
        if abs(rounded) >= size_next * (1 - 1e-9):
            size, unit = size_next, unit_next
    return f"{significant(rounded / size, digits)} {unit}".rstrip()


def time_text(seconds: float, digits: int = 3) -> str:
    """Return a duration in the unit that suits it: ``97.4 µs``, ``1.30 ms``, ``2.00 s``."""
    return "0 s" if seconds == 0 else _scaled(seconds, _TIME, digits)


def bytes_text(size: float, digits: int = 2) -> str:
    """Return a size in decimal units: ``512 B``, ``9.6 MB``."""
    if abs(size) < 1000:
        return f"{round(size)} B"
    return _scaled(size, _BYTES, digits if abs(size) < 1e15 else 3)


def rate_text(value: float, unit: str, digits: int = 3) -> str:
    """Return a rate with a decimal prefix: ``175 GFLOP/s``, ``25.9 GB/s``.

    Args:
        value: Units per second.
        unit: What is counted.
        digits: Significant digits.
    """
    if value == 0:
        return f"0 {unit}"
    number, _, prefix = _scaled(value, _RATE, digits).partition(" ")
    return f"{number} {prefix}{unit}"


def power_text(value: float, digits: int = 2) -> str:
    """Return a small or large number as a power of ten: ``3.5 × 10⁻⁷``, ``10⁻¹²``, ``0.47``.

    Magnitudes from 0.1 to 1000 stay plain. A mantissa of one is left out when ``digits`` is 1.
    """
    if value == 0:
        return "0"
    if 0.1 <= abs(value) < 1000:
        return significant(value, digits)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = f"10{superscript(int(exponent))}"
    mantissa = mantissa.replace("-", "−")
    return power if mantissa == "1" else f"{mantissa} × {power}"


def ratio_text(ratio: float, digits: int = 2) -> str:
    """Return a ratio: ``5.6×``, ``14×``, ``27 438×`` (from 100 on, whole numbers)."""
    return f"{count_text(ratio) if abs(ratio) >= 100 else significant(ratio, digits)}×"


def speed_words(ratio: float) -> str:
    """Return the words for a speed relative to a baseline: ``5.6× faster``, ``1.4× slower``."""
    return f"{ratio_text(ratio)} faster" if ratio >= 1 else f"{ratio_text(1 / ratio)} slower"


def range_text(low: float, high: float) -> str:
    """Return an interval of ratios: ``2.4 – 2.7×``, ``1.04 – 1.12×``."""
    digits = 3 if low < 2 else 2
    return f"{ratio_text(low, digits).removesuffix('×')} – {ratio_text(high, digits)}"


def at_least_text(ratio: float) -> str:
    """Return a ratio above one rounded down, so that it may be claimed: ``1.06×``, ``35×``."""
    places = max(0, 1 - math.floor(math.log10(ratio)))
    if ratio < 2:
        # Of a small difference, what lies above one has a digit that is not zero.
        places = max(2, -math.floor(math.log10(ratio - 1)) if ratio > 1 else 2)
    step = 10.0**-places
    return f"{math.floor(ratio / step * (1 + 1e-12)) * step:,.{places}f}×".replace(",", THIN)


def floor_text(floor: tuple[float, float]) -> str:
    """Return the noise floor of a run, an interval of a product against itself: ``±1.3 %``.

    It is the larger side, as a share of time; beyond a factor of two it is a factor.
    """
    factor = max(floor[1], 1 / floor[0])
    return ratio_text(factor) if factor >= 2 else f"±{100 * (factor - 1):.2g} %"


def list_text(items: list[str], limit: int = 4) -> str:
    """Return ``a, b and c``; beyond ``limit`` items, ``a, b, c and 4 more``."""
    if len(items) > limit:
        items = [*items[: limit - 1], f"{len(items) - limit + 1} more"]
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"

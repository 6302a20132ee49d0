"""Growth in sentences: slopes, who overtakes whom, and when a set-up pays off."""

from __future__ import annotations

from collections.abc import Sequence

from etp.analysis.comparison import Comparison
from etp.analysis.findings import Finding
from etp.analysis.growth.crossings import Crossing, PayOff, crossings, pair_word, same_pair
from etp.analysis.growth.fits import MIN_FIT, Growth, fitted_sizes, growths
from etp.analysis.growth.lines import Line
from etp.text import count_text, list_text, superscript, time_text

SYMBOLS = {"lmax": "L", "batch": "B", "channels": "C"}
BETWEEN_POWERS = 0.1
"""An exponent within this of 0 is called flat, of 1 linear."""
BEYOND = 0.25
"""An exponent must be this far from that of the count to be worth a sentence."""


def growth_finding(line: Line) -> Finding:
    """Lead sentence: who grows how, what that means at the largest size, and who overtakes whom."""
    fitted = [growth for growth in growths(line) if growth.time is not None]
    largest = line.named(line.size(line.last))
    crossed = crossings(line)
    notable = _notable(crossed, line)
    lead = crossing_sentence(notable, line) if notable else ""
    if not fitted:
        count = len(line.sizes)
        heading = f"{count} size{'s were' if count > 1 else ' was'} measured, too few for a slope."
        mend = f"A slope needs {MIN_FIT}: choose a wider range of {line.axis}."
        return Finding(heading, lead or mend, "")
    first, *_, last = fitted_sizes(line.sizes)
    between = f"From {line.named(first)} to {_bare(line, last)}"
    shown = _shown([g for g in fitted if g.time and (g.time.clear or g.bent)], line)
    names = [growth.product for growth in shown] or [line.last.baseline]
    if any(growth.bent for growth in shown):
        between = f"From {line.named(line.sizes[0])} to {_bare(line, last)}"
    parts = [_grows(growth, line, first=growth is shown[0]) for growth in shown]
    heading = f"{between}, {list_text(parts)}."
    if not shown:
        heading = f"{between}, no product grows like one power of {line.axis}."
    times = [line.last.entry(name).typical_s for name in names]
    told = _against([time_text(seconds) for seconds in times])
    what = "that is" if shown else f"{line.last.baseline} takes"
    meaning = f"At {largest} {what} {told}. {lead}".rstrip()
    doubt = _beyond_count(fitted, line)
    if any(growth.time and growth.time.low is None for growth in shown):
        doubt = "Three sizes: the slopes have no interval."
    return Finding(heading, meaning, doubt)


def _shown(fitted: Sequence[Growth], line: Line) -> list[Growth]:
    """The slowest growth, the baseline's, and the fastest; those still timed at the last size."""
    there = {entry.product for entry in line.last.timed}
    kept = [growth for growth in fitted if growth.product in there]
    if not kept:
        return []
    base = [growth for growth in kept if growth.product == line.last.baseline]
    chosen = [kept[0], *base, kept[-1]]
    return [growth for growth in kept if growth in chosen]


def _grows(growth: Growth, line: Line, *, first: bool) -> str:
    """How a product grows: one power, or one up to a size and another from there on."""
    verb = "grows " if first else ""
    if growth.bent is None:
        return f"{growth.product} {verb}like {_power(growth, line)}"
    below, above = (_exponent(power, line) for power in (growth.bent.below, growth.bent.above))
    verb = "is " if first and below == "flat" else verb
    return f"{growth.product} {verb}{below} below {_bare(line, growth.bent.size)} and then {above}"


def _exponent(power: float, line: Line) -> str:
    if abs(power) <= BETWEEN_POWERS:
        return "flat"
    if line.axis != "lmax" and abs(power - 1) <= BETWEEN_POWERS:
        return "linear"
    return f"like {SYMBOLS[line.axis]}{superscript(f'{power:.1f}')}"


def _power(growth: Growth, line: Line) -> str:
    exponent = growth.time.exponent if growth.time else 0.0
    return f"{SYMBOLS[line.axis]}{superscript(f'{exponent:.1f}')}"


def _bare(line: Line, size: int) -> str:
    """A size without the word that was said before."""
    return line.named(size) if line.axis == "channels" else count_text(size)


def _against(texts: Sequence[str]) -> str:
    head, *rest = texts
    return head if not rest else f"{head} against {list_text(list(rest))}"


def _notable(changes: Sequence[Crossing], line: Line) -> Crossing | None:
    """The crossing worth the lead: between products that somebody would choose between.

    They do the same operation or one is the baseline, and where the winner takes the lead nothing
    that does what it does is faster.
    """
    base = line.last.baseline
    chosen = [
        c for c in changes
        if (c.same or base in (c.winner, c.loser)) and not _beaten(c.winner, c.size, line)
    ]  # fmt: skip
    return max(chosen, key=lambda c: (c.same, base in (c.winner, c.loser), c.size), default=None)


def _beaten(product: str, size: int, line: Line) -> bool:
    """Whether something that does the same operation is faster at a size."""
    comparison = next(
        comparison for comparison in line.comparisons if line.size(comparison) == size
    )
    return any(
        pair_word(comparison, product, rival) == "faster" and same_pair(comparison, product, rival)
        for rival in line.products
        if rival != product
    )


def _beyond_count(fitted: Sequence[Growth], line: Line) -> str:
    """A product whose time certainly grows faster than its operations."""
    symbol = SYMBOLS[line.axis]
    worst, by = None, BEYOND
    for growth in fitted:
        if growth.time and growth.count and growth.time.low is not None:
            distance = growth.time.exponent - growth.count.exponent
            if growth.time.low > growth.count.exponent and distance > by:
                worst, by = growth, distance
    if worst is None or worst.count is None:
        return ""
    count = superscript(f"{worst.count.exponent:.1f}")
    return (
        f"{worst.product} grows faster than its operation count ({_power(worst, line)} against "
        f"{symbol}{count}): something other than arithmetic takes the time."
    )


def crossing_sentence(crossing: Crossing, line: Line) -> str:
    """Who overtakes whom, where: ``gaunt-grid overtakes cg-sparse at lmax 5 for batch 10 000``."""
    text = f"{crossing.winner} overtakes {crossing.loser} at {line.named(crossing.size)}"
    text += f" {line.where()}"
    if crossing.ties:
        sizes = list_text([_bare(line, size) for size in crossing.ties])
        lead = "" if line.axis == "channels" else f"{line.axis} "
        text += f"; at {lead}{sizes} the two are not separable"
    note = "" if crossing.same else " (not the same operation)"
    return f"{text}{note}."


def pay_off_sentence(pay_off: PayOff, comparison: Comparison) -> str:
    """When a larger set-up is earned back; one measurement of the set-up, so it is rough."""
    count = float(f"{pay_off.calls:.2g}")
    calls = count_text(count) if count >= 1 else "1"
    noun = "call" if calls == "1" else "calls"
    return (
        f"{pay_off.product} takes {time_text(pay_off.once_s, 2)} more than {pay_off.baseline} to "
        f"get going and {time_text(pay_off.saved_s, 2)} less in each call: it pays off after "
        f"about {calls} {noun}."
    )

"""What a verdict says: its words, the front it leads to, and how many more rounds it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, inf, isfinite, isnan, log
from typing import Literal, NamedTuple

from etp.measure.statistic import z_value

ALPHA = 0.05
"""Probability that any word of a board is wrong, over all looks."""
GUARD = log(1.005)
"""No direction is claimed for less: equal code at other addresses differs by about this much."""
MARGIN = log(1.02)
"""What "same" means."""
MIN_ROUNDS = 12
OUT_OF_REACH = 8
"""A pair that needs more than this many times the rounds so far is not worth waiting for."""
WIDE = 2 / 3
"""An interval is wide whose near end has less than this share of the estimated log ratio,"""
NEAR = 1.25
"""or lies further than this factor from the estimate."""
NEXT_LOOK = 1.25
"""The next look needs at least this many times the rounds of the last one."""

Word = Literal["faster", "slower", "same", "open", "changed", "withheld", "too few"]
Place = Literal["front", "possible", "dominated"]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """What is known about slot ``b`` against slot ``a``.

    Attributes:
        a: Column of the first product.
        b: Column of the second product; ``word`` says what it is against the first.
        estimate: ``log(t_b / t_a)``.
        low: Low end of the running interval of that logarithm; ``-inf`` if unknown.
        high: High end; ``inf`` if unknown.
        word: The verdict.
        rounds: Rounds it rests on.
        needed: Rounds in total that would probably settle an open pair; None if it is settled or
            out of reach.
    """

    a: int
    b: int
    estimate: float
    low: float
    high: float
    word: Word
    rounds: int = 0
    needed: int | None = None


class Floor(NamedTuple):
    """The same product built twice: log ratio of the two, and whether it is suspicious."""

    estimate: float
    low: float
    high: float
    bad: bool


def error_of_look(look: int) -> float:
    """Error that look 0, 1, 2, ... may spend; all of them together spend :data:`ALPHA`."""
    return ALPHA * 0.35 * 0.65**look


def fewest_rounds(products: int) -> int:
    """Rounds below which a first look cannot tell any pair of ``products`` apart.

    An interval at error a is unbounded where its normal quantile reaches sqrt(rounds), and Holm's
    first step spends the error of the look on all pairs.
    """
    pairs = max(products * (products - 1) // 2, 1)
    return max(MIN_ROUNDS, floor(z_value(error_of_look(0) / pairs) ** 2) + 1)


def ask(n: int, verdict: Verdict, look: int, *, guard: float = GUARD, pairs: int = 1) -> int | None:
    """Rounds in total to ask for, so that an open pair is probably settled by the next look.

    Args:
        n: Rounds so far.
        verdict: The open pair.
        look: Number of the look that it comes from.
        guard: Guard of that look; what the twin widened it by shrinks with the interval.
        pairs: Pairs that shared the error.

    Returns:
        At least 1.25 times ``n``; None if it is more than 8 times ``n``.
    """
    if n < MIN_ROUNDS:
        return MIN_ROUNDS
    half, distance = (verdict.high - verdict.low) / 2, abs(verdict.estimate)
    if not isfinite(half):
        return 2 * n
    now, later = (z_value(error_of_look(j) / pairs) for j in (look, look + 1))
    direction = (half / (distance - GUARD)) ** 2 if distance > GUARD else inf
    if guard > GUARD:
        direction = max(direction, ((half + guard) / distance) ** 2 if distance else inf)
    same = (half / (MARGIN - distance)) ** 2 if distance < MARGIN else inf
    need = min(direction, same) * (later / now) ** 2 * n
    return None if need > OUT_OF_REACH * n else ceil(max(need, NEXT_LOOK * n))


def words(verdict: Verdict, name_a: str, name_b: str, seconds_per_round: float) -> str:
    """One sentence about ``b`` against ``a``.

    "Not separable" is not "same": no sentence claims that two products are equal.

    Args:
        verdict: The verdict.
        name_a: What to call the first product.
        name_b: What to call the second product.
        seconds_per_round: What one more round costs.

    Returns:
        The sentence, without a full stop.
    """
    v = verdict
    if v.word in ("faster", "slower"):
        small = ", by less than 2 %" if is_same(v.low, v.high) else ""
        return f"{name_b} is {v.word} than {name_a}{small}: {_difference(v)}"
    if v.word == "same":
        low, high = (f"{100 * (exp(end) - 1):+.2g} %" for end in (v.low, v.high))
        return f"{name_b} and {name_a} are the same within 2 % ({low} to {high})"
    if v.word == "changed":
        return f"{name_b} and {name_a}: the ratio changed during the run; no verdict"
    if v.word == "withheld":
        return (
            f"{name_b} and {name_a}: no verdict, because two instances of the same product "
            "differ by more than 2 % in this run"
        )
    kind = "too few rounds" if v.word == "too few" else "not separable yet"
    if v.needed is None:
        return f"{name_b} and {name_a}: not separable at this noise"
    more = max(v.needed - v.rounds, 1)
    seconds = _two_digits(more * seconds_per_round)
    return f"{name_b} and {name_a}: {kind}; about {more} more rounds, {seconds} s"


def front(verdicts: Sequence[Verdict], values: Sequence[float | None]) -> list[Place | None]:
    """Which products lie on the front of speed and an exact second criterion.

    All verdicts of a board hold together, so no further correction is needed.

    Args:
        verdicts: Of one board.
        values: Second criterion of each slot, more is better; None for a product that must not be
            ranked, such as one that failed a check.

    Returns:
        For each slot "dominated" if a product at least as good is faster, "front" if it is faster
        than every other one at least as good, else "possible"; None where the value is None.

    Raises:
        ValueError: If a value is not a number, or a verdict names a slot without one.
    """
    if any(value is not None and isnan(value) for value in values):
        raise ValueError(f"values must be numbers or None, got {list(values)}")
    faster: set[tuple[int, int]] = set()
    for v in verdicts:
        if max(v.a, v.b) >= len(values):
            raise ValueError(
                f"values must have one entry per slot, got {len(values)} for slot {max(v.a, v.b)}"
            )
        if v.word == "faster":
            faster.add((v.b, v.a))
        elif v.word == "slower":
            faster.add((v.a, v.b))
    return [_place(slot, values, faster) for slot in range(len(values))]


def _place(slot: int, values: Sequence[float | None], faster: set[tuple[int, int]]) -> Place | None:
    own = values[slot]
    if own is None:
        return None
    rivals = [
        i for i, value in enumerate(values) if i != slot and value is not None and value >= own
    ]
    if any((rival, slot) in faster for rival in rivals):
        return "dominated"
    return "front" if all((slot, rival) in faster for rival in rivals) else "possible"


def is_same(low: float, high: float) -> bool:
    """Whether an interval lies within the margin."""
    return low > -MARGIN and high < MARGIN


def _difference(v: Verdict) -> str:
    """Size of the difference: percent of time, or a factor from 2 on.

    Where the interval is wide, what it supports comes first.
    """
    sign = 1 if v.word == "slower" else -1
    ends = sorted(sign * end for end in (v.low, v.high))
    if abs(v.estimate) >= log(2):
        x, low, high = (_two_digits(exp(size)) for size in (sign * v.estimate, *ends))
        x, low, high, unit = f"{x}x", f"{low}x", f"{high}x", ""
    else:
        # Less time is a share of the slower one's, so that it stays below 100 %.
        x, low, high = (
            f"{_two_digits(100 * abs(exp(sign * size) - 1))} %"
            for size in (sign * v.estimate, *ends)
        )
        unit = f" {'more' if sign > 0 else 'less'} time"
    if is_wide(v):
        return f"at least {low}{unit} (estimate {x}, up to {high})"
    return f"{x}{unit} ({low} to {high})"


def near(v: Verdict) -> float:
    """Size of the difference that the near end of its interval supports, a logarithm."""
    return v.low if v.word == "slower" else -v.high


def is_wide(v: Verdict) -> bool:
    """Whether the near end of an interval supports much less than the estimate says."""
    return near(v) < WIDE * abs(v.estimate) or near(v) < abs(v.estimate) - log(NEAR)


def _two_digits(value: float) -> str:
    """Two significant digits without an exponent."""
    rounded = float(f"{value:.2g}")
    if rounded >= 10:
        return f"{rounded:.0f}"
    return f"{value:#.2g}" if rounded >= 1e-3 else f"{rounded:.4f}"

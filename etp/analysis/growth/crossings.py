"""Where one product overtakes another, and after how many calls a larger set-up pays off."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from etp.analysis.comparison import Comparison, ProductEntry
from etp.analysis.growth.lines import Line
from etp.kernels.torch_compile import plain_name

_SIGN = {"faster": 1, "slower": -1}


@dataclass(frozen=True)
class Crossing:
    """A place where the lead changes, by paired verdicts on both sides of it.

    Attributes:
        winner: The product that is faster from here on.
        loser: The one that was.
        size: First size at which the winner is faster.
        before: Last size at which the loser was.
        ties: Sizes between them at which the two could not be told apart.
        same: Whether both do the same operation at ``size``.
    """

    winner: str
    loser: str
    size: int
    before: int
    ties: tuple[int, ...]
    same: bool


def crossings(line: Line) -> list[Crossing]:
    """Every change of the lead between any two products, in the order of the sizes.

    A tie is no lead: a product that only draws level has not overtaken.
    """
    changes: list[Crossing] = []
    for first, second in combinations(line.products, 2):
        leader, before = 0, 0
        ties: list[int] = []
        for comparison in line.comparisons:
            word = pair_word(comparison, first, second)
            if word is None:
                continue
            sign, size = _SIGN.get(word, 0), line.size(comparison)
            if not sign:
                ties.append(size)
                continue
            if leader and sign != leader:
                winner, loser = (second, first) if sign > 0 else (first, second)
                same = same_pair(comparison, first, second)
                changes.append(Crossing(winner, loser, size, before, tuple(ties), same))
            leader, before, ties = sign, size, []
    return sorted(changes, key=lambda crossing: (crossing.size, crossing.winner, crossing.loser))


def pair_word(comparison: Comparison, first: str, second: str) -> str | None:
    """What the second product is against the first; None if they were not in the same rounds.

    Args:
        comparison: Holds both.
        first: A product.
        second: Another.
    """
    pairs = comparison.judgement.pairs
    if (first, second) in pairs:
        return pairs[first, second].word
    turned = pairs.get((second, first))
    if turned is None:
        return None
    return {"faster": "slower", "slower": "faster"}.get(turned.word, turned.word)


def same_pair(comparison: Comparison, first: str, second: str) -> bool:
    """Whether two products do the same operation.

    Args:
        comparison: Holds both.
        first: A product.
        second: Another.
    """
    return Comparison(comparison.problem, comparison.entries, first, comparison.runs).same(second)


@dataclass(frozen=True)
class PayOff:
    """A product that costs more once and less in every call.

    Attributes:
        once_s: How much longer its set-up, first call and compilation take than the baseline's.
        saved_s: How much shorter each call is.
    """

    product: str
    baseline: str
    once_s: float
    saved_s: float

    @property
    def calls(self) -> float:
        """Calls after which it has paid off."""
        return self.once_s / self.saved_s


def pay_offs(comparison: Comparison) -> list[PayOff]:
    """Products that are faster by a verdict but take longer to get going.

    Each is held against the baseline and, where it is compiled, against its own plain form.
    """
    by_name = {entry.product: entry for entry in comparison.timed}
    made = [
        _pay_off(comparison, by_name[other], entry)
        for name, entry in by_name.items()
        for other in dict.fromkeys((comparison.baseline, plain_name(name)))
        if other in by_name and other != name
    ]
    paid = [pay_off for pay_off in made if pay_off is not None]
    return sorted(paid, key=lambda pay_off: pay_off.calls)


def _pay_off(comparison: Comparison, base: ProductEntry, entry: ProductEntry) -> PayOff | None:
    if pair_word(comparison, base.product, entry.product) != "faster":
        return None
    saved, ours, theirs = base.typical_s - entry.typical_s, _once_s(base), _once_s(entry)
    if saved <= 0 or ours is None or theirs is None or theirs <= ours:
        return None
    return PayOff(entry.product, base.product, theirs - ours, saved)


def _once_s(entry: ProductEntry) -> float | None:
    """Seconds that are spent once: set-up, compilation, and what the first call takes longer."""
    result = entry.result("runtime")
    if result.get("setup_s") is None or result.get("first_call_s") is None:
        return None
    first = max(float(result["first_call_s"]) - entry.typical_s, 0.0)
    return float(result["setup_s"]) + first + float(result.get("compile_s") or 0.0)

"""Which product for this layer? Three sentences: the same operation, the same reach, the fastest.

Each speaks of one product against the baseline, which is what people have, and only as far as the
interval of its verdict carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, isfinite

from etp.analysis.comparison import Comparison, ProductEntry
from etp.analysis.findings import ways
from etp.measure.statement import is_wide, near
from etp.measure.verdict import Verdict
from etp.text import at_least_text, ratio_text, speed_words

NAMED = 3
"""Paths that are named when some are lost; of the others the number is said."""


@dataclass(frozen=True)
class Advice:
    """Sentences about a layer, and the products that they are about.

    Attributes:
        same: The fastest product that does the same operation, and what it gains.
        reach: The fastest that reaches the same paths with other weights or outputs.
        fewer: The fastest that gives paths up, and which.
        products: The product of each sentence; None where there is none.
    """

    same: str
    reach: str
    fewer: str
    products: tuple[str | None, str | None, str | None]

    @property
    def sentences(self) -> tuple[str, str, str]:
        """All three."""
        return self.same, self.reach, self.fewer


def advice(comparison: Comparison) -> Advice:
    """Advice from a comparison.

    Raises:
        ValueError: If its baseline was not timed.
    """
    base = comparison.baseline
    if not comparison.entry(base).valid:
        raise ValueError(f"{base} was not timed here: advice compares with it")
    # What only approximates has no paths of its own to speak of.
    others = [e for e in comparison.timed if e.product != base and e.operation is not None]
    same = _best(comparison, [e for e in others if comparison.same(e.product)])
    reach = _best(
        comparison,
        [e for e in others if not comparison.same(e.product) and not lost(comparison, e)],
    )
    fewer = _best(comparison, [e for e in others if lost(comparison, e)])
    return Advice(
        _same(comparison, same),
        _reach(comparison, reach, same),
        _fewer(comparison, fewer, same),
        tuple(None if e is None else e.product for e in (same, reach, fewer)),  # type: ignore[arg-type]
    )


def lost(comparison: Comparison, entry: ProductEntry) -> list[tuple[str, ...]]:
    """Paths that the baseline reaches and a product does not, as (irrep 1, irrep 2, output)."""
    base = comparison.entry(comparison.baseline).result("interactions").get("triples", [])
    if comparison.problem.kind == "power":
        # A coupling is lost where no polynomial has it for its own; which one is a choice of basis.
        own = {path[0] for path in entry.result("interactions").get("triples", [])}
        return [tuple(path) for path in base if path[0] not in own]
    reached = {tuple(path) for path in entry.result("interactions").get("triples", [])}
    return [tuple(path) for path in base if tuple(path) not in reached]


def _best(comparison: Comparison, entries: list[ProductEntry]) -> ProductEntry | None:
    return min(entries, key=lambda e: _log_time(comparison, e), default=None)


def _log_time(comparison: Comparison, entry: ProductEntry) -> float:
    """Logarithm of its time over the baseline's; of those without a verdict, nothing is known."""
    verdict = comparison.judgement.verdicts.get(entry.product)
    return verdict.estimate if verdict is not None else float("inf")


def _same(comparison: Comparison, best: ProductEntry | None) -> str:
    base = comparison.baseline
    if best is None:
        return f"The same operation: nothing else that was timed does what {base} does."
    return (
        f"The same operation: {best.product} does what {base} does, "
        f"{_speed(_verdict(comparison, best), base)}."
    )


def _reach(comparison: Comparison, best: ProductEntry | None, same: ProductEntry | None) -> str:
    base = comparison.baseline
    if best is None:
        return "The same reach, other weights: nothing else that was timed reaches every path."
    reached = best.result("interactions")
    how = "adds paths up" if not reached.get("keeps_paths") else "weighs paths in its own way"
    return (
        f"The same reach, other weights: {best.product} reaches all {reached.get('count')} "
        f"{ways(reached)} "
        f"but {how}, {_speed(_verdict(comparison, best), base)}{_beside(comparison, best, same)}."
    )


def _fewer(comparison: Comparison, best: ProductEntry | None, same: ProductEntry | None) -> str:
    base = comparison.baseline
    if best is None:
        return "Fewer paths: no product that gives paths up was timed."
    reached, missing = best.result("interactions"), lost(comparison, best)
    what = (
        f"{best.product} reaches {reached.get('count')} of {reached.get('allowed')} "
        f"{ways(reached)}{_which(comparison, missing)}, {_speed(_verdict(comparison, best), base)}"
        f"{_beside(comparison, best, same)}"
    )
    if same is not None and _slower(comparison, best, same):
        return f"Fewer {ways(reached)} buy nothing here: {what}."
    return f"Fewer {ways(reached)}: {what}."


def _slower(comparison: Comparison, entry: ProductEntry, other: ProductEntry) -> bool:
    """Whether a product was shown to be slower than another."""
    pairs = comparison.judgement.pairs
    if (verdict := pairs.get((other.product, entry.product))) is not None:
        return verdict.word == "slower"
    verdict = pairs.get((entry.product, other.product))
    return verdict is not None and verdict.word == "faster"


def _settled(comparison: Comparison, entry: ProductEntry, other: ProductEntry) -> bool:
    """Whether one of two products was shown to be the faster; true where no pair was judged."""
    pairs = comparison.judgement.pairs
    names = entry.product, other.product
    verdict = pairs.get(names) or pairs.get(names[::-1])
    return verdict is None or verdict.word in ("faster", "slower")


def _beside(comparison: Comparison, entry: ProductEntry, same: ProductEntry | None) -> str:
    """How it stands to the product of the first sentence."""
    if same is None:
        return ""
    ratio = exp(_log_time(comparison, entry) - _log_time(comparison, same))
    if not isfinite(ratio):
        return ""
    if not _settled(comparison, entry, same):
        return f" and not separable from {same.product}"
    if ratio >= 1:
        return f" and {ratio_text(ratio)} the time of {same.product}"
    return f" and {ratio_text(1 / ratio)} faster than {same.product}"


def _which(comparison: Comparison, missing: list[tuple[str, ...]]) -> str:
    """The paths that are lost; of a power there are none to name, only fewer combinations."""
    return "" if comparison.problem.kind == "power" else f" ({_paths(missing)})"


def _paths(missing: list[tuple[str, ...]]) -> str:
    named = [f"{a} with {b} to {c}" for a, b, c in missing[:NAMED]]
    more = len(missing) - len(named)
    return f"lost: {', '.join(named)}" + (f" and {more} more" if more else "")


def _verdict(comparison: Comparison, entry: ProductEntry) -> Verdict | None:
    return comparison.judgement.verdicts.get(entry.product)


def _speed(verdict: Verdict | None, base: str) -> str:
    """What the interval carries: the bound is what may be relied on, and leads where it is wide."""
    if verdict is None:
        return f"not timed in the same rounds as {base}"
    factor = exp(-verdict.estimate)
    if verdict.word in ("faster", "slower"):
        size, bound = ratio_text(max(factor, 1 / factor)), at_least_text(exp(near(verdict)))
        if is_wide(verdict):
            return f"at least {bound} {verdict.word} (estimate: {size})"
        return f"{size} {verdict.word} (at least {bound})"
    if verdict.word == "same":
        return "as fast, within 2 %"
    return f"not yet separable in time (estimate: {speed_words(factor)})"

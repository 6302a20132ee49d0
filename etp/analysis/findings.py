"""What was found, in sentences: only what the intervals carry, and what it costs in paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any

from etp.analysis.comparison import Comparison, ProductEntry
from etp.analysis.operation import OF_COUPLINGS
from etp.measure.statement import is_wide, near
from etp.measure.verdict import Verdict
from etp.problem import Problem
from etp.text import (
    at_least_text,
    floor_text,
    list_text,
    power_text,
    range_text,
    ratio_text,
)

SETTLED = ("faster", "slower", "same")


@dataclass(frozen=True)
class Finding:
    """A heading of at most two numbers, what it means, and how sure it is."""

    heading: str
    meaning: str
    doubt: str


def finding(comparison: Comparison) -> Finding:
    """Lead sentence of a comparison: first the same operation, then the fastest of any."""
    where = (
        f"At lmax {comparison.problem.lmax}" if comparison.problem.setting else "On these irreps"
    )
    judged = comparison.judgement
    base = comparison.baseline
    broken = failed(comparison)
    reasons = " ".join(f"{entry.product}: {_reason(entry)}." for entry in broken)
    if not comparison.timed:
        return Finding(f"{where}, nothing could be timed.", reasons or "The table says why.", "")
    if not judged.verdicts:
        heading = f"{where}, {base} is the only product that was timed in these rounds."
        return Finding(heading, reasons or "Choose another product to compare it with.", "")
    faster = {p: v for p, v in judged.verdicts.items() if v.word == "faster"}
    same = [p for p in faster if comparison.same(p)]
    other = [p for p in faster if not comparison.same(p)]
    sentences, shown = [], []
    if same:
        best = min(same, key=lambda p: faster[p].estimate)
        shown.append(best)
        sentences.append(f"{best} does the same operation as {base} {claim_words(faster[best])}.")
    elif broken:
        # Nothing is said of all products where one that was asked for could not be timed.
        pass
    elif all(v.word in (*SETTLED, "changed") for v in judged.verdicts.values()):
        sentences.append(f"nothing that does the same operation is faster than {base}.")
    else:
        sentences.append(f"nothing is yet shown to do the same operation as {base} faster.")
    if other:
        other.sort(key=lambda p: faster[p].estimate)
        best = other[0]
        shown.append(best)
        sentences.append(
            f"{best} is {claim_words(faster[best])}, {_price(comparison.entry(best))}."
        )
    if broken:
        sentences.append(f"{list_text([e.product for e in broken])} could not be timed.")
    heading = f"{where}, {' '.join(sentences)}"
    meaning = f"{reasons} {_meaning(comparison, other[0] if other else None)}".strip()
    return Finding(heading, meaning, _doubt(comparison, shown))


FAILED = ("failed", "wrong answer", "unavailable", "identical zero")
"""Badges of a product that was asked for and is not compared, for no reason of the irreps."""


def failed(comparison: Comparison) -> list[ProductEntry]:
    """Products that were asked for and could not be timed, though they apply to these irreps."""
    return [
        entry
        for entry in comparison.entries
        if (row := entry.runtime) is not None
        and row.status != "ok"
        and (row.status in ("failed", "cancelled") or set(FAILED) & set(row.badges))
    ]


def _reason(entry: ProductEntry) -> str:
    row = entry.runtime
    return (row.reason if row is not None and row.reason else "it was not timed").rstrip(".")


def pair_words(comparison: Comparison, product: str) -> str:
    """Words at the edge of the ratio plot: short, and honest about what is not settled."""
    verdict = comparison.judgement.verdicts.get(product)
    if verdict is None:
        return "baseline" if product == comparison.baseline else "not in these rounds"
    if verdict.word in ("faster", "slower"):
        return claim_words(verdict)
    return _SHORT[verdict.word]


_SHORT = {
    "same": "same within 2 %",
    "open": "not separable",
    "changed": "ratio changed",
    "withheld": "withheld",
    "too few": "too few rounds",
}


def pair_sentence(comparison: Comparison, product: str) -> str:
    """One whole sentence about a product against the baseline."""
    from etp.measure.verdict import words

    verdict = comparison.judgement.verdicts[product]
    text = words(verdict, comparison.baseline, product, comparison.judgement.round_s)
    note = (
        ""
        if comparison.same(product)
        else f" It is not the same operation: {_differs(comparison, product)}."
    )
    moved = comparison.judgement.moved.get(product)
    warning = "" if moved is None else f" With care: {moved.detail}."
    return f"{text}.{note}{warning}"


def _differs(comparison: Comparison, product: str) -> str:
    ours, theirs = comparison.entry(comparison.baseline), comparison.entry(product)
    a, b = ours.result("interactions"), theirs.result("interactions")
    if not a or not b:
        return "what it computes was not measured"
    if a["count"] != b["count"]:
        of = ways(b)
        return f"it reaches {b['count']} {of}, {comparison.baseline} {a['count']}"
    if a["keeps_paths"] != b["keeps_paths"]:
        return "it adds up paths that the other keeps apart" if a["keeps_paths"] else (
            "it keeps paths apart that the other adds up"
        )  # fmt: skip
    per_path = [row.get("weights_per") == "path" for row in (a, b)]
    if per_path[0] != per_path[1]:
        return (
            "it has a free weight for each path" if per_path[1] else "it has no weights for paths"
        )
    return f"its {ways(b)} have other coefficients"


def ways(reached: Mapping[str, Any]) -> str:
    """What is counted of a product: paths of two inputs, of a power couplings of its one input.

    Args:
        reached: Result of an ``interactions`` row.
    """
    return "couplings" if reached.get("weights_per") == OF_COUPLINGS else "paths"


def _price(entry: ProductEntry) -> str:
    reached = entry.result("interactions")
    if not reached:
        return "but what it computes was not measured"
    of = ways(reached)
    if reached["count"] < reached["allowed"]:
        return f"but reaches {reached['count']} of {reached['allowed']} {of}"
    if not reached.get("keeps_paths") and reached["allowed"] > 1:
        return f"but adds up all {reached['allowed']} {of} into one output for each irrep"
    only = "the only " + of.removesuffix("s")
    every = f"all {reached['allowed']} {of}" if reached["allowed"] > 1 else only
    return f"and reaches {every}"


def missing_words(problem: Problem, entry: ProductEntry, subject: str = "it") -> str | None:
    """What a product cannot do, in the words of someone who builds a model.

    Args:
        problem: What was asked.
        entry: What the product does of it.
        subject: What the sentence calls it.
    """
    reached = entry.result("interactions")
    if not reached:
        return None
    if problem.kind == "power":
        return _missing_couplings(reached, subject)
    paths = {tuple(triple) for triple in reached["triples"]}
    allowed = {tuple(str(ir) for ir in triple): triple for triple in problem.triples()}
    lost = [ls for labels, ls in allowed.items() if labels not in paths]
    if not lost:
        return None
    count = (
        f"path {subject} drops is" if len(lost) == 1 else f"{len(lost)} paths {subject} drops are"
    )
    if all((a.l + b.l + c.l) % 2 for a, b, c in lost):
        odd = "an odd one" if len(lost) == 1 else "the odd ones"
        return (
            f"The {count} {odd}: no cross product, so no way to tell mirror images apart "
            "by this product alone."
        )
    return f"The {count} allowed by symmetry but have weight zero."


def _missing_couplings(reached: Mapping[str, Any], subject: str) -> str | None:
    count = reached["allowed"] - reached["count"]
    if not count:
        return None
    return (
        f"{subject} has one weight for each irrep and degree: {count} of the {reached['allowed']} "
        "independent couplings that symmetry allows cannot be weighed by themselves."
    )


def _meaning(comparison: Comparison, product: str | None) -> str:
    """What the product that the heading named last gives up; else that all are right."""
    if product is not None:
        entry = comparison.entry(product)
        if (words := missing_words(comparison.problem, entry, product)) is not None:
            return words
        gamma = entry.result("expressivity").get("rank")
        base = comparison.entry(comparison.baseline).result("expressivity").get("rank")
        if gamma is not None and base is not None and gamma < base:
            return (
                f"Adding up paths leaves {product} {gamma} independent maps (γ) of the "
                f"{base} that {comparison.baseline} has."
            )
    worst = max(
        (e for e in comparison.timed if e.result("equivariance")),
        key=lambda e: float(e.result("equivariance")["max"]),
        default=None,
    )
    if worst is None:
        return ""
    error = power_text(float(worst.result("equivariance")["max"]))
    partial = [e.product for e in comparison.timed if rotations_only(e)]
    lead = "All of them are" if len(comparison.timed) > 1 else f"{worst.product} is"
    but = f", {list_text(partial)} under rotations only" if partial else ""
    return f"{lead} equivariant{but}: the worst relative error is {error} ({worst.product})."


def rotations_only(entry: ProductEntry) -> bool:
    """Whether a product was held to rotations alone: under inversion it is wrong."""
    inverted = entry.result("equivariance").get("inverted")
    return inverted is not None and not any(inverted)


def _doubt(comparison: Comparison, shown: list[str]) -> str:
    parts = []
    ranges = [_range(comparison.judgement.verdicts[p]) for p in shown]
    if ranges:
        word = "interval" if len(ranges) == 1 else "intervals"
        parts.append(f"95 % {word} {' and '.join(ranges)}")
    if comparison.judgement.floor is not None:
        parts.append(f"this run's noise floor is {floor_text(comparison.judgement.floor)}")
    parts += [flag.detail for flag in comparison.judgement.flags]
    return "; ".join(parts)


def claim_words(verdict: Verdict) -> str:
    """A direction with what its interval supports: ``2.0× faster``, ``at least 1.8× faster``."""
    sign = 1 if verdict.word == "slower" else -1
    if is_wide(verdict):
        return f"at least {at_least_text(exp(near(verdict)))} {verdict.word}"
    return f"{ratio_text(exp(sign * verdict.estimate))} {verdict.word}"


def _range(verdict: Verdict) -> str:
    return range_text(exp(-verdict.high), exp(-verdict.low))

"""What a verdict rests on, in a few words: rounds, twin, load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etp.analysis.comparison import Comparison
from etp.text import counted, significant

LOUD = 0.1
"""A twin this far from its original hides differences that people ask about."""


@dataclass(frozen=True)
class Fact:
    """One thing to know before believing.

    Attributes:
        text: In two or three words and a number.
        meaning: What it is, and what to do where it is bad.
        doubtful: Whether it is bad.
    """

    text: str
    meaning: str
    doubtful: bool = False


def trust(comparison: Comparison) -> list[Fact]:
    """What is known of a comparison's rounds; nothing where it has none.

    Examples:
        >>> from etp.analysis.comparison import comparisons
        >>> from etp.results.reference import reference_rows
        >>> facts = trust(comparisons(reference_rows())[0])
        >>> [fact.text.split()[-1] for fact in facts[:1]]
        ['rounds']
    """
    return list(_facts(comparison)) if comparison.judgement.rounds else []


def _facts(comparison: Comparison) -> Iterator[Fact]:
    judged = comparison.judgement
    few = any(verdict.word == "too few" for verdict in judged.verdicts.values())
    yield Fact(
        counted(judged.rounds, "round"),
        "In each round every product takes its turn, in random order; a ratio is taken within a "
        "round, so that what slows the machine slows both. "
        + ("Too few for some verdicts: measure more." if few else "Enough for every verdict given."
           if all(v.word != "open" for v in judged.verdicts.values())
           else "Some pairs are still open: measure more."),
        few,
    )  # fmt: skip
    if judged.floor is None and any(row.role == "twin" for row in comparison.runs):
        yield Fact("noise not known", "Too few rounds of the twin to say: measure more.", True)
    elif judged.floor is None:
        yield Fact("no twin", "The reference was not timed twice: the noise is not known.", True)
    else:
        low, high = judged.floor
        share = max(high, 1 / low) - 1
        yield Fact(
            f"twin within {significant(max(100 * share, 0.1), 2)} %",
            f"The twin is {comparison.baseline} or the reference of the run timed a second time, "
            "as if it was another product: smaller differences are noise.",
            share > LOUD,
        )
    load, cores = _load(comparison), comparison.environment().get("cores")
    if load is not None and cores:
        busy = load > cores
        yield Fact(
            f"load {load:.1f} on {counted(cores, 'core')}",
            "How many processes wanted to run, on average over a minute, the measurement among "
            "them. "
            + (
                "More than there are cores: others took turns with what was measured. Repeat it "
                "when the machine is quiet."
                if busy
                else "No more than there are cores."
            ),
            busy,
        )


def _load(comparison: Comparison) -> float | None:
    """Largest load before or after the rounds."""
    loads = [
        state["load"]
        for row in comparison.runs
        for state in (row.measured.get("state_before"), row.measured.get("state_after"))
        if state and state.get("load") is not None
    ]
    return max(loads) if loads else None

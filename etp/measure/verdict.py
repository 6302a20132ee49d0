"""Which product is faster: words from interleaved rounds, honest however often one looks.

The procedure: paired log differences inside rounds, a twin as noise floor, errors spent over looks,
Holm over all pairs shown, and words that come only from the running interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from math import erfc, inf, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etp.measure.statement import (
    GUARD,
    MARGIN,
    MIN_ROUNDS,
    Floor,
    Pair,
    Verdict,
    Word,
    ask,
    error_of_look,
    front,
    is_same,
    words,
)
from etp.measure.statistic import estimate, interval, statistic

__all__ = ["GUARD", "MARGIN", "MIN_ROUNDS", "Board", "Floor", "Verdict", "ask", "front", "words"]


class Board:
    """Verdicts on all pairs of one run; remembers its looks and its running intervals.

    Args:
        slots: Number of products, in columns ``0 .. slots - 1``.
        twin: ``(reference, slots)``: the product whose second instance is in the last column.
        pairs: The pairs that will be shown, all of them if None. To be fixed before the data.

    Raises:
        ValueError: If ``slots``, ``twin`` or ``pairs`` do not fit together.
    """

    def __init__(
        self, slots: int, twin: Pair | None = None, pairs: Sequence[Pair] | None = None
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        if twin is not None and not (0 <= twin[0] < slots == twin[1]):
            raise ValueError(
                f"twin must be (a product's column below {slots}, {slots}), got {tuple(twin)}"
            )
        shown = combinations(range(slots), 2) if pairs is None else pairs
        chosen = [(int(a), int(b)) for a, b in shown]
        for a, b in chosen:
            if a == b or not (0 <= a < slots and 0 <= b < slots):
                raise ValueError(f"pairs must join two columns below {slots}, got {(a, b)}")
        if len({frozenset(pair) for pair in chosen}) < len(chosen):
            raise ValueError(f"pairs must be different, got {chosen}")
        self.slots = slots
        self.twin: Pair | None = None if twin is None else (twin[0], twin[1])
        self.pairs: tuple[Pair, ...] = tuple(chosen)
        self.looks = 0
        self.rounds = 0
        self.guard = GUARD
        self.floor: Floor | None = None
        self.verdicts = [Verdict(a, b, 0.0, -inf, inf, "too few") for a, b in chosen]

    @property
    def columns(self) -> int:
        """Columns of the times: products, and the twin if there is one."""
        return self.slots + (self.twin is not None)

    @property
    def unreliable(self) -> bool:
        """Whether two instances of one product differ for certain: a warning about the run."""
        return self.floor is not None and self.floor.bad

    def look(self, times: ArrayLike) -> list[Verdict]:
        """Look at all rounds so far. Every call spends a share of the error, so call it on request.

        Fewer than 12 rounds give estimates only and spend nothing.

        Args:
            times: ``(rounds, columns)`` block values in seconds, twin last.

        Returns:
            A verdict for each of :attr:`pairs`, in that order.

        Raises:
            ValueError: If ``times`` has another shape, values that are no durations, or fewer
                rounds than the last look saw.
        """
        logs = np.log(self._checked(times))
        n = len(logs)
        self.rounds = n
        if not self.pairs:
            differences = np.zeros((0, n))
        else:
            differences = np.stack([logs[:, b] - logs[:, a] for a, b in self.pairs])
        error = error_of_look(self.looks) if n >= MIN_ROUNDS else 0.0
        self._measure_floor(logs, error)
        low, high = self._intervals(differences, error)
        centers = estimate(differences) if self.pairs else np.zeros(0)
        self.looks += n >= MIN_ROUNDS
        self.verdicts = [
            self._verdict(old, float(e), float(l), float(h))
            for old, e, l, h in zip(self.verdicts, centers, low, high, strict=True)
        ]
        needed = self.ask(n)
        self.verdicts = [replace(v, needed=needed.get((v.a, v.b))) for v in self.verdicts]
        return list(self.verdicts)

    def ask(self, n: int) -> dict[Pair, int | None]:
        """Rounds in total that would probably settle each open pair, after ``n`` rounds.

        Returns:
            For each pair that is open or had too few rounds; None if it is out of reach.
        """
        # Holm's step has passed the pairs with a direction: the others share the error.
        rest = max(sum(v.word not in ("faster", "slower") for v in self.verdicts), 1)
        return {
            (v.a, v.b): ask(n, v, max(self.looks - 1, 0), guard=self.guard, pairs=rest)
            for v in self.verdicts
            if v.word in ("open", "too few")
        }

    def state(self) -> dict[str, Any]:
        """Everything that the next look needs, in JSON types (an unbounded end is None)."""
        return {
            "slots": self.slots,
            "twin": None if self.twin is None else list(self.twin),
            "looks": self.looks,
            "rounds": self.rounds,
            "guard": self.guard,
            "floor": None if self.floor is None else _without_infinity(self.floor._asdict()),
            "verdicts": [_without_infinity(asdict(v)) for v in self.verdicts],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Board:
        """The board that :meth:`state` was taken from."""
        verdicts = [Verdict(**_with_infinity(v)) for v in state["verdicts"]]
        twin = None if state["twin"] is None else (state["twin"][0], state["twin"][1])
        board = cls(state["slots"], twin, [(v.a, v.b) for v in verdicts])
        board.looks, board.rounds, board.guard = state["looks"], state["rounds"], state["guard"]
        board.floor = None if state["floor"] is None else Floor(**_with_infinity(state["floor"]))
        board.verdicts = verdicts
        return board

    def _checked(self, times: ArrayLike) -> NDArray[np.float64]:
        seconds = np.asarray(times, dtype=float)
        if seconds.ndim != 2 or seconds.shape[1] != self.columns or len(seconds) < 1:
            raise ValueError(
                f"times must have shape (rounds, {self.columns}) with at least one round, "
                f"got {seconds.shape}"
            )
        if not (np.isfinite(seconds).all() and (seconds > 0).all()):
            bad = seconds[~(np.isfinite(seconds) & (seconds > 0))][0]
            raise ValueError(f"times must be positive and finite seconds, got {bad}")
        if len(seconds) < self.rounds:
            raise ValueError(
                f"times must hold all rounds so far, at least {self.rounds}, got {len(seconds)}; "
                "a new run needs a new board"
            )
        return seconds

    def _measure_floor(self, logs: NDArray[np.float64], error: float) -> None:
        """Compare the twin with its reference; no direction is claimed within its interval."""
        self.guard = GUARD
        if self.twin is None:
            return
        d = logs[:, self.twin[1]] - logs[:, self.twin[0]]
        center = float(estimate(d))
        low, high = (float(end) for end in interval(d, error)) if error else (-inf, inf)
        self.floor = Floor(center, low, high, low > GUARD or high < -GUARD)
        if isfinite(low) and isfinite(high):
            self.guard = max(GUARD, -low, high)

    def _intervals(
        self, differences: NDArray[np.float64], error: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Intervals of this look: Holm's step-down decides the error of each pair."""
        m = len(differences)
        if not error or not m:
            return np.full(m, -inf), np.full(m, inf)
        guard = np.full(m, self.guard)
        beyond = np.maximum(statistic(differences, guard), -statistic(differences, -guard))
        p = [erfc(max(t, 0.0) / sqrt(2)) for t in beyond]
        order = np.argsort(p)
        rejected = 0
        while rejected < m and p[order[rejected]] <= error / (m - rejected):
            rejected += 1
        errors = np.empty(m)
        for rank, i in enumerate(order):
            errors[i] = error / max(m - min(rank, rejected), 1)
        return interval(differences, errors)

    def _verdict(self, old: Verdict, center: float, low: float, high: float) -> Verdict:
        low, high = max(low, old.low), min(high, old.high)
        word = self._word(low, high)
        return Verdict(old.a, old.b, center, low, high, word, self.rounds)

    def _word(self, low: float, high: float) -> Word:
        if not (isfinite(low) and isfinite(high)):
            return "too few"
        if low > high:
            return "changed"
        if self.floor is not None and self.floor.bad and abs(self.floor.estimate) > MARGIN:
            return "withheld"
        if low > self.guard:
            return "slower"
        if high < -self.guard:
            return "faster"
        return "same" if is_same(low, high) else "open"


def _without_infinity(record: dict[str, Any]) -> dict[str, Any]:
    return record | {end: None for end in ("low", "high") if not isfinite(record[end])}


def _with_infinity(record: Mapping[str, Any]) -> dict[str, Any]:
    ends = {"low": -inf, "high": inf}
    return dict(record) | {end: value for end, value in ends.items() if record[end] is None}

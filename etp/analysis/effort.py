"""What cases take before they are run: from reference results, corrected by what was timed here.

A call of a product takes a constant and a part that grows with the samples and, by a power that is
fitted to the bundled results of that product, with the work per sample. Rows timed on the same
device correct this, those alike more than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from math import exp, log
from typing import Any, NamedTuple

import numpy as np

from etp.kernels.torch_compile import asked, plain_name
from etp.measure.clock import WARMUP_CALLS, WARMUP_S, block_s
from etp.problem import Problem
from etp.results.reference import layer_rows, reference_rows
from etp.results.rows import Row
from etp.run.case.case import Case
from etp.run.case.rounds import planned

TIMES = {"forward": 1.0, "backward": 3.0, "double-backward": 8.0,
         "float32": 1.0, "float64": 2.0, "bfloat16": 2.0}  # fmt: skip
"""How much longer a call takes than a forward one in float32, where nothing like it was timed."""
COLD_S = 0.03
"""Emptying the cache before a call (a rough measurement)."""
COMPILE_S = 8.0
"""``torch.compile`` of a product and its checks (a rough measurement)."""
ROOFS_S = 3.0
"""Measuring the limits of a device."""
CHECK_S, CHECK_OUTPUT_S, BUILDS = 0.04, 5e-6, 2.0
"""Checks of a product: a constant, a part for each output, and how often it is built anew (fitted
to the time stamps of the bundled results)."""
FULL_CALLS = 6
"""Calls on the whole batch that are not timed: a first one, two for memory, three for sanity."""
LIKE = 0.3
"""Weight of the reference results against a row of the very same case."""


class Effort(NamedTuple):
    """What a case takes.

    Attributes:
        seconds: All of it.
        rounds: Rounds that its budget affords.
        round_s: Seconds of a round.
    """

    seconds: float
    rounds: int
    round_s: float


class _CaseShape(NamedTuple):
    """Logarithms of the samples and of the work per sample, and what else a time depends on."""

    samples: float
    work: float
    kind: str
    direction: str
    dtype: str
    cache: str


class _FittedLine(NamedTuple):
    """Time of a call: ``least + samples * exp(scale + power * work)``."""

    least: float
    scale: float
    power: float

    def at(self, shape: _CaseShape) -> float:
        return self.least + exp(shape.samples + self.scale + self.power * shape.work)


class Efforts:
    """Estimates for one device.

    Args:
        here: Runtimes that were measured on this device.
    """

    def __init__(self, here: Iterable[Row] = ()) -> None:
        timed = [row for row in here if _is_time(row)]
        self._shapes = [shape_of(Problem.from_dict(row.problem)) for row in timed]
        self._products = [row.product for row in timed]
        self._off = np.array([
            log(row.measured["median_s"] / _usual_s(shape, row.product))
            for row, shape in zip(timed, self._shapes, strict=True)
        ])  # fmt: skip

    def call_s(self, problem: Problem, product: str) -> float:
        """Seconds of one call."""
        shape = shape_of(problem)
        usual = _usual_s(shape, product)
        if not self._products:
            return usual
        near = np.array([
            exp(-_distance(shape, other) - (other_product != product))
            for other, other_product in zip(self._shapes, self._products, strict=True)
        ])  # fmt: skip
        return usual * exp(float(near @ self._off) / (LIKE + float(near.sum())))

    def round_s(self, problem: Problem, products: Sequence[str], reference: str) -> float:
        """Seconds of one round: a block of every product and of the twin of the reference.

        Args:
            problem: What is multiplied.
            products: Names.
            reference: Name of the product that has a twin.
        """
        return sum(self._block_s(problem, product) for product in (*products, reference))

    def case(self, values: Mapping[str, Any], round_s: float | None = None) -> Effort:
        """What a case of the kind that compares takes, with rounds of a length that is known."""
        case = Case.from_dict({name: values[name] for name in values if name != "kind"})
        problem, products = case.problem, case.products
        seconds = sum(self._checks_s(case, product) for product in products)
        if not case.timed:
            return Effort(seconds, 0, 0.0)
        reference = case.reference if case.reference in products else products[0]
        if round_s is None:
            round_s = self.round_s(problem, products, reference)
        rounds = planned(case, len(products), round_s)
        for product in (*products, reference):
            call_s = self.call_s(problem, product) + _emptying(problem)
            seconds += FULL_CALLS * call_s + max(min(WARMUP_S, 4 * call_s), 2 * call_s)
            seconds += WARMUP_CALLS * min(call_s, WARMUP_S / WARMUP_CALLS)
        # One round more, the pilot, sets the plan.
        seconds += (rounds + 1) * round_s + (ROOFS_S if case.roofs else 0.0)
        return Effort(seconds, rounds, round_s)

    def _block_s(self, problem: Problem, product: str) -> float:
        call_s, emptying = self.call_s(problem, product), _emptying(problem)
        return block_s(call_s) * (1 + emptying / call_s)

    def _checks_s(self, case: Case, product: str) -> float:
        outputs = case.problem.size().outputs
        seconds = CHECK_S + CHECK_OUTPUT_S * outputs * (1 + case.elements / 16) / 2
        seconds += BUILDS * _build_s(case.problem, plain_name(product))
        return seconds + (COMPILE_S if asked(product) else 0.0)


def _emptying(problem: Problem) -> float:
    return COLD_S if problem.cache == "cold" else 0.0


def _is_time(row: Row) -> bool:
    return (
        row.measure == "runtime"
        and row.status == "ok"
        and row.role == "product"
        and row.measured.get("median_s", 0) > 0
    )


@lru_cache(2000)
def shape_of(problem: Problem) -> _CaseShape:
    """What the time of a call depends on."""
    copies = problem.copies()
    most = max(copies.values())
    if problem.kind == "power":
        size = problem.size()
        work = size.paths * size.outputs
    else:
        # Multiplications where every path is a full table, of all channels.
        work = sum(
            copies[a] * (2 * a.l + 1) * (2 * b.l + 1) * (2 * c.l + 1)
            for a, b, c in problem.triples()
        )
    return _CaseShape(
        log(problem.batch * most), log(work / most), _KINDS.get(problem.kind, problem.kind),
        problem.direction, problem.dtype, problem.cache,
    )  # fmt: skip


_KINDS = {"edge": "edges", "convolution": "edges"}
"""Kinds whose times are alike."""


def _distance(a: _CaseShape, b: _CaseShape) -> float:
    """How unlike two cases are: 1 is a factor of 30 in samples, of 10 in work, or another kind."""
    return (
        abs(a.samples - b.samples) / log(30)
        + abs(a.work - b.work) / log(10)
        + (a.kind != b.kind)
        + (a.direction != b.direction)
        + 0.7 * (a.dtype != b.dtype)
        + 0.3 * (a.cache != b.cache)
    )


def _usual_s(shape: _CaseShape, product: str) -> float:
    """Seconds of a call as the reference results have it."""
    lines, name = _lines(), plain_name(product)
    if (line := lines.get((name, shape.kind, shape.direction))) is not None:
        return line.at(shape) * TIMES[shape.dtype]
    forward = [(n, kind, line) for (n, kind, way), line in lines.items() if way == "forward"]
    # Of another kind if it must be; a power has only its name in common with a product.
    own = [(kind, line) for n, kind, line in forward if n == name and _like(kind, shape.kind)]
    if own:
        _, line = max(own, key=lambda known: known[0] == shape.kind)
        seconds = line.at(shape)
    else:
        # A product of the user's own: in the middle of those that are known.
        of_kind = [line.at(shape) for _, kind, line in forward if kind == shape.kind]
        seconds = float(np.median(of_kind))
    return seconds * TIMES[shape.direction] * TIMES[shape.dtype]


def _like(kind: str, other: str) -> bool:
    return (kind == "power") == (other == "power")


_Key = tuple[str, str, str]
"""Product, kind and direction."""


@cache
def _reference() -> dict[_Key, list[tuple[_CaseShape, Row]]]:
    runtimes: dict[_Key, list[tuple[_CaseShape, Row]]] = {}
    for row in (*reference_rows(), *layer_rows()):
        if _is_time(row):
            shape = shape_of(Problem.from_dict(row.problem))
            key = row.product, shape.kind, shape.direction
            runtimes.setdefault(key, []).append((shape, row))
    return runtimes


@cache
def _lines() -> dict[_Key, _FittedLine]:
    return {key: fitted(rows) for key, rows in _reference().items()}


def fitted(rows: Sequence[tuple[_CaseShape, Row]]) -> _FittedLine:
    """The line of a product through some of its times, each with its shape."""
    times = np.array([row.measured["median_s"] for _, row in rows])
    samples, work = (np.array([shape[n] for shape, _ in rows]) for n in (0, 1))
    least = float(times.min())
    # What is mostly overhead says little about how the work grows.
    busy = times > 4 * least
    if busy.sum() < 5:
        busy, least = np.full(len(times), True), 0.0
    columns = np.stack([np.ones(busy.sum()), work[busy]], axis=1)
    (scale, power), *_ = np.linalg.lstsq(columns, np.log(times[busy]) - samples[busy], rcond=None)
    if not 0 <= power <= 1.5:
        power = min(max(power, 0.0), 1.5)
        scale = float(np.mean(np.log(times[busy]) - samples[busy] - power * work[busy]))
    return _FittedLine(least, float(scale), float(power))


def _build_s(problem: Problem, product: str) -> float:
    """Building it and its first call, as they were for the reference case most alike."""
    shape = shape_of(problem)
    rows = [
        pair
        for (name, kind, _), known in _reference().items()
        if name == product and _like(kind, shape.kind)
        for pair in known
    ]
    if not rows:
        return 0.0
    _, row = min(rows, key=lambda pair: _distance(pair[0], shape))
    return float(row.measured["setup_s"]) + float(row.measured["first_call_s"])

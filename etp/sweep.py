"""What one case does where the measuring happens: build, check, then time in interleaved rounds.

A case is one problem and the products to compare on it. :func:`run` is a generator of rows and
progress events, so that what is done is kept whatever happens next; it runs inside a worker of
:mod:`etp.runner` or straight from the command line.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from etp.irreps import Term, parse_terms, to_text
from etp.problem import Problem

SCHEMA = 1
DEFAULT_ROUNDS = 30
DEFAULT_BUDGET_S = 4.0
MIN_ROUNDS = 12
PROGRESS_EVERY_S = 0.3
MEMORY_FACTOR = {"forward": 4, "backward": 8, "double-backward": 16}
"""Peak memory over the bytes of inputs and outputs, at most, for any product (measured)."""

Row = dict[str, Any]
Event = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One problem, the products to compare on it, and how long to look.

    Attributes:
        products: Names; the first is the reference unless ``reference`` says otherwise.
        rounds: Rounds wanted; fewer if ``budget_s`` does not allow them.
        budget_s: Seconds for the timed rounds.
        elements: Group elements of the equivariance check.
        timed: Whether runtimes are wanted besides the checks.
        memory: Whether peak memory is wanted.
    """

    problem: Problem
    products: tuple[str, ...]
    reference: str | None = None
    rounds: int = DEFAULT_ROUNDS
    budget_s: float = DEFAULT_BUDGET_S
    elements: int = 16
    timed: bool = True
    memory: bool = True

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Case:
        """Read a case as stored in a job; raises ``ValueError`` for bad values."""
        known = dict(values)
        problem = Problem.from_dict(known.pop("problem"))
        return cls(problem, tuple(known.pop("products")), **known)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"products": list(self.products)}


def needed_bytes(problem: Problem) -> int:
    """Upper estimate of the memory a case takes while it runs."""
    return MEMORY_FACTOR[problem.direction] * problem.size().bytes


def check_fits(problem: Problem) -> None:
    """Refuse a case that cannot fit into memory.

    Raises:
        ValueError: With the estimate and the mend.
    """
    from etp.environment import available_bytes

    need, have = needed_bytes(problem), available_bytes()
    if problem.device == "cpu" and have is not None and need > 0.8 * have:
        fitting = max(1, int(problem.batch * 0.8 * have / need))
        raise ValueError(
            f"batch {problem.batch} needs about {need / 1e9:.1f} GB and {have / 1e9:.1f} GB are "
            f"free on {problem.device}: use a batch of at most {fitting}, fewer channels or a "
            "smaller lmax"
        )


def build(problem: Problem, product: str, **options: Any) -> Any:
    """Build a product for a problem, on its device.

    Raises:
        ValueError: If the product is unknown, cannot run here or has no path.
    """
    from etp import products

    cls = products.get(product)
    if (reason := cls.unavailable()) is not None:
        raise ValueError(f"{product} is not available here: {reason}")

    def widened(text: str) -> str:
        return to_text(Term(problem.channels, term.ir) for term in parse_terms(text))

    tp = cls(
        widened(problem.irreps1),
        widened(problem.irreps2),
        filter_ir_out=problem.filter_out,
        **options,
    )
    return tp.to(problem.device)


def make_row(
    problem: Problem,
    product: str,
    measure: str,
    result: dict[str, Any] | None,
    *,
    status: str = "ok",
    reason: str | None = None,
    badges: Sequence[str] = (),
    group: str | None = None,
) -> Row:
    """One row as stored: see the README for its fields."""
    from etp.environment import environment

    return {
        "schema": SCHEMA,
        "id": uuid.uuid4().hex,
        "job": None,
        "group": group,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "product": product,
        "measure": measure,
        "problem": problem.as_dict(),
        "status": status,
        "reason": reason,
        "badges": list(badges),
        "result": result,
        "environment": environment(problem.device, problem.threads),
    }


def run(case: dict[str, Any], cancelled: Callable[[], bool] = lambda: False) -> Iterator[Row | Event]:
    """Measure one case.

    Args:
        case: As :meth:`Case.as_dict`.
        cancelled: Asked between samples; rows measured until then are still yielded.

    Yields:
        Rows (with a key "measure") and progress events (with a key "event").

    Raises:
        ValueError: If the case is not valid or cannot fit into memory.
    """
    import torch

    plan = Case.from_dict(case)
    check_fits(plan.problem)
    if plan.problem.threads is not None:
        torch.set_num_threads(plan.problem.threads)
    slots = _Slots(plan)
    for product in plan.products:
        if cancelled():
            yield from _unmeasured(plan, plan.products, "cancelled before it was measured")
            return
        yield {"event": "progress", "product": product, "stage": "checking"}
        yield from _checked(plan, product, slots)
    if plan.timed and slots.names:
        yield from _timed(plan, slots, cancelled)


@dataclass
class _Slots:
    """Products that passed every check, in order, ready to be timed."""

    case: Case
    names: list[str] = field(default_factory=list)
    products: list[Any] = field(default_factory=list)
    setup_s: list[float] = field(default_factory=list)
    badges: list[list[str]] = field(default_factory=list)

    @property
    def reference(self) -> int:
        """Slot of the reference product."""
        wanted = self.case.reference
        return self.names.index(wanted) if wanted in self.names else 0


def _checked(plan: Case, product: str, slots: _Slots) -> Iterator[Row]:
    """Build and check one product; only what is right may be timed."""
    import torch

    from etp import measure

    problem = plan.problem
    start = time.perf_counter()
    try:
        tp = build(problem, product)
    except ValueError as error:
        yield make_row(
            problem, product, "runtime", None,
            status="invalid", reason=str(error), badges=[_why_not(str(error))],
        )  # fmt: skip
        return
    setup_s = time.perf_counter() - start
    dtype = getattr(torch, problem.dtype)
    agreement = measure.agreement(tp, dtype=dtype, seed=problem.seed)
    yield make_row(problem, product, "agreement", _plain(agreement))
    error = measure.equivariance_error(
        tp, dtype=dtype, elements=plan.elements, seed=problem.seed
    )
    yield make_row(problem, product, "equivariance", _plain(error) | {"dtype": problem.dtype})
    expressivity = measure.expressivity(tp, seed=problem.seed)
    yield make_row(problem, product, "expressivity", _plain(expressivity))
    yield make_row(problem, product, "interactions", interaction_result(tp))
    cost = tp.cost(problem.batch, dtype.itemsize)
    yield make_row(problem, product, "cost", cost._asdict() | {"flops": cost.flops})
    if not (agreement.passed and error.passed):
        worst, gate = (
            (agreement.max, agreement.gate)
            if not agreement.passed
            else (error.max, error.gate)
        )
        yield make_row(
            problem, product, "runtime", None, status="invalid", badges=["wrong answer"],
            reason=f"relative error {worst:.1e} against the float64 oracle or under rotation is "
            f"above the gate {gate:.0e} of {problem.dtype}: it does not compute what it claims",
        )  # fmt: skip
        return
    if plan.memory:
        found = measure.peak_memory(
            tp, batch=problem.batch, dtype=dtype, device=problem.device, direction=problem.direction
        )
        yield make_row(problem, product, "memory", asdict(found))
    badges = []
    if expressivity.paths < expressivity.allowed:
        badges.append("missing paths")
    if not tp.keeps_paths:
        badges.append("sums paths")
    if tp.group != "O(3)":
        badges.append(f"{tp.group} only")
    slots.names.append(product)
    slots.products.append(tp)
    slots.setup_s.append(setup_s)
    slots.badges.append(badges)


def measure_one(problem: Problem, product: str, measure: str) -> Row:
    """Answer one question about one product; a runtime only if the product is right.

    Raises:
        ValueError: If the problem cannot fit, or the product cannot be built for it.
    """
    import torch

    from etp import measure as measures

    check_fits(problem)
    if problem.threads is not None:
        torch.set_num_threads(problem.threads)
    start = time.perf_counter()
    tp = build(problem, product)
    setup_s = time.perf_counter() - start
    dtype = getattr(torch, problem.dtype)
    if measure == "interactions":
        return make_row(problem, product, measure, interaction_result(tp))
    if measure == "expressivity":
        found: Any = measures.expressivity(tp, seed=problem.seed)
    elif measure == "equivariance":
        found = measures.equivariance_error(tp, dtype=dtype, seed=problem.seed)
    else:
        found = measures.agreement(tp, dtype=dtype, seed=problem.seed)
    if measure != "runtime":
        return make_row(problem, product, measure, _plain(found))
    if not found.passed:
        reason = f"{product} is off by {found.max:.1e} from the oracle: not timed"
        return make_row(problem, product, measure, None, status="invalid", reason=reason)
    runtime = measures.measure_runtime(
        tp, batch=problem.batch, dtype=dtype, device=problem.device,
        direction=problem.direction, cache=problem.cache, seed=problem.seed,
    )  # fmt: skip
    extra = {"setup_s": setup_s, "compile_s": None, "cache": problem.cache, "role": "product"}
    return make_row(problem, product, measure, runtime.as_result() | extra)


def interaction_result(tp: Any) -> dict[str, Any]:
    """Result of an ``interactions`` row: measured triples, by degree and by label."""
    from etp import measure

    triples = sorted(measure.interactions(tp))
    return {
        "paths": sorted({(a.l, b.l, c.l) for a, b, c in triples}),
        "triples": [[str(ir) for ir in triple] for triple in triples],
        "count": len(triples),
        "allowed": len(measure.allowed_paths(tp)),
        "keeps_paths": tp.keeps_paths,
        "outputs": tp.irreps_out.dim,
        "group": tp.group,
    }


def _timed(plan: Case, slots: _Slots, cancelled: Callable[[], bool]) -> Iterator[Row | Event]:
    """Interleaved rounds of every product and a twin of the reference."""
    import torch

    from etp.measure.clock import Round, group_size, time_rounds, warm_up
    from etp.measure.runtime import Runtime, make_call

    problem = plan.problem
    dtype = getattr(torch, problem.dtype)
    twin = build(problem, slots.names[slots.reference])
    generator = torch.Generator().manual_seed(problem.seed)
    calls = []
    for tp in [*slots.products, twin]:
        x1, x2 = tp.random_inputs(problem.batch, generator, dtype)
        x1, x2 = x1.to(problem.device), x2.to(problem.device)
        calls.append(make_call(tp, x1, x2, problem.direction, problem.cache))
    warm = [warm_up(call) for call in calls]
    groups = [group_size(w.call_s) for w in warm]
    rng = random.Random(problem.seed)
    origin = time.perf_counter()
    rounds: list[Round] = []
    planned = plan.rounds
    told = 0.0
    for number, taken in enumerate(time_rounds(calls, groups, rng, cancelled=cancelled)):
        now = time.perf_counter() - origin
        if number == 0:
            # The pilot round sets the plan and is thrown away.
            planned = max(1, min(plan.rounds, int(plan.budget_s / now)))
            continue
        rounds.append(taken)
        if now - told > PROGRESS_EVERY_S:
            told = now
            yield {"event": "progress", "stage": "timing", "round": len(rounds),
                   "rounds": planned, "product": slots.names[taken.order[-1] % len(slots.names)]}  # fmt: skip
        if len(rounds) >= planned:
            break
    if not rounds:
        yield from _unmeasured(plan, slots.names, "cancelled before the first round was complete")
        return
    group = uuid.uuid4().hex
    for slot in range(len(calls)):
        is_twin = slot == len(slots.names)
        source = slots.reference if is_twin else slot
        runtime = Runtime.of_blocks(
            [r.blocks[slot] for r in rounds],
            [r.order.index(slot) for r in rounds],
            warm[slot].first_call_s,
            origin,
        )
        badges = list(slots.badges[source])
        if len(rounds) < planned:
            badges.append("stopped early")
        result = runtime.as_result() | {
            "setup_s": slots.setup_s[source],
            "compile_s": None,
            "cache": problem.cache,
            "role": "twin" if is_twin else "product",
            "reference": slots.names[slots.reference],
        }
        yield make_row(
            problem, slots.names[source], "runtime", result, badges=badges, group=group
        )


def _unmeasured(plan: Case, products: Sequence[str], reason: str) -> Iterator[Row]:
    for product in products:
        yield make_row(plan.problem, product, "runtime", None, status="cancelled", reason=reason)


def _why_not(message: str) -> str:
    if "not available" in message:
        return "unavailable"
    return "empty output" if "path" in message else "does not apply"


def _plain(result: Any) -> dict[str, Any]:
    """A measure's dataclass as the result of a row, keys as text."""
    values = asdict(result)
    if "per_degree" in values:
        values["per_degree"] = {str(l): value for l, value in values["per_degree"].items()}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

"""Interleaved rounds of every product of a case and a twin of the reference."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from etp.problem import Problem
from etp.results.rows import Row
from etp.run.case.case import Case, build
from etp.run.case.questions import make_row

if TYPE_CHECKING:
    from torch import Tensor

    from etp.measure.clock import Call, Round, WarmUp
    from etp.product.base import TensorProduct

PROGRESS_EVERY_S = 0.3
OVERDRAFT = 3.0
SEEN = 64
"""Rows on which a call is compared with the one that was checked, before it is timed."""
Event = dict[str, Any]


class Start(NamedTuple):
    """What a product takes once, in seconds.

    Attributes:
        setup_s: Building it.
        first_call_s: Its first call, with plans and page faults, without compilers.
        compile_s: What making everything compiled that it uses took, now or earlier.
        compiled: Seconds of each such thing, by name.
    """

    setup_s: float
    first_call_s: float
    compile_s: float
    compiled: dict[str, float]


@dataclass
class Slot:
    """A product that passed every check, and what to say about it."""

    name: str
    product: TensorProduct
    start: Start
    badges: list[str] = field(default_factory=list)
    role: str = "product"


def timed(
    case: Case, slots: Sequence[Slot], cancelled: Callable[[], bool]
) -> Iterator[Row | Event]:
    """Time every slot and a twin of the reference; a row for each, of one group.

    Args:
        case: The case.
        slots: Products that are right.
        cancelled: Asked between samples.
    """
    reference = next((slot for slot in slots if slot.name == case.reference), slots[0])
    twin = Slot(
        reference.name, build(case.problem, reference.name),
        reference.start, list(reference.badges), role="twin",
    )  # fmt: skip
    ready: list[tuple[Slot, _Prepared]] = []
    for slot in [*slots, twin]:
        prepared = _prepared(case, slot)
        if prepared.reason is None:
            ready.append((slot, prepared))
            continue
        yield make_row(
            case.problem, slot.name, "runtime", None,
            status="invalid", reason=prepared.reason, badges=["wrong answer"],
        )  # fmt: skip
    run = _TimedRounds(case, [prepared.call for _, prepared in ready])
    for number in run.rounds(cancelled):
        name = ready[run.taken[-1].order[-1]][0].name
        yield {"event": "progress", "stage": "timing", "product": name,
               "round": number, "rounds": run.planned}  # fmt: skip
    if not run.taken:
        names = [slot.name for slot, _ in ready if slot.role == "product"]
        yield from unmeasured(case, names, "cancelled before the first round was complete")
        return
    group = case.group or uuid.uuid4().hex
    from etp.measure.timed import as_timed

    for number, (slot, prepared) in enumerate(ready):
        early = ["stopped early"] if len(run.taken) < run.planned else []
        result = (
            run.result(number)
            | slot.start._asdict()
            | {
                "empty_s": prepared.empty_s,
                "cache": case.problem.cache,
                "role": slot.role,
                "own_layout": as_timed(slot.product).own_layout,
                "reference": reference.name,
                "look": case.look,
            }
        )
        yield make_row(
            case.problem, slot.name, "runtime", result, badges=slot.badges + early, group=group
        )


def unmeasured(case: Case, products: Sequence[str], reason: str) -> Iterator[Row]:
    """Rows of products that were not reached.

    Args:
        case: The case.
        products: Their names.
        reason: Why, in words.
    """
    for product in products:
        yield make_row(case.problem, product, "runtime", None, status="cancelled", reason=reason)


def lost(
    case: Case, products: Sequence[str], error: RuntimeError, measure: str = "runtime"
) -> Iterator[Row]:
    """Rows of products whose device gave up while they were timed.

    Args:
        case: The case.
        products: Their names.
        error: What the device said.
        measure: What was measured: ``"runtime"``, or ``"roofline"`` of the device itself.
    """
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    reason = f"{case.problem.device} failed while it was timed: {said}"
    for product in products:
        yield make_row(case.problem, product, measure, None, status="failed", reason=reason)


def inputs(problem: Problem, tp: TensorProduct) -> tuple[Tensor, Tensor, Tensor | None]:
    """Random inputs and weights of a problem, on its device."""
    import torch

    from etp.measure.runtime import draw

    dtype = getattr(torch, problem.dtype)
    return draw(tp, problem.batch, dtype, problem.device, problem.weights, problem.seed)


class _Prepared(NamedTuple):
    """What is timed of a product.

    Attributes:
        call: The call.
        reason: Why it must not be timed; None if it may.
        empty_s: What it takes without its work; None on a GPU, where the share of handing over says
            that better.
    """

    call: Call
    reason: str | None
    empty_s: float | None


def _prepared(case: Case, slot: Slot) -> _Prepared:
    """Draw the inputs once, and see what the product makes of the very inputs that are timed."""
    import torch

    from etp.measure.empty import empty_call_s
    from etp.measure.runtime import make_call
    from etp.measure.timed import as_timed

    problem, tp = case.problem, slot.product
    x1, x2, weights = inputs(problem, tp)
    call = make_call(tp, x1, x2, problem.direction, problem.cache, weights)
    few, seen = slice(SEEN), weights
    if weights is not None and problem.weights == "per-sample":
        seen = weights[few]
    reason = _insane(tp, x1[few], x2[few], seen)
    if reason is not None or problem.device != "cpu":
        return _Prepared(call, reason, None)
    with torch.no_grad():
        given = as_timed(tp).inputs(x1, x2, weights)
    shape = torch.Size((len(x1), tp.irreps_out.dim))
    return _Prepared(call, None, empty_call_s(given, shape, problem.direction))


def _insane(tp: TensorProduct, x1: Tensor, x2: Tensor, weights: Tensor | None) -> str | None:
    """Why the output on these inputs is not what it should be; None if it is."""
    import torch

    from etp.measure.oracle import GATES, gate, relative
    from etp.measure.timed import as_timed

    with torch.no_grad():
        wanted = tp(x1, x2, weights)
        work = as_timed(tp)
        z = work.output(work.call(*work.inputs(x1, x2, weights)))
    if z.device != x1.device:
        return f"its output is on {z.device}, asked for was {x1.device}"
    if z.numel() == 0 or not bool(torch.isfinite(z).all()):
        return "its output is empty or not finite on the inputs to be timed"
    if not bool(z.any()):
        return "its output is zero on the inputs to be timed"
    if (error := relative((z - wanted).double(), wanted.double())) > gate(z.dtype, z.device, GATES):
        return f"the timed call differs from the one that was checked, by {error:.1e}"
    return None


def planned(case: Case, products: int, round_s: float) -> int:
    """Rounds that the budget allows; enough for a verdict if it is overdrawn only a little.

    Args:
        case: The case.
        products: How many are timed.
        round_s: Seconds of a round.
    """
    from etp.measure.statement import fewest_rounds

    fitting, fewest = int(case.budget_s / round_s), fewest_rounds(products)
    if fitting < fewest and fewest * round_s <= OVERDRAFT * case.budget_s:
        fitting = fewest
    return max(1, min(case.rounds, fitting))


class _TimedRounds:
    """Rounds of several calls within a budget."""

    def __init__(self, case: Case, calls: Sequence[Call]) -> None:
        from etp.measure.card import device_state
        from etp.measure.clock import group_size, warm_up

        self._case, self._calls = case, calls
        self._warm: list[WarmUp] = [warm_up(call) for call in calls]
        self._groups = [group_size(warm.call_s) for warm in self._warm]
        self._before = self._after = device_state(case.problem.device)
        self._origin = time.perf_counter()
        self.planned = case.rounds
        self.taken: list[Round] = []

    def rounds(self, cancelled: Callable[[], bool]) -> Iterator[int]:
        """Time the rounds; now and then say how many are done."""
        from etp.measure.card import device_state
        from etp.measure.clock import time_rounds

        # A new order for each look, the same one for the same look.
        rng = random.Random(f"{self._case.problem.seed}-{self._case.look}")
        told = 0.0
        rounds = time_rounds(self._calls, self._groups, rng, cancelled=cancelled)
        for number, taken in enumerate(rounds):
            now = time.perf_counter() - self._origin
            if number == 0:
                # The pilot round sets the plan and is thrown away.
                self.planned = planned(self._case, len(self._calls) - 1, now)
                continue
            self.taken.append(taken)
            if now - told > PROGRESS_EVERY_S:
                told = now
                yield len(self.taken)
            if len(self.taken) >= self.planned:
                break
        self._after = device_state(self._case.problem.device)

    def result(self, slot: int) -> dict[str, Any]:
        """Runtime of one slot."""
        from etp.measure.runtime import Runtime

        return Runtime.of_blocks(
            [taken.blocks[slot] for taken in self.taken],
            [taken.order.index(slot) for taken in self.taken],
            self._warm[slot].first_call_s,
            self._origin,
        ).as_result() | {
            "state_before": self._before.as_dict(),
            "state_after": self._after.as_dict(),
        }

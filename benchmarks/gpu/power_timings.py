"""Powers of part three: paired timings of every power, and of MACE's contraction by its peers."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.gpu import plan
from benchmarks.gpu.plan import FREE, Turn
from benchmarks.gpu.steps import Step
from etp import powers
from etp.interop.mace import SymmetricContraction
from etp.irreps import widened
from etp.measure.card import card
from etp.measure.clock import Call, group_size, time_rounds, warm_up
from etp.measure.oracle import GATES, gate, relative
from etp.measure.runtime import DIRECTIONS, Runtime, device_sync
from etp.problem import Direction, Problem
from etp.results.rows import Row
from etp.run.case.questions import make_row

ORDER, ELEMENTS, CHECKED = 3, 10, 8
"""Factors, elements, and nodes of the check before anything is timed."""
DEGREES, CHANNELS, ROUNDS = (1, 2, 3), (128, 64), 30
PEERS = ("mace-torch", "cuequivariance")
REFERENCE = "cg"


@dataclass(frozen=True)
class Contestant:
    """A power as it is called.

    Attributes:
        call: Takes features (nodes, channels, components) and weights.
        weights: Of all elements, drawn.
        wanted: The same in float64 on the CPU; None where nothing else has its weights.
    """

    call: Callable[..., Tensor]
    weights: tuple[Tensor, ...]
    wanted: Callable[..., Tensor] | None


def steps(device: str, nodes: int, seconds: float) -> Iterator[Step]:
    """Powers of MACE's features to scalars and vectors, in every derivative.

    Args:
        device: Where.
        nodes: Of a call.
        seconds: Of the rounds of each problem.
    """
    for lmax in DEGREES:
        for channels in CHANNELS:
            for direction in DIRECTIONS:
                problem = _problem(lmax, channels, nodes, device, direction)
                label = f"powers {lmax} {channels} {direction} {nodes}"
                timed = partial(_timed, problem, seconds)
                yield Step(label, problem, f"power {REFERENCE}", "runtime", timed, planned=True)


def _problem(lmax: int, channels: int, nodes: int, device: str, direction: Direction) -> Problem:
    irreps = "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    # A power is no product of two inputs: the row says of what and to what, its role the rest.
    return Problem.of_irreps(
        irreps, irreps, filter_out="0e+1o", batch=nodes, device=device, direction=direction
    )


def _timed(problem: Problem, seconds: float, turn: Turn = FREE) -> Iterator[Row]:
    """Rows of every power that there is time for; of the others why not."""
    names = (*powers.own(), *PEERS)
    left = plan.lost(names, turn)
    contestants: dict[str, Contestant] = {}
    pilots: dict[str, plan.Pilot] = {}
    for name in sorted(names, key=lambda name: name != REFERENCE):
        if name in left:
            continue
        turn.trying(name)
        try:
            contestants[name] = _contestant(name, problem)
            error = _error(contestants[name], problem)
            if error > (limit := gate(torch.float32, torch.device(problem.device), GATES)):
                raise RuntimeError(f"off by {error:.1e}, above {limit:.0e}: not timed")
            pilots[name] = plan.piloted(
                partial(_piloted, contestants[name], problem), problem.batch
            )
        except Exception as error:  # Whatever a power, a peer or a driver raises.
            yield _failed(problem, name, f"{type(error).__name__}: {error}".splitlines()[0][:300])
    if pilots:
        chosen = plan.planned(pilots, problem.batch, turn.seconds, REFERENCE)
        left |= chosen.left
        yield from _compared(
            problem.at(batch=chosen.size), {name: contestants[name] for name in chosen.names},
            min(seconds, plan.OF_ROUNDS * turn.seconds), turn,
        )  # fmt: skip
    for name, reason in left.items():
        yield make_row(problem, f"power {name}", "runtime", None,
                       status="cancelled", reason=reason)  # fmt: skip


def _compared(
    problem: Problem, contestants: dict[str, Contestant], seconds: float, turn: Turn
) -> Iterator[Row]:
    calls: dict[str, Call] = {}
    for name, contestant in contestants.items():
        turn.trying(name)
        try:
            call = _call(contestant, problem)
            call.run()
            calls[name] = call
        except Exception as error:  # As above: a larger call may need more memory than there is.
            yield _failed(problem, name, f"{type(error).__name__}: {error}".splitlines()[0][:300])
    if not calls:
        return
    warm = [warm_up(call) for call in calls.values()]
    begun, taken = time.perf_counter(), []
    for one_round in islice(
        time_rounds(list(calls.values()), [group_size(w.call_s) for w in warm], random.Random(0)),
        ROUNDS,
    ):
        taken.append(one_round)
        if time.perf_counter() - begun > seconds:
            break
    for slot, name in enumerate(calls):
        order = [one_round.order.index(slot) for one_round in taken]
        blocks = [one_round.blocks[slot] for one_round in taken]
        result = Runtime.of_blocks(blocks, order, warm[slot].first_call_s, begun).as_result()
        extra = {"role": "power", "cache": "warm", "degree": ORDER, "reference": REFERENCE}
        badges = ["unchecked"] if name == "cuequivariance" else []
        yield make_row(problem, f"power {name}", "runtime", result | extra, badges=badges)


def _piloted(contestant: Contestant, problem: Problem, size: int) -> Callable[[], object]:
    """A call on so many nodes, which waits until the device has finished."""
    call = _call(contestant, problem.at(batch=size))

    def run() -> None:
        call.run()
        call.sync()

    return run


def _contestant(name: str, problem: Problem) -> Contestant:
    """Make a power; an error that is raised says why it takes no part."""
    channels = problem.channels
    kept = widened(str(problem.filter_out), channels)
    irreps = widened(problem.irreps1, channels)
    generator = torch.Generator().manual_seed(1)
    if name not in PEERS:
        own: Any = powers.get(name)(irreps, order=ORDER, irreps_out=kept)
        there = copy.deepcopy(own).to(problem.device)
        weights = torch.randn(ELEMENTS, own.weight_numel, generator=generator)
        return Contestant(
            lambda x, w, elements: there(x, w, elements), (weights.to(problem.device),),
            lambda x, w, elements: own(x, w, elements),
        )  # fmt: skip
    if name == "mace-torch":
        from mace.modules.symmetric_contraction import SymmetricContraction as Theirs

        with torch.random.fork_rng():
            torch.manual_seed(1)
            theirs = Theirs(o3.Irreps(irreps), o3.Irreps(kept), ORDER, num_elements=ELEMENTS)
        right = SymmetricContraction(copy.deepcopy(theirs).double())
        return _of_module(theirs.to(problem.device), _one_hot, right)
    import cuequivariance as cue
    import cuequivariance_torch as cuet

    made = cuet.SymmetricContraction(
        cue.Irreps("O3", irreps), cue.Irreps("O3", kept), ORDER, ELEMENTS, layout_in=cue.ir_mul,
        layout_out=cue.mul_ir, original_mace=True, dtype=torch.float32, math_dtype=torch.float32,
    )  # fmt: skip
    return _of_module(made.to(problem.device), _component_first)


def _of_module(
    module: nn.Module, given: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    right: nn.Module | None = None,
) -> Contestant:  # fmt: skip
    """A module that holds its weights: they are given to it as arguments."""
    named = dict(module.named_parameters())

    def called(own: nn.Module, x: Tensor, *weights: Tensor, elements: Tensor) -> Tensor:
        replaced = dict(zip(named, weights, strict=True))
        z: Tensor = functional_call(own, replaced, given(x, elements))
        return z

    weights = tuple(w.detach() for w in named.values())
    wanted = None if right is None else partial(called, right)
    return Contestant(partial(called, module), weights, wanted)


def _one_hot(x: Tensor, elements: Tensor) -> tuple[Tensor, Tensor]:
    return x, nn.functional.one_hot(elements, ELEMENTS).to(x.dtype)


def _component_first(x: Tensor, elements: Tensor) -> tuple[Tensor, Tensor]:
    return x.mT.flatten(1), elements.int()


def _failed(problem: Problem, name: str, reason: str) -> Row:
    absent = reason.startswith(("ModuleNotFoundError", "ImportError"))
    return make_row(problem, f"power {name}", "runtime", None,
                    status="cancelled" if absent else "failed", reason=reason)  # fmt: skip


def _features(problem: Problem, nodes: int) -> tuple[Tensor, Tensor]:
    """Features of nodes and their elements, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    components = (int(problem.lmax or 0) + 1) ** 2
    x = torch.randn(nodes, problem.channels, components, generator=generator)
    return x, torch.randint(ELEMENTS, (nodes,), generator=generator)


def _error(contestant: Contestant, problem: Problem) -> float:
    if contestant.wanted is None:
        return 0.0
    x, elements = _features(problem, CHECKED)
    with torch.no_grad():
        there = [t.to(problem.device) for t in (x, elements)]
        z = contestant.call(there[0], *contestant.weights, elements=there[1]).cpu().double()
        right = contestant.wanted(x.double(), *(w.cpu().double() for w in contestant.weights),
                             elements=elements)  # fmt: skip
    return relative(z - right, right)


def _call(contestant: Contestant, problem: Problem) -> Call:
    x, elements = (t.to(problem.device) for t in _features(problem, problem.batch))
    run = DIRECTIONS[problem.direction](
        partial(contestant.call, elements=elements), (x, *contestant.weights)
    )
    queue = card(problem.device)
    event = None if queue is None else queue.event
    return Call(run, device_sync(torch.device(problem.device)), None, event)

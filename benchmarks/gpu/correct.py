"""Part one: is every product right on the card, in every kind, number type and derivative?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.steps import Step, once_under
from etp import powers, products
from etp.measure.drawing import random_inputs, random_weights
from etp.measure.oracle import GATES, Agreement, evaluate, gate, relative
from etp.measure.runtime import draw, make_call
from etp.problem import Direction, DType, Kind, Problem, Weights
from etp.results.rows import Row
from etp.run import case as cases
from etp.run.case.questions import make_row, plain

DTYPES: tuple[DType, ...] = ("float64", "float32", "bfloat16")
EXACT = DTYPES[:2]
DERIVATIVES: dict[Direction, int] = {"backward": 1, "double-backward": 2}
THIRD = 3
"""The order of derivatives of a loss of forces by what the forces depend on, once more."""
BATCH, ORDER = 24, 3
"""Samples, and factors of a power."""
LOOSER = {"float64": 10, "float32": 10, "bfloat16": 2}
"""How much larger an error a derivative may have than the product."""
SHAPES: dict[Kind, tuple[str, str]] = {
    "pair": ("32x0e+32x1o+32x2e", "32x0e+32x1o+32x2e"),
    "edge": ("32x0e+16x1o+8x1e", "0e+1o+2e"),
    "convolution": ("32x0e+16x1o+8x1e", "0e+1o+2e"),
}
SMALL: dict[Kind, tuple[str, str]] = {
    "pair": ("8x0e+8x1o", "8x0e+8x1o"),
    "edge": ("8x0e+4x1o", "0e+1o"),
    "convolution": ("8x0e+4x1o", "0e+1o"),
}


def steps(device: str) -> Iterator[Step]:
    """Agreement and equivariance of every product in every kind and type, then derivatives."""
    for name in products.available():
        for kind in products.get(name).kinds:
            for dtype in DTYPES:
                problem = _problem(kind, device, dtype)
                label = f"correct {name} {kind} {dtype}"
                yield Step(label, problem, name, "agreement", partial(_asked, problem, name))
    for dtype in DTYPES:
        for name in powers.own():
            problem = _problem("pair", device, dtype)
            yield Step(f"correct power {name} {dtype}", problem, f"power {name}", "agreement",
                       partial(_powered, problem, name))  # fmt: skip
        for name in products.available():
            for kind in products.get(name).kinds:
                for direction, order in DERIVATIVES.items():
                    problem = _problem(kind, device, dtype, direction)
                    label = f"correct {name} {kind} {direction} {dtype}"
                    derived = partial(_derived, problem, name, order)
                    yield Step(label, problem, name, "agreement", derived)
    yield from _thirds(device)
    if device != "cpu":
        problem = _problem("pair", device, "float32")
        yield Step("correct memory checker", problem, "device", "agreement",
                   partial(_sanitized, problem))  # fmt: skip


def _thirds(device: str) -> Iterator[Step]:
    """Third derivatives, of few irreps: their kernels take long to compile."""
    for dtype in EXACT:
        for name in products.available():
            for kind in products.get(name).kinds:
                problem = _problem(kind, device, dtype, "double-backward", SMALL)
                derived = partial(_derived, problem, name, THIRD)
                label = f"correct {name} {kind} third derivatives {dtype}"
                yield Step(label, problem, name, "agreement", derived)


def _problem(
    kind: Kind,
    device: str,
    dtype: DType,
    direction: Direction = "forward",
    shapes: Mapping[Kind, tuple[str, str]] = SHAPES,
) -> Problem:
    return Problem.of_irreps(
        *shapes[kind], kind=kind, device=device, dtype=dtype, direction=direction, batch=BATCH,
        neighbours=4,
    )  # fmt: skip


def _asked(problem: Problem, name: str) -> Iterator[Row]:
    case = cases.Case(
        problem, (name,), elements=4, questions=("agreement", "equivariance"), timed=False,
        memory=False,
    )  # fmt: skip
    for row in cases.run(case.as_dict()):
        if isinstance(row, Row):
            yield _judged(row, problem)


def _judged(row: Row, problem: Problem) -> Row:
    """A row of a check that was not passed is invalid, unless the product claims no more."""
    result = row.measured
    if not result or result["max"] <= result["gate"]:
        return row
    if row.product in products.available() and products.get(row.product).approximate:
        return replace(row, badges=(*dict.fromkeys((*row.badges, "approximate")),))
    reason = f"its error is {result['max']:.1e}, above {result['gate']:.0e} of {problem.dtype}"
    return replace(row, status="invalid", reason=f"{row.measure}: {reason}", result=None)


Function = Callable[..., Tensor]


def called(
    function: Function, bilinear: bool, fixed: Tensor, first: Tensor, *rest: Tensor
) -> Tensor:
    """A product of what is free; its second input stays as it is unless it is ``bilinear``."""
    return function(first, *rest) if bilinear else function(first, fixed, *rest)


def derivatives(
    function: Function,
    inputs: Sequence[Tensor],
    highest: int,
    rounded: torch.dtype | None = None,
) -> Iterator[list[Tensor]]:
    """A function's value, then its derivatives order by order, along directions that are drawn.

    Those of order n + 1 are by the inputs and by all directions so far.

    Args:
        function: Of the inputs.
        inputs: What it is called on.
        highest: Order of the last.
        rounded: Number type that directions are representable in; that of the inputs where None.
    """
    generator = torch.Generator().manual_seed(1)

    def direction(of: Tensor) -> Tensor:
        drawn = torch.randn(of.shape, generator=generator).to(rounded or of.dtype)
        return drawn.to(of).requires_grad_()

    free = [x.detach().clone().requires_grad_() for x in inputs]
    found = [function(*free)]
    yield found
    for _ in range(highest):
        along = [direction(of) for of in found]
        # Of the third order some are zero: what is linear in an input is not bent by it.
        found = list(torch.autograd.grad(
            found, free, along, create_graph=True, materialize_grads=True
        ))  # fmt: skip
        free += along
        yield found


def _derived(problem: Problem, name: str, order: int) -> Iterator[Row]:
    """Gradients on the card beside those of the oracle, which is differentiable too."""
    tp = cases.build(problem, name)
    generator = torch.Generator().manual_seed(0)
    x, y = random_inputs(tp, BATCH, generator)
    free = random_weights(tp, "shared", BATCH, generator) if tp.per_edge.weight_numel else None
    # An input that is made from directions is not free: the oracle knows nothing of directions.
    inputs = [x, *([y] if tp.per_edge.bilinear else []), *([] if free is None else [free])]
    dtype = getattr(torch, problem.dtype)
    inputs = [t.to(dtype).double() for t in inputs]
    device, bilinear = torch.device(problem.device), tp.per_edge.bilinear
    own = partial(called, tp, bilinear, y.to(device, dtype))
    oracle = partial(called, partial(evaluate, tp), bilinear, y)
    got = [*derivatives(own, [t.to(device, dtype) for t in inputs], order)][order]
    wanted = [*derivatives(oracle, inputs, order, dtype)][order]
    yield _compared(problem, name, got, wanted)


def _compared(problem: Problem, name: str, got: list[Tensor], wanted: list[Tensor]) -> Row:
    """A row of the errors of several tensors, the worst first."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(got, wanted, strict=True)]
    errors = [relative(a.cpu().double() - b, b) for a, b in pairs if b.any()]
    allowed = gate(getattr(torch, problem.dtype), torch.device(problem.device), GATES)
    worst = Agreement(max(errors), median(errors), {}, LOOSER[problem.dtype] * allowed)
    return _judged(make_row(problem, name, "agreement", plain(worst)), problem)


def _powered(problem: Problem, name: str) -> Iterator[Row]:
    """A power with its derivatives to the third order, beside those on the CPU in float64."""
    irreps, dtype = problem.irreps1, getattr(torch, problem.dtype)
    tp: Any = powers.get(name)(irreps, order=ORDER, irreps_out=irreps)
    generator = torch.Generator().manual_seed(0)
    sizes = (BATCH, tp.irreps_in.dim), (3, tp.weight_numel)
    inputs = [torch.randn(size, generator=generator).to(dtype) for size in sizes]
    elements = torch.randint(3, (BATCH,), generator=generator)

    def results(device: torch.device, own: torch.dtype) -> list[Tensor]:
        function = partial(_of_elements, tp.to(device), elements.to(device))
        orders = derivatives(function, [t.to(device, own) for t in inputs], THIRD, dtype)
        return [t for order in orders for t in order]

    wanted = results(torch.device("cpu"), torch.float64)
    got = results(torch.device(problem.device), dtype)
    yield _compared(problem, f"power {name}", got, wanted)


def _of_elements(power: Any, elements: Tensor, a: Tensor, weights: Tensor) -> Tensor:
    z: Tensor = power(a, weights, elements)
    return z


def _sanitized(problem: Problem) -> Iterator[Row]:
    """Every product once more under the driver's memory checker, where there is one."""
    if shutil.which("compute-sanitizer") is None:
        reason = "compute-sanitizer is not on the PATH: it comes with the CUDA toolkit"
        yield make_row(problem, "device", "agreement", None, status="cancelled", reason=reason)
        return
    for name in products.available():
        done = once_under(["compute-sanitizer", "--error-exitcode", "1"], problem.device, name)
        if done.returncode:
            said = [line for line in done.stdout.splitlines() if "=========" in line]
            reason = f"compute-sanitizer: {said[1] if len(said) > 1 else done.stderr[-200:]}"
            yield make_row(problem, name, "agreement", None, status="failed", reason=reason)


def once(device: str, name: str) -> None:
    """One call in each kind with all its gradients, for a checker or a profiler to look at."""
    for kind in products.get(name).kinds:
        problem = _problem(kind, device, "float32", "double-backward")
        tp = cases.build(problem, name)
        weights: Weights = "shared" if tp.per_edge.weight_numel else "none"
        x1, x2, free = draw(tp, BATCH, torch.float32, device, weights, 0)
        call = make_call(tp, x1, x2, problem.direction, weights=free)
        call.run()
        call.sync()

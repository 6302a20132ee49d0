"""Part one: is every product right on the card, in every kind, number type and derivative?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
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
DERIVATIVES: tuple[Direction, ...] = ("backward", "double-backward")
BATCH, ORDER = 24, 3
"""Samples, and factors of a power."""
LOOSER = {"float64": 10, "float32": 10, "bfloat16": 2}
"""How much larger an error a derivative may have than the product."""
SHAPES: dict[Kind, tuple[str, str]] = {
    "pair": ("32x0e+32x1o+32x2e", "32x0e+32x1o+32x2e"),
    "edge": ("32x0e+16x1o+8x1e", "0e+1o+2e"),
    "convolution": ("32x0e+16x1o+8x1e", "0e+1o+2e"),
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
                for direction in DERIVATIVES:
                    problem = _problem(kind, device, dtype, direction)
                    label = f"correct {name} {kind} {direction} {dtype}"
                    yield Step(label, problem, name, "agreement", partial(_derived, problem, name))
    if device != "cpu":
        problem = _problem("pair", device, "float32")
        yield Step("correct memory checker", problem, "device", "agreement",
                   partial(_sanitized, problem))  # fmt: skip


def _problem(kind: Kind, device: str, dtype: DType, direction: Direction = "forward") -> Problem:
    return Problem.of_irreps(
        *SHAPES[kind], kind=kind, device=device, dtype=dtype, direction=direction, batch=BATCH,
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


def _derived(problem: Problem, name: str) -> Iterator[Row]:
    """Gradients on the card beside those of the oracle, which is differentiable too."""
    tp = cases.build(problem, name)
    generator = torch.Generator().manual_seed(0)
    x, y = random_inputs(tp, BATCH, generator)
    free = random_weights(tp, "shared", BATCH, generator) if tp.per_edge.weight_numel else None
    # An input that is made from directions is not free: the oracle knows nothing of directions.
    inputs = [x, *([y] if tp.per_edge.bilinear else []), *([] if free is None else [free])]
    dtype = getattr(torch, problem.dtype)
    inputs = [t.to(dtype).double() for t in inputs]

    def called(function: Function, fixed: Tensor, *given: Tensor) -> Tensor:
        rest = list(given)
        first = rest.pop(0)
        second = rest.pop(0) if tp.per_edge.bilinear else fixed
        return function(first, second, *rest)

    z = evaluate(tp, x, y, free)
    shapes = [z, *inputs]
    along = [torch.randn(t.shape, generator=generator).to(dtype).double() for t in shapes]
    twice, device = problem.direction == "double-backward", torch.device(problem.device)
    wanted = _gradients(partial(called, partial(evaluate, tp), y), inputs, along, twice)
    there, there_along = ([t.to(device, dtype) for t in tensors] for tensors in (inputs, along))
    got = _gradients(partial(called, tp, y.to(device, dtype)), there, there_along, twice)
    yield _compared(problem, name, got, wanted)


def _compared(problem: Problem, name: str, got: list[Tensor], wanted: list[Tensor]) -> Row:
    """A row of the errors of several tensors, the worst first."""
    pairs = zip(got, wanted, strict=True)
    errors = [relative(a.cpu().double() - b, b) for a, b in pairs if b.any()]
    allowed = gate(getattr(torch, problem.dtype), torch.device(problem.device), GATES)
    worst = Agreement(max(errors), median(errors), {}, LOOSER[problem.dtype] * allowed)
    return _judged(make_row(problem, name, "agreement", plain(worst)), problem)


def _powered(problem: Problem, name: str) -> Iterator[Row]:
    """A power with its derivatives of both orders, beside those on the CPU in float64."""
    irreps, dtype = problem.irreps1, getattr(torch, problem.dtype)
    tp: Any = powers.get(name)(irreps, order=ORDER, irreps_out=irreps)
    generator = torch.Generator().manual_seed(0)
    sizes = (BATCH, tp.irreps_in.dim), (3, tp.weight_numel)
    inputs = [torch.randn(size, generator=generator).to(dtype) for size in sizes]
    elements = torch.randint(3, (BATCH,), generator=generator)
    shapes = (BATCH, tp.irreps_out.dim), *sizes
    along = [torch.randn(size, generator=generator).to(dtype) for size in shapes]

    def results(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        there = tp.to(device)
        own, own_along = ([t.to(device, dtype) for t in tensors] for tensors in (inputs, along))
        function = partial(_of_elements, there, elements.to(device))
        return [function(*own), *_gradients(function, own, own_along, False),
                *_gradients(function, own, own_along, True)]  # fmt: skip

    wanted = results(torch.device("cpu"), torch.float64)
    got = results(torch.device(problem.device), dtype)
    yield _compared(problem, f"power {name}", got, wanted)


def _of_elements(power: Any, elements: Tensor, a: Tensor, weights: Tensor) -> Tensor:
    z: Tensor = power(a, weights, elements)
    return z


def _gradients(
    function: Function, inputs: list[Tensor], along: list[Tensor], twice: bool
) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    grad = along[0].clone().requires_grad_(twice)
    first = torch.autograd.grad(function(*leaves), leaves, grad, create_graph=twice)
    if not twice:
        return list(first)
    return list(torch.autograd.grad(first, [*leaves, grad], along[1:]))


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

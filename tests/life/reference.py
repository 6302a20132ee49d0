"""What is asked of a product in every program, and the answer by finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from etp import products
from etp.measure.drawing import random_inputs, random_weights
from etp.product.base import TensorProduct

IRREPS = "2x0e+2x1o"
BATCH = 3
STEP = 3e-3
TOLERANCE = 1e-7
"""Of the finite differences, of fourth order in the step; analytic answers are at 1e-15."""
NAMES = ("x1", "x2", "weights")
Answers = Mapping[str, Tensor]


class Question(NamedTuple):
    """A product with inputs, and directions for derivatives.

    Attributes:
        product: In float64.
        inputs: x1, x2 and perhaps weights.
        seed: Of the directions.
    """

    product: TensorProduct
    inputs: tuple[Tensor, ...]
    seed: int = 7

    def fresh(self) -> tuple[Tensor, ...]:
        """Copies of the inputs that want gradients."""
        return tuple(x.detach().clone().requires_grad_() for x in self.inputs)

    def tangents(self) -> tuple[Tensor, ...]:
        """A direction for each input."""
        return tuple(_direction(x.shape, self.seed + n) for n, x in enumerate(self.inputs))

    def energy(self, *inputs: Tensor) -> Tensor:
        """A number made of the product's output."""
        return (self.product(*inputs) * self.weight()).sum()

    def weight(self) -> Tensor:
        """What the energy multiplies the output with."""
        shape = (self.inputs[0].shape[0], self.product.irreps_out.dim)
        return _direction(shape, self.seed - 1)


def ask(name: str, weights: str = "none", batch: int = BATCH, seed: int = 0) -> Question:
    """A small question to a product, of features with two channels and both kinds of paths."""
    product = products.get(name)(IRREPS, IRREPS, filter_ir_out="0e+1o+1e").to(torch.float64)
    return again(product, weights, batch, seed)


def again(
    product: TensorProduct, weights: str = "none", batch: int = BATCH, seed: int = 0
) -> Question:
    """Another question to the same product."""
    generator = torch.Generator().manual_seed(seed)
    inputs = random_inputs(product, batch, generator)
    free = random_weights(product, weights, batch, generator)  # type: ignore[arg-type]
    return Question(product, inputs if free is None else (*inputs, free))


def output(question: Question) -> Tensor:
    """The product itself."""
    with torch.no_grad():
        return question.product(*question.inputs)


def gradients(question: Question) -> dict[str, Tensor]:
    """Derivatives of the energy by every number of every input."""
    return _gradients(question.energy, question.inputs)


def tangent(question: Question) -> Tensor:
    """Derivative of the output along the tangents of all inputs."""
    return _along(question.product, question.inputs, question.tangents())


def forces(question: Question) -> dict[str, Tensor]:
    """Derivatives, by every input, of a number made of the energy's derivative by x1.

    This is what a potential is trained on: by forces.
    """
    first = question.tangents()[0]
    still = tuple(torch.zeros_like(x) for x in question.inputs[1:])

    def loss(*inputs: Tensor) -> Tensor:
        return _along(question.energy, inputs, (first, *still))

    return _gradients(loss, question.inputs)


def differs(found: Answers | Tensor, wanted: Answers | Tensor) -> str | None:
    """What is wrong with an answer; None if it is right to the error of the differences."""
    if isinstance(found, Tensor):
        found, wanted = {"output": found}, {"output": wanted}  # type: ignore[dict-item]
    assert isinstance(wanted, Mapping)
    scale = 1e-3 * sum(right.norm() for right in wanted.values())  # some answers are zero
    for name, right in wanted.items():
        mine = found[name].detach().double()
        if mine.shape != right.shape:
            return f"{name} has shape {tuple(mine.shape)} instead of {tuple(right.shape)}"
        error = float((mine - right).norm() / (scale + right.norm()))
        if not error < TOLERANCE:
            return f"{name} is wrong by {error:.1e}"
    return None


@cache
def _direction(shape: Sequence[int], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _along(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], tangents: Sequence[Tensor]
) -> Tensor:
    def at(step: float) -> Tensor:
        with torch.no_grad():
            return function(*(x + step * t for x, t in zip(inputs, tangents, strict=True)))

    near, far = (at(step) - at(-step) for step in (STEP, 2 * STEP))
    return (8 * near - far) / (12 * STEP)


def _gradients(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    found = {}
    for number, x in enumerate(inputs):
        still = [torch.zeros_like(other) for other in inputs]
        slopes = []
        for unit in torch.eye(x.numel(), dtype=torch.float64):
            still[number] = unit.reshape(x.shape)
            slopes.append(_along(function, inputs, still))
        found[NAMES[number]] = torch.stack(slopes).reshape(x.shape)
    return found

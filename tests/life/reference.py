"""What is asked of a product in every program, and the answer by finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from etp import Convolution, powers, products
from etp.measure.drawing import random_inputs, random_weights
from etp.powers.base import Power
from etp.product.base import TensorProduct

IRREPS = "2x0e+2x1o"
ONE = "0e+1o"
KEPT = "0e+1o+1e"
BATCH = 3
NODES = 4
STEP = 3e-3
"""Of first differences, of fourth order in it."""
STEP_OF_SECOND = 1e-2
"""Of second differences, whose rounding shrinks with its square."""
TOLERANCE = 1e-7
"""Of the finite differences; analytic answers are at 1e-15."""
NAMES = ("x1", "x2", "weights")
Kind = Literal["pair", "edge", "convolution", "power"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Answers = Mapping[str, Tensor]


class Convolved(nn.Module):
    """A convolution of tensors alone, as many nodes as there are features."""

    def __init__(self, product: TensorProduct) -> None:
        super().__init__()
        self.convolution = Convolution(product)

    def forward(self, x: Tensor, y: Tensor, *others: Tensor) -> Tensor:
        """Nodes, edges, perhaps weights of edges, senders and receivers to nodes."""
        *given, senders, receivers = others
        weights = given[0] if given else None
        z: Tensor = self.convolution(x, y, weights, senders, receivers, x.shape[0])
        return z


@dataclass(frozen=True)
class Question:
    """A product with inputs, and directions for derivatives.

    Attributes:
        product: In float64; a convolution or a power as a module of tensors.
        inputs: x1, x2 and perhaps weights; of a power features and weights.
        index: Whole numbers that it takes after them.
        seed: Of the directions.
    """

    product: nn.Module
    inputs: tuple[Tensor, ...]
    index: tuple[Tensor, ...] = ()
    seed: int = 7

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The product of other inputs."""
        z: Tensor = self.product(*inputs, *self.index)
        return z

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs."""
        return NAMES[: len(self.inputs)]

    def fresh(self) -> tuple[Tensor, ...]:
        """Copies of the inputs that want gradients."""
        return tuple(x.detach().clone().requires_grad_() for x in self.inputs)

    def tangents(self) -> tuple[Tensor, ...]:
        """A direction for each input."""
        return tuple(direction(x.shape, self.seed + n) for n, x in enumerate(self.inputs))

    def energy(self, *inputs: Tensor) -> Tensor:
        """A number made of the product's output."""
        return self.energy_of(self.product, *inputs)

    def energy_of(self, product: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The same of something that should be this product."""
        z = product(*inputs, *self.index)
        return (z * direction(z.shape, self.seed - 1)).sum()


def ask(kind: Kind, name: str, weights: str = "per-sample", size: int = BATCH) -> Question:
    """A small question to a product or a power, of two channels and both kinds of paths.

    Args:
        kind: What is asked of it.
        name: Of the product or the power.
        weights: Whether there are any, and whether each sample has its own.
        size: Samples or edges; nodes of a power.
    """
    return again(kind, make(kind, name), weights, size)


def make(kind: Kind, name: str) -> nn.Module:
    """The product or power, in float64.

    Args:
        kind: What is asked of it.
        name: Of the product or the power.
    """
    if kind == "power":
        of_power = powers.get(name)
        return of_power(IRREPS, order=2, irreps_out=IRREPS).to(torch.float64)
    second = IRREPS if kind == "pair" else ONE
    product = products.get(name)(IRREPS, second, filter_ir_out=KEPT).to(torch.float64)
    return Convolved(product) if kind == "convolution" else product


def again(
    kind: Kind, product: nn.Module, weights: str = "per-sample", size: int = BATCH, seed: int = 0
) -> Question:
    """Another question to the same product.

    Args:
        kind: What is asked of it.
        product: As :func:`make` gives it.
        weights: Whether there are any, and whether each sample has its own.
        size: Samples or edges; nodes of a power.
        seed: Of the inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(product, Power):
        shapes = (size, product.irreps_in.dim), (2, product.weight_numel)
        a, w = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
        return Question(product, (a, w), (torch.arange(size) % 2,))
    own = product.convolution.product if isinstance(product, Convolved) else product
    assert isinstance(own, TensorProduct)
    inputs = random_inputs(own, size, generator)
    free = random_weights(own, weights, size, generator)  # type: ignore[arg-type]
    given = inputs if free is None else (*inputs, free)
    if not isinstance(product, Convolved):
        return Question(product, given)
    nodes, _ = random_inputs(own, NODES, generator)
    graph = torch.randint(NODES, (2, size), generator=generator)
    return Question(product, (nodes, *given[1:]), (graph[0], graph[1]))


def output(question: Question) -> Tensor:
    """The product itself."""
    with torch.no_grad():
        return question(*question.inputs)


def gradients(question: Question) -> dict[str, Tensor]:
    """Derivatives of the energy by every number of every input."""
    return _gradients(question.energy, question.inputs)


def tangent(question: Question) -> Tensor:
    """Derivative of the output along the tangents of all inputs."""
    return _along(question, question.inputs, question.tangents())


def forces(question: Question) -> dict[str, Tensor]:
    """Derivatives, by every input, of a number made of the energy's derivative by x1.

    This is what a potential is trained on: by forces.
    """
    first = question.tangents()[0]
    still = tuple(torch.zeros_like(x) for x in question.inputs[1:])

    def loss(*inputs: Tensor) -> Tensor:
        return _along(question.energy, inputs, (first, *still), STEP_OF_SECOND)

    return _gradients(loss, question.inputs, STEP_OF_SECOND)


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


def direction(shape: Sequence[int], seed: int) -> Tensor:
    """Normal numbers, the same at every call.

    Numbers are kept and no tensor: one that is made under ``torch.func.grad`` belongs to that
    transform, and tracers take it for a constant of its size ever after.
    """
    return torch.from_numpy(_normal(tuple(shape), seed))


@cache
def _normal(shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


def _along(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor],
    step: float = STEP,
) -> Tensor:
    def at(far: float) -> Tensor:
        with torch.no_grad():
            return function(*(x + far * t for x, t in zip(inputs, tangents, strict=True)))

    near, far = (at(far) - at(-far) for far in (step, 2 * step))
    return (8 * near - far) / (12 * step)


def _gradients(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], step: float = STEP
) -> dict[str, Tensor]:
    found = {}
    for number, x in enumerate(inputs):
        still = [torch.zeros_like(other) for other in inputs]
        slopes = []
        for unit in torch.eye(x.numel(), dtype=torch.float64):
            still[number] = unit.reshape(x.shape)
            slopes.append(_along(function, inputs, still, step))
        found[NAMES[number]] = torch.stack(slopes).reshape(x.shape)
    return found

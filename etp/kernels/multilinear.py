"""Derivatives of a multilinear form: whatever is asked of it, at any order, is a sum of its slices.

A product is the form T(x, y, z), or T(x, y, z, w) with weights, linear in each *side*; the product
itself is its derivative by z. What a backward pass asks of derivatives of T is again a sum of
derivatives of T, with gradients in the place of some inputs. A kernel that can compute any such
:class:`Evaluation` therefore serves forward, backward and every higher order, each in one pass over
the data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.on_gpu.triton_source import compile_times

SIDES = "xyzw"
"""First factor, second factor, result, weights."""


class Output(NamedTuple):
    """Derivative of the form by one side, summed over several choices of the other sides.

    Attributes:
        side: Number of the side.
        terms: For each term the inputs, by number, that stand on the other sides, in their order.
    """

    side: int
    terms: tuple[tuple[int, ...], ...]


class Evaluation(NamedTuple):
    """What is computed from which inputs.

    Attributes:
        inputs: The side that each input belongs to.
        outputs: What is asked for.
    """

    inputs: tuple[int, ...]
    outputs: tuple[Output, ...]

    @override
    def __str__(self) -> str:
        """Like ``xy>z=0.1``: an operator's arguments may be text, and a kernel has a name."""
        outputs = (
            f"{SIDES[out.side]}=" + "+".join(".".join(map(str, term)) for term in out.terms)
            for out in self.outputs
        )
        return "".join(SIDES[side] for side in self.inputs) + ">" + ",".join(outputs)

    @classmethod
    def parse(cls, text: str) -> Evaluation:
        """Inverse of ``str``."""
        return _parse(text)

    def derivative(self, wanted: Sequence[int], given: Sequence[int]) -> Evaluation:
        """Gradients by the inputs ``wanted``, from gradients of the outputs ``given``.

        Its inputs are these inputs and then the given gradients. An output without terms is zero.
        """
        extended = self.inputs + tuple(self.outputs[o].side for o in given)
        outputs = []
        for a in wanted:
            terms = [
                (*(b for b in term if b != a), len(self.inputs) + place)
                for place, o in enumerate(given)
                for term in self.outputs[o].terms
                if a in term
            ]
            ordered = (tuple(sorted(term, key=lambda b: extended[b])) for term in terms)
            outputs.append(Output(self.inputs[a], tuple(ordered)))
        return Evaluation(extended, tuple(outputs))


@cache
def _parse(text: str) -> Evaluation:
    inputs, _, outputs = text.partition(">")
    return Evaluation(
        tuple(SIDES.index(letter) for letter in inputs),
        tuple(
            Output(
                SIDES.index(output[0]),
                tuple(tuple(map(int, term.split("."))) for term in output[2:].split("+")),
            )
            for output in outputs.split(",")
        ),
    )


PRODUCT = Evaluation((0, 1), (Output(2, ((0, 1),)),))
WEIGHTED = Evaluation((0, 1, 3), (Output(2, ((0, 1, 2),)),))


class Form(ABC):
    """A multilinear form that a kernel can evaluate.

    Args:
        key: Identifies what the form computes and how its sides lie in memory.
        widths: Numbers of one sample on each side.
    """

    def __init__(self, key: str, widths: tuple[int, ...]) -> None:
        self.key, self.widths = key, widths

    @abstractmethod
    def run(self, evaluation: Evaluation, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Evaluate on inputs of shape (N, width of their side), unit stride along the last axis.

        A stride of 0 along the first axis is read as one sample for all.
        """


_FORMS: dict[str, Form] = {}


def intern(form: Form) -> str:
    """Make a form known to the operator by its key; the first with that key stays."""
    return _FORMS.setdefault(form.key, form).key


def evaluate(key: str, evaluation: Evaluation, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Evaluate the form interned under ``key``; differentiable any number of times."""
    results: list[Tensor] = _evaluate(list(inputs), key, str(evaluation))
    return results


@torch.library.custom_op("etp::multilinear", mutates_args=())
def _evaluate(inputs: Sequence[Tensor], form: str, evaluation: str) -> list[Tensor]:
    """An operator, so that torch.compile keeps it whole."""
    rows = [x if x.stride(-1) == 1 else x.contiguous() for x in inputs]
    heard = compile_times(f"Triton, {evaluation} of {form[:8]}")
    results = _FORMS[form].run(Evaluation.parse(evaluation), rows)
    heard.note()
    return results


@_evaluate.register_fake
def _(inputs: Sequence[Tensor], form: str, evaluation: str) -> list[Tensor]:
    widths = _FORMS[form].widths
    outputs = Evaluation.parse(evaluation).outputs
    return [inputs[0].new_empty(inputs[0].shape[0], widths[out.side]) for out in outputs]


def _remember(ctx: Any, inputs: Any, output: list[Tensor]) -> None:
    tensors, ctx.form, ctx.evaluation = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grads: list[Tensor | None]) -> tuple[list[Tensor | None], None, None]:
    given = [o for o, grad in enumerate(grads) if grad is not None]
    wanted = [a for a, needed in enumerate(ctx.needs_input_grad[0]) if needed]
    asked = Evaluation.parse(ctx.evaluation).derivative(wanted, given)
    kept = [place for place, out in enumerate(asked.outputs) if out.terms]
    gradients: list[Tensor | None] = [None] * len(ctx.saved_tensors)
    if kept:
        asked = asked._replace(outputs=tuple(asked.outputs[place] for place in kept))
        inputs = [*ctx.saved_tensors, *(grads[o] for o in given)]
        results = _evaluate(inputs, ctx.form, str(asked))
        for place, result in zip(kept, results, strict=True):
            gradients[wanted[place]] = result
    return gradients, None, None


_evaluate.register_autograd(_differentiate, setup_context=_remember)

"""Functions of edges, evaluated a chunk at a time: memory for one chunk, in derivatives too.

A function of chunks reads its inputs by node, by edge or whole, and writes its outputs the same
way. Its derivative reads and writes likewise, so that every order of derivatives is another walk,
which computes again what the chunk before it made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Chunk = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Nodes:
    """A row for each node: read at the node of each edge, added up over the edges of a node.

    Attributes:
        index: Node of each edge, (E,).
        count: Number of nodes.
    """

    index: Tensor
    count: int

    def read(self, x: Tensor, edges: slice) -> Tensor:
        """Rows of the nodes of some edges."""
        return x.index_select(0, self.index[edges])

    def empty(self, like: Tensor, edges: int) -> Tensor:
        """What the chunks are added to."""
        return like.new_zeros(self.count, *like.shape[1:])

    def write(self, out: Tensor, part: Tensor, edges: slice) -> None:
        """Add what some edges give.

        Args:
            out: What is written to.
            part: What the chunk gave.
            edges: Edges of the chunk.
        """
        out.index_add_(0, self.index[edges], part)


class Edges:
    """A row for each edge."""

    def read(self, x: Tensor, edges: slice) -> Tensor:
        """Rows of some edges."""
        return x[edges]

    def empty(self, like: Tensor, edges: int) -> Tensor:
        """What the chunks are written to."""
        return like.new_empty(edges, *like.shape[1:])

    def write(self, out: Tensor, part: Tensor, edges: slice) -> None:
        """Write the rows of some edges.

        Args:
            out: What is written to.
            part: What the chunk gave.
            edges: Edges of the chunk.
        """
        out[edges] = part


class Whole:
    """The same for all edges."""

    def read(self, x: Tensor, edges: slice) -> Tensor:
        """All of it."""
        return x

    def empty(self, like: Tensor, edges: int) -> Tensor:
        """What the chunks are added to."""
        return torch.zeros_like(like)

    def write(self, out: Tensor, part: Tensor, edges: slice) -> None:
        """Add what some edges give.

        Args:
            out: What is written to.
            part: What the chunk gave.
            edges: Edges of the chunk.
        """
        out += part


Access = Nodes | Edges | Whole


@dataclass(frozen=True)
class Walk:
    """A function of chunks of edges.

    Attributes:
        chunk: Inputs of some edges to outputs of the same edges.
        inputs: How each input is read.
        outputs: How each output is written.
        edges: Number of edges.
        step: Edges in a chunk.
    """

    chunk: Chunk
    inputs: Sequence[Access]
    outputs: Sequence[Access]
    edges: int
    step: int

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Evaluate, differentiable to any order."""
        outputs: tuple[Tensor, ...] = _Walked.apply(self, *tensors)  # type: ignore[no-untyped-call]
        return outputs

    def evaluate(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Evaluate without a graph."""
        # Views of a leaf would still ask for gradients, and be taken for parts of a graph.
        tensors = [x.detach() for x in tensors]
        sums: list[Tensor] = []
        for start in range(0, self.edges, self.step):
            edges = slice(start, min(start + self.step, self.edges))
            read = [way.read(x, edges) for way, x in zip(self.inputs, tensors, strict=True)]
            parts = self.chunk(*read)
            if not sums:
                sums = [
                    way.empty(part, self.edges)
                    for way, part in zip(self.outputs, parts, strict=True)
                ]
            for way, out, part in zip(self.outputs, sums, parts, strict=True):
                way.write(out, part, edges)
        return tuple(sums)

    def pullback(self, wanted: Sequence[int]) -> Walk:
        """Inputs and gradients of the outputs to the gradients of the wanted inputs."""

        def chunk(*given: Tensor) -> tuple[Tensor, ...]:
            further = torch.is_grad_enabled()
            inputs, grads = given[: len(self.inputs)], given[len(self.inputs) :]
            with torch.enable_grad():
                fresh = [x if x.requires_grad else x.detach().requires_grad_() for x in inputs]
                outputs = self.chunk(*fresh)
                gradients = torch.autograd.grad(
                    outputs, [fresh[i] for i in wanted], grads,
                    create_graph=further, materialize_grads=True,
                )  # fmt: skip
            return gradients

        outputs = [self.inputs[i] for i in wanted]
        return Walk(chunk, [*self.inputs, *self.outputs], outputs, self.edges, self.step)


class _Walked(Function):
    @staticmethod
    def forward(ctx: Any, walk: Walk, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.walk = walk
        ctx.save_for_backward(*tensors)
        return walk.evaluate(tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[1:]) if needed]
        gradients = ctx.walk.pullback(wanted)(*ctx.saved_tensors, *grads)
        by_place = dict(zip(wanted, gradients, strict=True))
        return None, *(by_place.get(i) for i in range(len(ctx.saved_tensors)))

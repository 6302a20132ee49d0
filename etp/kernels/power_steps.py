"""Powers as steps on rows, a program for each question; and the same steps in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from etp.kernels.on_cpu import program as steps
from etp.kernels.on_cpu.polynomial import DIRECTORY, HEAD, Polynomial, Z, packed
from etp.kernels.power_table import Floats, Ints
from etp.kernels.tables import TableModule

_MONOMIALS = 3
"""Place of their number in a program: none in one of steps."""


def by_steps(program: Tensor) -> bool:
    """Whether a power's program is one of steps."""
    return int(program[_MONOMIALS]) == 0


class PowerSteps(TableModule):
    """A power: what it computes of one channel.

    Args:
        ints: int32, sizes, then the programs, as ``power_steps.c`` reads them.
        numbers: Float64 coefficients.

    Attributes:
        dim: Components of the input of one channel.
        out: Components of the output.
        numel: Weights of one channel.
        macs: Multiply-adds of one channel of one node.
        codable: Whether a GPU's kernel may have it in its code: there is none.
    """

    codable = False

    def __init__(self, ints: Ints, numbers: Floats) -> None:
        super().__init__()
        self.dim, self.out, self.numel, _, self.macs = map(int, ints[:5])
        self._ints, self._numbers = ints, numbers
        self.register_buffer("code", torch.from_numpy(ints), persistent=False)
        self.register_table("numbers", torch.from_numpy(numbers))

    @classmethod
    def of(cls, polynomial: Polynomial) -> Self:
        """The programs of a map from the components and the weights of a channel."""
        return cls(*packed(polynomial))

    @classmethod
    def restored(cls, program: Tensor, values: Tensor) -> Self:
        """What a program and its numbers were made of, on the CPU."""
        return cls(program.cpu().numpy(), values.cpu().double().numpy())

    def plain(self, x: Tensor, w: Tensor, elements: Tensor | None) -> Tensor:
        """The power in PyTorch, step by step: what derivatives of third order are taken of.

        Args:
            x: Shape (N, dim, C).
            w: Shape (Z, numel, C).
            elements: Row of ``w`` of each node, (N,); None where Z is N, or 1 for all.
        """
        head = self._ints[self._ints[DIRECTORY + Z] :]
        count, held, at_x, at_w = head[:4].tolist()
        at_z = int(head[HEAD - 3])
        body = head[HEAD:]
        rows = [x.new_zeros(x.shape[0], x.shape[2])] * held
        rows[at_x : at_x + self.dim] = x.unbind(1)
        own = w if elements is None else w.index_select(0, elements)
        rows[at_w : at_w + self.numel] = own.expand(x.shape[0], -1, -1).unbind(1)
        for step in body[: 8 * count].reshape(count, 8).tolist():
            target, made = self._made(step, rows, body[8 * count :])
            for row, value in zip(target.ravel().tolist(), made.unbind(0), strict=True):
                rows[row] = rows[row] + value if step[-1] else value
        return torch.stack(rows[at_z : at_z + self.out], dim=1)

    def _made(
        self, step: Sequence[int], rows: Sequence[Tensor], indices: Ints
    ) -> tuple[Ints, Tensor]:
        """Rows that a step writes or adds to, and what it gives: (rows, N, C)."""
        code, size, to, first, second, index, table, _ = step
        own, values = indices[index:], self._numbers[table:]
        if code == steps.MATRIX:
            height, inner, width = own[:3].tolist()
            shapes = ((height, width), (height, inner), (inner, width))
            apart = own[3:9].reshape(3, 2).tolist()
            target, *factors = (
                steps.MatrixView(start, *by).rows(*shape).reshape(shape)
                for start, by, shape in zip((to, first, second), apart, shapes, strict=True)
            )
            return target, torch.einsum(
                "iknc,kjnc->ijnc", *(_taken(rows, f) for f in factors)
            ).flatten(0, 1)
        run = np.arange(size, dtype=np.int32)
        if code == steps.ZERO:
            return to + run, rows[0].new_zeros(size, *rows[0].shape)
        if code == steps.MULTIPLY:
            return to + run, _taken(rows, first + run) * _taken(rows, second + run)
        if code == steps.DENSE:
            source, target = own[:first], own[first : first + size]
            matrix = values[: first * size].reshape(first, size).T
        else:
            assert code == steps.SPARSE, "a power has no other steps"
            runs, own = own[: 2 * first].reshape(first, 2), own[2 * first :]
            counts = runs[:, 0].repeat(runs[:, 1])
            target, source = own[:size], own[size:][: counts.sum()]
            matrix = np.zeros((size, len(source)))
            row = np.arange(size).repeat(counts)
            matrix[row, np.arange(len(source))] = values[: len(source)]
        taken = _taken(rows, source)
        return target, torch.einsum("mk,knc->mnc", torch.from_numpy(matrix).to(taken), taken)


def _taken(rows: Sequence[Tensor], which: Ints) -> Tensor:
    """Rows at each of these places, (..., N, C)."""
    return torch.stack([rows[n] for n in which.ravel().tolist()]).unflatten(0, which.shape)

"""Writes the Triton source of a form given by paths: straight lines, no table, no zeros.

Products of components that several paths share are computed once; blocks of the inputs are loaded
when first met, and blocks of the outputs stored when complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from etp.kernels.multilinear import Evaluation, Output
from etp.kernels.on_gpu.path_data import BlockPath, PathData
from etp.kernels.on_gpu.row_form import RowWriter
from etp.kernels.on_gpu.triton_source import Source
from etp.maths import so3

MAX_TERMS = 5000
"""Multiply-adds in one kernel: a longer sum is cut, for the compiler's and the registers' sake."""
RESULT, WEIGHT = 2, 3
"""Sides of the result and of the weights; these have one block of one component for each path."""

ONE = -1
"""In the place of the number of an input: a factor of 1."""


def nonzero(coefficients: Tensor) -> Iterator[tuple[tuple[int, ...], float]]:
    """Places and values of the coefficients that are not zero."""
    places = (coefficients.abs() > so3.ZERO).nonzero()
    # Equal but for rounding: let them be one number, whose products are shared.
    values = coefficients[tuple(places.T)].round(decimals=15)
    yield from zip(map(tuple, places.tolist()), values.tolist(), strict=True)


def sources(form: PathData, evaluation: Evaluation) -> list[Source]:
    """Kernels to be run one after the other: each does some of the paths."""
    per_entry = sum(len(out.terms) for out in evaluation.outputs)
    parts: list[list[BlockPath]] = [[]]
    size = 0
    for coupling in form.couplings:
        cost = per_entry * len(list(nonzero(coupling.coefficients)))
        if parts[-1] and size + cost > MAX_TERMS:
            parts.append([])
            size = 0
        parts[-1].append(coupling)
        size += cost
    written: set[tuple[int, int]] = set()
    whole = [
        (o, block)
        for o, out in enumerate(evaluation.outputs)
        for block in range(len(form.sides[out.side]))
    ]
    reached = {
        (o, c.blocks[out.side]) for o, out in enumerate(evaluation.outputs) for c in form.couplings
    }
    kernels = []
    for number, part in enumerate(parts):
        writer = _PathWriter(form, evaluation, part, written)
        if number == 0:
            writer.zeros([place for place in whole if place not in reached])
        kernels.append(writer.source)
        written |= writer.written
    return kernels


class _PathWriter(RowWriter):
    """Writes the kernel of some paths: inputs are loaded when met, outputs stored when complete."""

    def __init__(
        self,
        form: PathData,
        evaluation: Evaluation,
        couplings: Sequence[BlockPath],
        earlier: set[tuple[int, int]],
    ) -> None:
        super().__init__("paths", form, evaluation)
        self._blocks, self._earlier = form.sides, earlier
        self.written: set[tuple[int, int]] = set()
        self._vectors: dict[tuple[int, int], list[str]] = {}
        self._memo: dict[Any, str] = {}
        self._sums: dict[tuple[int, int], list[str]] = {}
        last = {
            (o, coupling.blocks[out.side]): coupling
            for coupling in couplings
            for o, out in enumerate(evaluation.outputs)
        }
        pair: tuple[int, ...] = ()
        for coupling in couplings:
            if coupling.blocks[:2] != pair:
                # Products of the components of one pair are shared by its paths, not beyond.
                self._memo.clear()
                pair = coupling.blocks[:2]
            for o, out in enumerate(evaluation.outputs):
                self._add(o, out, coupling)
                place = o, coupling.blocks[out.side]
                if last[place] is coupling:
                    self.store_output(*place, self._sums.pop(place))
                    self.written.add(place)

    def zeros(self, places: Sequence[tuple[int, int]]) -> None:
        """Fill blocks that no path reaches."""
        zero = self.source.let("tl.zeros((BLOCK,), ACC)") if places else ""
        for place in places:
            out = self._evaluation.outputs[place[0]]
            dim = self._blocks[out.side][place[1]].dim
            self.store_output(*place, [zero] * dim)

    def _input(self, number: int, coupling: BlockPath) -> list[str]:
        side = self._evaluation.inputs[number]
        place = number, coupling.blocks[side]
        if place not in self._vectors:
            self._vectors[place] = self.load_input(*place, settled=side < RESULT)
        return self._vectors[place]

    def _let(self, key: Any, expression: str) -> str:
        if key not in self._memo:
            self._memo[key] = self.source.let(expression)
        return self._memo[key]

    def _add(self, o: int, out: Output, coupling: BlockPath) -> None:
        """Add what one path gives to one output."""
        place = o, coupling.blocks[out.side]
        dim = self._blocks[out.side][place[1]].dim
        if place not in self._sums:
            self._sums[place] = [""] * dim
            if place in self._earlier:
                self._sums[place] = self.load_output(*place)
        parts: list[str] = [""] * dim
        for component, part in self._parts(out, coupling):
            parts[component] += part
        sums = self._sums[place]
        for component, part in enumerate(parts):
            if part or not sums[component]:
                total = (sums[component] + part).removeprefix(" + ")
                sums[component] = self.source.let(total or "tl.zeros((BLOCK,), ACC)")

    def _parts(self, out: Output, coupling: BlockPath) -> Iterator[tuple[int, str]]:
        """Signed products to be added, with the component of the output they belong to."""
        if out.side == WEIGHT:
            for gradient, terms in _grouped(out.terms).items():
                g = self._input(gradient, coupling)
                for k, vector in self._contracted(terms, coupling).items():
                    yield 0, f" + {g[k]} * {vector}"
        elif out.side == RESULT:
            for weight, terms in _grouped(out.terms).items():
                if weight == ONE:
                    yield from self._entries(terms, coupling)
                else:
                    (factor,) = self._input(weight, coupling)
                    for k, vector in self._contracted(terms, coupling).items():
                        yield k, f" + {factor} * {vector}"
        else:
            for other, *rest in out.terms:
                scaled = self._scaled_gradient(rest, coupling)
                vectors = self._input(other, coupling)
                for (i, j, k), value in nonzero(coupling.coefficients):
                    factors = i, j
                    product = f"{abs(value)!r} * {scaled[k]}"
                    wg = self._let(product, product)
                    part = f" {_sign(value)} {wg} * {vectors[factors[1 - out.side]]}"
                    yield factors[out.side], part

    def _entries(
        self, terms: Sequence[tuple[int, int]], coupling: BlockPath
    ) -> Iterator[tuple[int, str]]:
        """Products of components times coefficients, by component of the result."""
        factors = [(self._input(a, coupling), self._input(b, coupling)) for a, b in terms]
        for (i, j, k), value in nonzero(coupling.coefficients):
            product = " + ".join(f"{first[i]} * {second[j]}" for first, second in factors)
            yield k, f" {_sign(value)} {abs(value)!r} * {self._let(product, product)}"

    def _contracted(self, terms: Sequence[tuple[int, int]], coupling: BlockPath) -> dict[int, str]:
        """Vectors of one path's result by component, before weights."""
        sums: dict[int, str] = {}
        for k, part in self._entries(terms, coupling):
            sums[k] = sums.get(k, "") + part
        totals = {k: total.removeprefix(" + ") for k, total in sums.items()}
        return {k: self._let(total, total) for k, total in totals.items()}

    def _scaled_gradient(self, inputs: Sequence[int], coupling: BlockPath) -> list[str]:
        """Components of the gradient of a path's result, times the path's weight if any."""
        gradient = self._input(inputs[0], coupling)
        for weight in inputs[1:]:
            (factor,) = self._input(weight, coupling)
            products = [f"{factor} * {g}" for g in gradient]
            gradient = [self._let(product, product) for product in products]
        return gradient


def _grouped(
    terms: Sequence[tuple[int, ...]],
) -> dict[int, list[tuple[int, int]]]:
    """Pairs of factors by the input that multiplies them, :data:`ONE` where none does."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for first, second, *last in terms:
        groups.setdefault(last[0] if last else ONE, []).append((first, second))
    return groups


def _sign(value: float) -> str:
    return "-" if value < 0 else "+"

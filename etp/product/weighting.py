"""Free weights of a product: one for each path, or factors for each degree it reads and writes.

A product that keeps paths apart, or weighs them before it adds them up, has a weight for each path.
One that adds paths up inside a signal or a matrix can only scale what goes in and what comes out:
it has a factor for each irrep of both inputs and of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from etp.e3 import o3
from etp.product.inputs import check_alike, check_tensor
from etp.product.path import Path

Per = Literal["path", "degree", "order"]
Side = Literal["path", "order", "in1", "in2", "out"]
_SIDES: tuple[Side, ...] = ("path", "order", "in1", "in2", "out")


class Split(NamedTuple):
    """A piece of a path's coefficient, and which factor of each irrep multiplies it.

    An irrep has one factor, number 0, unless the product makes several signals of it. Where weights
    are for each order, ``out`` is the order.
    """

    in1: int
    in2: int
    out: int
    coefficient: float


class Factor(NamedTuple):
    """What one weight of a channel scales: a path, or one use of an irrep on one side.

    Or an order, number m, of what goes from one irrep to another.
    """

    side: Side
    target: Any
    number: int = 0


class WeightTerm(NamedTuple):
    """A path's coefficient is the sum of its terms: each a number times some of the weights."""

    path: int
    factors: tuple[int, ...]
    coefficient: float


class Weighed(Protocol):
    """What weights ask of a product: its irreps and paths, and a place for indices."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def weights_per(self) -> Per:
        """What its weights scale."""
        ...

    @property
    def keeps_paths(self) -> bool:
        """Whether each path has an output of its own."""
        ...

    @property
    def channels(self) -> int:
        """Number of channels."""
        ...

    @property
    def irs_in1(self) -> tuple[o3.Irrep, ...]:
        """Irreps of one channel of input 1."""
        ...

    @property
    def irs_in2(self) -> tuple[o3.Irrep, ...]:
        """Of input 2."""
        ...

    @property
    def irs_out(self) -> tuple[o3.Irrep, ...]:
        """Of the output."""
        ...

    @property
    def paths(self) -> tuple[Path, ...]:
        """Claimed paths."""
        ...

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep an index.

        Args:
            name: What it is called.
            tensor: The index.
            persistent: Whether it is part of a saved state.
        """

    def index(self, name: str) -> Tensor:
        """Return a kept index."""
        ...


class Weighting:
    """The weights of one product.

    Args:
        owner: Product whose irreps and paths are known; keeps the tables.
        splits: For each path the pieces of its coefficient.

    Attributes:
        factors: What each weight of a channel scales.
        terms: How the coefficients of the paths depend on the weights.
    """

    def __init__(self, owner: Weighed, splits: Sequence[Sequence[Split]]) -> None:
        self._owner = owner
        sides: dict[str, tuple[o3.Irrep, ...]] = {
            "in1": owner.irs_in1,
            "in2": owner.irs_in2,
            "out": owner.irs_out,
        }
        uses: list[tuple[int, list[Factor], float]] = []
        for number, (path, pieces) in enumerate(zip(owner.paths, splits, strict=True)):
            for piece in pieces:
                uses.append((number, _used(owner.weights_per, path, piece), piece.coefficient))
        pairs = tuple(dict.fromkeys((path.ir_in1, path.ir_out) for path in owner.paths))
        targets: dict[str, tuple[Any, ...]] = {"path": owner.paths, "order": pairs, **sides}
        order = {side: {t: i for i, t in enumerate(those)} for side, those in targets.items()}
        self.factors = tuple(
            sorted(
                {factor for _, used, _ in uses for factor in used},
                key=lambda f: (_SIDES.index(f.side), order[f.side][f.target], f.number),
            )
        )
        index = {factor: i for i, factor in enumerate(self.factors)}
        self.terms = tuple(WeightTerm(n, tuple(index[f] for f in used), c) for n, used, c in uses)
        if owner.keeps_paths:
            self._register("out", 0, owner.irs_out, list(range(len(self.factors))))
            return
        for side, number in sorted({(f.side, f.number) for f in self.factors if f.side in sides}):
            # A component that no path uses may carry any weight: it changes nothing.
            numbers = [index.get(Factor(side, ir, number), 0) for ir in sides[side]]
            self._register(side, number, sides[side], numbers)

    def _register(
        self, side: Side, number: int, irs: Sequence[o3.Irrep], factors: Sequence[int]
    ) -> None:
        dims = torch.tensor([ir.dim for ir in irs])
        index = torch.repeat_interleave(torch.tensor(factors), dims)
        self._owner.register_buffer(f"weights_{side}_{number}", index, persistent=False)

    def rows(self, weights: Tensor, batch: torch.Size) -> Tensor:
        """(..., weight_numel) to (G, factors): row n of the inputs uses row n mod G.

        G is the number of channels for shared weights, that of rows for weights per sample.
        """
        by_channel = weights.unflatten(-1, (len(self.factors), self._owner.channels)).mT
        if weights.numel() == weights.shape[-1]:
            return by_channel.reshape(self._owner.channels, -1)
        return by_channel.expand(*batch, *by_channel.shape[-2:]).reshape(-1, len(self.factors))

    def balanced(self) -> Tensor:
        r"""Weights of a channel, (factors,), that bring all paths as near to one size as they can.

        For inputs of unit variance a path makes outputs of size :math:`|c| / \sqrt{2 l_3 + 1}`
        (root mean square of a component); the logarithms of these sizes, weights included, are as
        near to 0 as least squares can bring them. Weights for each path reach it, factors for each
        degree only where c is a product of such factors.

        Raises:
            ValueError: If the coefficient of a path is a sum of terms with weights of their own.
        """
        if len({term.path for term in self.terms}) < len(self.terms):
            raise ValueError(
                f"{self._owner.name} has no balanced weights: its paths are sums of terms with "
                "weights of their own; choose shared weights or none"
            )
        sizes = [
            abs(t.coefficient) * self._owner.paths[t.path].ir_out.dim ** -0.5 for t in self.terms
        ]
        uses = torch.zeros(len(self.terms), len(self.factors), dtype=torch.float64)
        for row, term in enumerate(self.terms):
            uses[row, list(term.factors)] = 1.0
        logs = -torch.tensor(sizes, dtype=torch.float64).log()
        # Factors leave a common size free to move between the sides: the smallest change is taken.
        return torch.exp(torch.linalg.lstsq(uses, logs[:, None], driver="gelsd").solution[:, 0])

    def spread(self, rows: Tensor, side: Side, number: int = 0) -> Tensor:
        """(G, factors) to (G, components of a side): the factor of each component.

        Args:
            rows: (G, factors).
            side: ``"in1"``, ``"in2"`` or ``"out"``.
            number: Which factors of a component, where it has several.
        """
        return rows.index_select(-1, self._owner.index(f"weights_{side}_{number}"))


def _used(per: Per, path: Path, piece: Split) -> list[Factor]:
    """Weights that multiply a piece of a path."""
    if per == "path":
        return [Factor("path", path)]
    if per == "order":
        return [Factor("order", (path.ir_in1, path.ir_out), piece.out)]
    return [
        Factor("in1", path.ir_in1, piece.in1),
        Factor("in2", path.ir_in2, piece.in2),
        Factor("out", path.ir_out, piece.out),
    ]


def met(f: Tensor, h: Tensor) -> Tensor:
    """Product of (E * U, ...) and (E, ...): each row of the second meets U rows of the first."""
    if f.shape[0] == h.shape[0]:
        return f * h
    return (f.unflatten(0, (h.shape[0], -1)) * h.unsqueeze(1)).flatten(0, 1)


def of_second(weights: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """Rows of weights for the rows of input 2, where each meets several of input 1.

    Args:
        weights: (G, factors).
        x1: Rows of input 1.
        x2: Rows of input 2; they divide those of input 1.
    """
    return weights[:: x1.shape[0] // x2.shape[0]]


def scaled(x: Tensor, factors: Tensor) -> Tensor:
    """Multiply rows (N, dim) by factors (G, dim), row n by factor row n mod G."""
    if factors.shape[0] == 1 or factors.shape[0] == x.shape[0]:
        return x * factors
    return (x.unflatten(0, (-1, factors.shape[0])) * factors).flatten(0, 1)


def fit(weights: Tensor, rows: Tensor, numel: int) -> bool:
    """Whether weights are one row, or one for each row of an input: the usual call, at a glance.

    What does not pass is looked at again by :func:`check`.

    Args:
        weights: As given.
        rows: Input, (N, ...).
        numel: Weights of all channels.
    """
    if not isinstance(weights, Tensor):
        return False
    shape = weights.shape
    return (
        (len(shape) == 1 or (len(shape) == 2 and shape[0] == rows.shape[0]))
        and shape[-1] == numel
        and weights.dtype is rows.dtype
        and weights.device == rows.device
    )


def check(weights: Tensor, like: Tensor, numel: int) -> None:
    """Refuse weights that do not fit.

    Args:
        weights: (numel,) or (..., numel).
        like: Input whose dtype and device they must have.
        numel: Weights of all channels.

    Raises:
        ValueError: Saying what must hold.
    """
    check_tensor("weights", weights)
    if weights.ndim == 0 or weights.shape[-1] != numel:
        raise ValueError(
            f"weights must have shape ({numel},) or (..., {numel}), got {tuple(weights.shape)}"
        )
    check_alike("weights", weights, like, "as the inputs are")

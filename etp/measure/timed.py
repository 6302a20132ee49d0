"""What of a product is timed: its call, or a library's own without the reordering around it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from etp.measure.graph import Measurable, OnGraph, OnNodes
from etp.powers._library import LibraryPower
from etp.products._library import LibraryProduct


class Timed:
    """The call of a product, as its users write it.

    Args:
        tp: What is timed.

    Attributes:
        own_layout: Whether it is a library's own call in its own layout.
    """

    own_layout = False

    def __init__(self, tp: Measurable) -> None:
        self._tp = tp

    def inputs(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> tuple[Tensor, ...]:
        """Inputs of :meth:`call`, made before the clock starts; a graph too.

        Args:
            x1: First input.
            x2: Second input.
            weights: Free weights, or None.
        """
        if isinstance(self._tp, OnGraph):
            self._tp.graph(x2.shape[0])
        return (x1, x2) if weights is None else (x1, x2, weights)

    def call(self, *inputs: Tensor) -> Tensor:
        """What is timed."""
        z: Tensor = self._tp(*inputs)
        return z

    def output(self, z: Tensor) -> Tensor:
        """Output of :meth:`call` as the product gives it; to check it, never timed."""
        return z


class OfLibrary(Timed):
    """A library's own call: its users would not pay for another layout."""

    own_layout = True

    def __init__(self, tp: LibraryProduct) -> None:
        self._library = tp

    @override
    def inputs(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> tuple[Tensor, ...]:
        return self._library.to_library(x1, x2, weights)

    @override
    def call(self, *inputs: Tensor) -> Tensor:
        return self._library.call_library(*inputs)

    @override
    def output(self, z: Tensor) -> Tensor:
        return self._library.from_library(z)


class OfPower(Timed):
    """The call of a power: it has one input."""

    def __init__(self, tp: OnNodes) -> None:
        super().__init__(tp)
        self._nodes = tp

    @override
    def inputs(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> tuple[Tensor, ...]:
        return x1, self._nodes.given(x1, weights)

    @override
    def call(self, *inputs: Tensor) -> Tensor:
        z: Tensor = self._nodes.power(*inputs, self._nodes.element_of(*inputs))
        return z


class OfLibraryPower(Timed):
    """A library's own power: weights and elements as its models have them."""

    own_layout = True

    def __init__(self, tp: OnNodes, power: LibraryPower) -> None:
        super().__init__(tp)
        self._nodes, self._library = tp, power

    @override
    def inputs(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> tuple[Tensor, ...]:
        given, elements = self._nodes.given(x1, weights), self._nodes.element_of(x1, weights)
        self._elements, inputs = self._library.to_library(x1, given, elements)
        return inputs

    @override
    def call(self, *inputs: Tensor) -> Tensor:
        return self._library.call_library(self._elements, *inputs)

    @override
    def output(self, z: Tensor) -> Tensor:
        return self._library.from_library(z)


def as_timed(tp: Any) -> Timed:
    """What is timed of a product, of a convolution on a graph, or of a power."""
    if isinstance(tp, OnNodes):
        power = tp.power
        return OfLibraryPower(tp, power) if isinstance(power, LibraryPower) else OfPower(tp)
    return OfLibrary(tp) if isinstance(tp, LibraryProduct) else Timed(tp)

"""Powers of signals and of matrices as steps for a compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from etp.e3 import o3
from etp.kernels.on_cpu.polynomial import Polynomial
from etp.kernels.on_cpu.program import DensePart, LinearMap, MatrixView
from etp.maths import sphere
from etp.maths.layout import slices
from etp.powers.base import Power
from etp.products._fields import Feed, field_map, value
from etp.products._transforms import sector_of, sectors


def of_signals(power: Power, nodes: sphere.Grid) -> Polynomial:
    """Values on a grid, their powers, a sum of these for each output irrep, read off.

    Scalar and pseudoscalar signals f and g are raised as f + g and f - g: no products of the two.
    """
    to_values, from_sums = _signals(power, nodes), _readings(power, nodes)
    if len(sectors(power.irs_in)) == 2:
        to_values = _joined(to_values, _mixed([[1, 1], [1, -1]], nodes))
        count = len(power.irs_out)
        halves = np.zeros((count, count, 2))
        for number, ir in enumerate(power.irs_out):
            halves[number, number] = 0.5, 0.5 * sector_of(ir)
        from_sums = _joined(_mixed(halves.reshape(count, -1), nodes), from_sums)
    raised = _Raised(power)
    steps, size = raised.steps, to_values.widths[-1]
    f = steps.take(power.order * size)
    steps.linear(steps.x, f, to_values)
    for start in raised.starts(f, size):
        steps.pointwise(start, start - size, f, size)
    sums = steps.take(len(power.irs_out) * size)
    raised.weigh(MatrixView(sums, size, 1), MatrixView(f + size, size, 1), size)
    steps.linear(sums, steps.z, from_sums)
    return steps


def _signals(power: Power, nodes: sphere.Grid) -> LinearMap:
    """Components to each sector's signal."""
    parts = enumerate(sectors(power.irs_in).values())
    feeds = [Feed(part, value(part.lmax, nodes), number) for number, part in parts]
    return field_map(feeds, nodes, _dim(power.irs_in)).chain


def _readings(power: Power, nodes: sphere.Grid) -> LinearMap:
    """A signal for each output irrep to its components, by quadrature."""
    feeds = []
    for number, (ir, at) in enumerate(zip(power.irs_out, slices(power.irs_out), strict=True)):
        (part,) = sectors([ir]).values()
        own = part._replace(positions=part.positions + at.start, alone=False)
        feeds.append(Feed(own, value(ir.l, nodes).weighted(nodes), number))
    return field_map(feeds, nodes, _dim(power.irs_out)).chain.transposed()


def of_matrices(power: Power, made: Tensor, read: Tensor, side: int) -> Polynomial:
    """Matrices, their powers, all of them read off, and weighed.

    Args:
        power: Whose matrices they are.
        made: (components, matrices * side^2).
        read: (matrices * side^2, output components).
        side: Rows of a matrix.
    """
    raised = _Raised(power)
    steps, size, degrees = raised.steps, len(read), power.order - 1
    x = steps.take(power.order * size)
    steps.linear(steps.x, x, _block(made.numpy()))
    for start in raised.starts(x, size):
        for at in range(0, size, side**2):
            to, before, once = (MatrixView(n + at, side, 1) for n in (start, start - size, x))
            steps.product(to, before, once, (side, side, side))
    # All degrees of an irrep under each other.
    dims = [ir.dim for ir in power.irs_out]
    starts = list(accumulate((degrees * dim for dim in dims), initial=0))
    z = steps.take(starts[-1])
    first = [start + k for start, dim in zip(starts, dims, strict=False) for k in range(dim)]
    entries, apart = np.arange(size), np.repeat(dims, dims)
    reading = tuple(
        DensePart(_rows(entries + nu * size), _rows(first + nu * apart), read.numpy())
        for nu in range(degrees)
    )
    steps.linear(x + size, z, LinearMap((degrees * size, starts[-1]), (reading,)))
    for number, place in enumerate(slices(power.irs_out)):
        own, dim = MatrixView(z + starts[number], dims[number], 1), dims[number]
        raised.weigh(MatrixView(steps.z + place.start, dim, 1), own, dim, slice(number, number + 1))
    return steps


class _Raised:
    """Steps of a power that has its first degree, and is to have those from the second on.

    Attributes:
        steps: What there is.
    """

    def __init__(self, power: Power) -> None:
        irs_in, irs_out = list(power.irs_in), list(power.irs_out)
        self._irreps, self._order = len(irs_out), power.order
        self.steps = Polynomial((_dim(irs_in), power.weights_per_channel, _dim(irs_out)))
        # Weights as a matrix of output irreps by degrees, zero where there are none.
        places = np.zeros((power.weights_per_channel, len(irs_out), power.order))
        for block in (block for block in power.blocks if block.size):
            scale = power.first(block.ir) if block.degree == 1 else 1.0
            places[block.start, irs_out.index(block.ir), block.degree - 1] = scale
        matrix = places.reshape(len(places), -1)
        self._weights = self.steps.w
        if not np.array_equal(matrix, np.eye(*matrix.shape)):
            self._weights = self.steps.take(matrix.shape[1])
            self.steps.linear(self.steps.w, self._weights, _block(matrix))
        own = dict(zip(irs_in, slices(irs_in), strict=True))
        for number, (ir, at) in enumerate(zip(irs_out, slices(irs_out), strict=True)):
            if ir in own:
                target = MatrixView(self.steps.z + at.start, ir.dim, 1)
                x = MatrixView(self.steps.x + own[ir].start, ir.dim, 1)
                weight = MatrixView(self._weights + number * power.order, 1, 1)
                self.steps.product(target, weight, x, (1, 1, ir.dim))

    def starts(self, first: int, size: int) -> range:
        """Where degrees from the second on are, ``size`` rows each."""
        return range(first + size, first + self._order * size, size)

    def weigh(
        self, target: MatrixView, degrees: MatrixView, size: int, irreps: slice = slice(None)
    ) -> None:
        """Add up degrees from the second on, (degrees, size), for some irreps: (irreps, size)."""
        some = range(self._irreps)[irreps]
        weights = MatrixView(self._weights + some.start * self._order + 1, self._order, 1)
        self.steps.product(target, weights, degrees, (len(some), self._order - 1, size))


def _dim(irs: Sequence[o3.Irrep]) -> int:
    return sum(ir.dim for ir in irs)


def _rows(numbers: ArrayLike) -> NDArray[np.int32]:
    return np.asarray(numbers, dtype=np.int32)


def _block(matrix: NDArray[np.float64]) -> LinearMap:
    """A matrix of all rows."""
    inner, outer = matrix.shape
    return LinearMap(
        (inner, outer), ((DensePart(_rows(range(inner)), _rows(range(outer)), matrix),),)
    )


def _mixed(matrix: ArrayLike, nodes: sphere.Grid) -> LinearMap:
    """Sums of fields, point by point; ``matrix`` has a row for each sum."""
    points = nodes.shape[0] * nodes.shape[1]
    return _block(np.kron(np.transpose(matrix), np.eye(points)))


def _joined(first: LinearMap, second: LinearMap) -> LinearMap:
    """One map after the other."""
    return LinearMap((*first.widths, *second.widths[1:]), first.stages + second.stages)

r"""The complete fast product: every Clebsch-Gordan path from pointwise products on the sphere.

For each pair of degrees the values of two signals multiply to their even paths and their Poisson
bracket holds all odd ones,

.. math::
    \int Y_{l_1} Y_{l_2} Y_{l_3} = g\, w, \qquad \int \{Y_{l_1}, Y_{l_2}\} Y_{l_3} = k\, w,

with :math:`g, k > 0` on every path that symmetry allows, so that dividing by them leaves c = 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import Form
from etp.kernels.on_gpu.grid_data import Signal, Stage, Triple
from etp.kernels.on_gpu.lying import Lying
from etp.kernels.on_gpu.triton_grid import grid_form
from etp.maths import so3, sphere
from etp.product.base import Path, TensorProduct
from etp.product.layout import slices
from etp.product.registry import register
from etp.product.weighting import met
from etp.products import _fields as fields
from etp.products._described import Described
from etp.products._description import ONE_SLOT
from etp.products._forms import form
from etp.products._plain import Plain, in_pytorch
from etp.products._transforms import Sector, sectors

SHRINK = 0.9
"""Each grid serves pairs down to this fraction of its largest l1 + l2 (measured)."""


_RULES = (
    (so3.gaunt_coefficient, (((0, 0), 1),)),
    (so3.bracket_coefficient, (((1, 2), 1), ((2, 1), -1))),
)
"""Size of a path, and which fields multiply to it: 0 the value, 1 and 2 the gradient."""

_Pair = tuple[o3.Irrep, o3.Irrep]


class _Group(NamedTuple):
    """Pairs of one irrep of input 1 with neighbours in input 2 of equal parity of the degree.

    Irreps by number: the compiler cannot guard e3nn's.
    """

    first: int
    partners: slice
    even: bool
    odd: bool
    parity: int


class _Level:
    """One grid: exact for every pair with l1 + l2 <= top, whatever the output."""

    def __init__(self, owner: TensorProduct, top: int, pairs: Sequence[_Pair]) -> None:
        self.top = top
        self._name = f"level{top}"
        nodes = sphere.grid(top + 1, 2 * top + 1)
        self.points = (top + 1) * (2 * top + 1)
        self.irs_in1 = sorted({ir1 for ir1, _ in pairs})
        # Neighbours in this order are the partners of one irrep: no copy is made of them.
        self.irs_in2 = sorted({ir2 for _, ir2 in pairs}, key=lambda ir: (ir.l % 2, ir))
        self._to = [
            [self._field(owner, which, ir, irs, nodes) for ir in used]
            for which, used, irs in (
                (1, self.irs_in1, owner.irs_in1),
                (2, self.irs_in2, owner.irs_in2),
            )
        ]
        self._from = {
            q: fields.FieldTransform(
                owner, f"{self._name}_out{q}", _degrees(q, top), nodes,
                [fields.value(top - (top - q) % 2, nodes)], back=True,
            )
            for q in ((0, 1) if top else (0,))
        }  # fmt: skip
        odd_pairs = {path[:2] for path in owner.paths if sum(ir.l for ir in path[:3]) % 2}
        even_pairs = {path[:2] for path in owner.paths if not sum(ir.l for ir in path[:3]) % 2}
        self.groups = []
        for number, ir1 in enumerate(self.irs_in1):
            for q in (0, 1):
                found = [i for i, ir2 in enumerate(self.irs_in2)
                         if ir2.l % 2 == q and (ir1, ir2) in set(pairs)]  # fmt: skip
                if found:
                    block = slice(found[0], found[-1] + 1)
                    met = {(ir1, ir2) for ir2 in self.irs_in2[block]}
                    self.groups.append(
                        _Group(number, block, bool(met & even_pairs), bool(met & odd_pairs),
                               (ir1.l + q) % 2)
                    )  # fmt: skip

    def _field(
        self,
        owner: TensorProduct,
        which: int,
        ir: o3.Irrep,
        irs: Sequence[o3.Irrep],
        nodes: sphere.Grid,
    ) -> fields.FieldTransform:
        start = slices(irs)[irs.index(ir)].start
        m = torch.arange(-ir.l, ir.l + 1)
        sector = Sector(torch.full_like(m, ir.l), m, start + torch.arange(ir.dim), False, ir.l)
        made = (fields.value(ir.l, nodes), *fields.gradient(ir.l, nodes))
        name = f"{self._name}_in{which}_{ir}"
        return fields.FieldTransform(
            owner, name, sector, nodes, made, back=False, dense_points=int(1e9)
        )

    def multiply(self, x1: Tensor, x2: Tensor) -> Iterator[Tensor]:
        """Signals read off, in the order of :meth:`blocks`: (N, partners x components)."""
        first = [t.to_grid(x1) for t in self._to[0]]
        second = [t.to_grid(x2) for t in self._to[1]]
        f2, b2, a2 = (torch.stack(found, dim=1) for found in zip(*second, strict=True))
        for group in self.groups:
            f1, b1, a1 = (field[:, None] for field in first[group.first])
            k = group.partners
            if group.even:
                yield self._read(met(f1, f2[:, k]), group.parity)
            if group.odd:
                signals = met(b1, a2[:, k]) - met(a1, b2[:, k])
                yield self._read(signals, 1 - group.parity)

    def _read(self, signals: Tensor, parity: int) -> Tensor:
        return self._from[parity].from_grid([signals.flatten(0, 1)]).reshape(signals.shape[0], -1)

    def blocks(self) -> Iterator[tuple[o3.Irrep, o3.Irrep, int]]:
        """What :meth:`multiply` yields: pair and parity of l3 of each run of components."""
        for group in self.groups:
            wanted = [group.parity] * group.even + [1 - group.parity] * group.odd
            for q in wanted:
                for ir2 in self.irs_in2[group.partners]:
                    yield self.irs_in1[group.first], ir2, q

    def width(self, parity: int) -> int:
        """Components of all l3 <= top of one parity."""
        return len(_degrees(parity, self.top).degrees)

    def second_macs(self) -> int:
        """Transforms of input 2."""
        return sum(t.macs for t in self._to[1])

    def macs(self) -> int:
        """Transforms, products on the grid, and readings."""
        total = sum(t.macs for side in self._to for t in side)
        for group in self.groups:
            partners = group.partners.stop - group.partners.start
            even = self.points + self._from[group.parity].macs if group.even else 0
            odd = 2 * self.points + self._from[1 - group.parity].macs if group.odd else 0
            total += partners * (even + odd)
        return total


class PairGrids(NamedTuple):
    """Every pair of irreps on a grid of its own: the description of all paths apart.

    Attributes:
        irs_in1: Irreps of input 1.
        irs_in2: Of input 2.
        irs_out: Of the output, one for each path.
        paths: Triples of irreps.
    """

    irs_in1: Sequence[o3.Irrep]
    irs_in2: Sequence[o3.Irrep]
    irs_out: Sequence[o3.Irrep]
    paths: Sequence[Path]

    @property
    def slots(self) -> Sequence[Sequence[int]]:
        """One for each component."""
        return ONE_SLOT


@register
class Complete(Described):
    r"""Clebsch-Gordan product, path by path, on a few grids that are tight for their pairs.

    :math:`f_{l_1} h_{l_2}` and :math:`\{f_{l_1}, h_{l_2}\}` are polynomials of degree l1 + l2, so a
    grid of l1 + l2 + 1 by 2 (l1 + l2) + 1 points serves every l3. Fields of an input are shared by
    all pairs of a grid. Multiply-adds grow like L^5 where signals are read row by row, and like L^6
    while grids are small enough that one dense matrix is faster; the output alone is L^4.
    """

    name, title = "complete", "Complete (products and brackets)"
    reference = "arXiv:2602.21466; Elsasser integrals (James 1973)"
    keeps_paths = True
    weights_per = "path"
    broadcasts = True

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def describe(self) -> PairGrids:
        return PairGrids(self.irs_in1, self.irs_in2, self.irs_out, self.paths)


class PlainLevels(Plain):
    """Pairs on a few grids, each exact for all pairs up to some l1 + l2.

    Args:
        owner: Product that keeps the tables.
    """

    def __init__(self, owner: TensorProduct) -> None:
        self._owner = owner
        pairs = {path[:2] for path in owner.paths}
        self._levels = []
        top, below = max(a.l + b.l for a, b in pairs), -1
        while below is not None and top >= 0:
            below = min(top - 1, ceil(SHRINK * top) - 1)
            here = sorted(pair for pair in pairs if below < pair[0].l + pair[1].l <= top)
            if here:
                self._levels.append(_Level(owner, max(a.l + b.l for a, b in here), here))
            top = below
        self._arrange()

    def _arrange(self) -> None:
        """Where each output component lies among what the levels yield, and its factor."""
        starts: dict[tuple[o3.Irrep, o3.Irrep, int], int] = {}
        start = 0
        for level in self._levels:
            for ir1, ir2, q in level.blocks():
                starts[ir1, ir2, q] = start
                start += level.width(q)
        index, factors = [], []
        for path in self._owner.paths:
            l1, l2, l3 = (ir.l for ir in path[:3])
            q = l3 % 2
            # Degrees q, q + 2, .., l3 - 2 come first: l3 (l3 - 1) / 2 components in all.
            first = starts[path.ir_in1, path.ir_in2, q] + l3 * (l3 - 1) // 2
            index.append(torch.arange(first, first + path.ir_out.dim))
            size = so3.bracket_coefficient if (l1 + l2 + l3) % 2 else so3.gaunt_coefficient
            factor = torch.tensor(1 / size(l1, l2, l3), dtype=torch.float64)
            factors.append(factor.expand(path.ir_out.dim))
        self._dim = sum(map(len, index))
        self._owner.register_buffer("places", torch.cat(index), persistent=False)
        self._owner.register_table("factors", torch.cat(factors))

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        parts = [part for level in self._levels for part in level.multiply(x1, x2)]
        read = torch.cat(parts, dim=1).index_select(1, self._owner.index("places"))
        return read * self._owner.table("factors", x1.dtype)

    @override
    def macs(self, sides: Sequence[int] = (0, 1, 2)) -> int:
        if len(sides) < 3:
            return sum(level.second_macs() for level in self._levels) if 1 in sides else 0
        return sum(level.macs() for level in self._levels) + self._dim


@in_pytorch.register
def _(pairs: PairGrids, owner: TensorProduct, beside: Plain | None = None) -> Plain:
    return PlainLevels(owner)


@form.register
def _(pairs: PairGrids, lies: Lying, device: torch.device) -> Form | None:
    """A stage for each pair, on the grid that is tight for it: few tiles are held at a time."""
    parts, stages = _Parts(lies), []
    for (a, ir1), (b, ir2) in product(enumerate(pairs.irs_in1), enumerate(pairs.irs_in2)):
        found = [n for n, path in enumerate(pairs.paths) if path[:2] == (ir1, ir2)]
        if not found:
            continue
        top = max(pairs.irs_out[n].l for n in found)
        nodes = sphere.grid(*sphere.exact_resolution(ir1.l, ir2.l, top))
        inputs = _signals(a, ir1, nodes), _signals(b, ir2, nodes)
        outputs: list[Signal] = []
        terms: list[Triple] = []
        for size, rule in _RULES:
            factors = {n: size(ir1.l, ir2.l, pairs.irs_out[n].l) for n in found}
            read = [n for n in found if factors[n] > so3.ZERO]
            if read:
                terms += [Triple((*met, len(outputs)), sign) for met, sign in rule]
                matrices = [_harmonics(pairs.irs_out[n], nodes) / factors[n] for n in read]
                outputs.append(Signal(parts.joined(read), torch.cat(matrices, dim=1)))
        stages.append(Stage((*inputs, outputs), terms))
    return grid_form(parts.found, stages, device)


class _Parts:
    """Where the components of each irrep lie, and of what is read off together."""

    def __init__(self, lies: Lying) -> None:
        irs = (lies.irs_in1, lies.irs_in2, lies.irs_out)
        blocks = [
            [index[:, part] for part in slices(side)]
            for index, side in zip(lies.places(), irs, strict=True)
        ]
        self._outputs = blocks[2]
        self.found: list[list[Tensor]] = [*blocks[:2], []]

    def joined(self, paths: Sequence[int]) -> int:
        """Number of a new part that holds the outputs of some paths."""
        self.found[2].append(torch.cat([self._outputs[n] for n in paths], dim=1))
        return len(self.found[2]) - 1


def _signals(part: int, ir: o3.Irrep, nodes: sphere.Grid) -> list[Signal]:
    """Value and gradient of one irrep's signal."""
    (sector,) = sectors([ir]).values()
    made = (fields.value(ir.l, nodes), *fields.gradient(ir.l, nodes))
    return [Signal(part, field.matrix(sector).T) for field in made]


def _harmonics(ir: o3.Irrep, nodes: sphere.Grid) -> Tensor:
    """What reads an irrep off a grid: (points, components)."""
    (sector,) = sectors([ir]).values()
    return fields.value(ir.l, nodes).weighted(nodes).matrix(sector).T


def _degrees(parity: int, top: int) -> Sector:
    """All (l, m) with l <= top of one parity."""
    l, m = sphere.degrees_orders(top)
    kept = l % 2 == parity
    return Sector(l[kept], m[kept], torch.arange(int(kept.sum())), True, int(l[kept].max()))

"""Clebsch-Gordan products pair by pair: fields of each pair of degrees, multiplied on tight grids.

A product says which fields its inputs make, which of them are multiplied and what the products are
read with; how far a read component is from ``wigner_3j`` is divided out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.kernels.multilinear import Form
from etp.kernels.on_gpu.grid_data import Signal, Stage, Triple
from etp.kernels.on_gpu.lying import Lying
from etp.kernels.on_gpu.triton_grid import grid_form
from etp.maths import so3, sphere
from etp.maths.layout import slices
from etp.product.base import Path, TensorProduct
from etp.product.weighting import met
from etp.products import _fields as fields
from etp.products._described import Described
from etp.products._description import ONE_SLOT
from etp.products._forms import form
from etp.products._plain import Plain, in_pytorch
from etp.products._transforms import Sector, sectors

SHRINK = 0.9
"""Each grid serves pairs down to this fraction of its largest l1 + l2 (measured)."""


class ParityRule(NamedTuple):
    """How the paths of one parity of l1 + l2 + l3 are made.

    Attributes:
        size: Coefficient of what is read.
        terms: For each product of fields its summands: numbers of both inputs' fields, and a sign.
        read: Fields that the products are read with, of degrees up to the first argument.
    """

    size: Callable[[int, int, int], float]
    terms: Sequence[Sequence[tuple[int, int, int]]]
    read: Callable[[int, sphere.Grid], Sequence[fields.Field]]


class Scheme(NamedTuple):
    """Fields of each input, of one degree, and the rules for even and odd paths."""

    first: Callable[[int, sphere.Grid], Sequence[fields.Field]]
    second: Callable[[int, sphere.Grid], Sequence[fields.Field]]
    rules: tuple[ParityRule, ParityRule]


def values(lmax: int, nodes: sphere.Grid) -> list[fields.Field]:
    """The signal alone."""
    return [fields.value(lmax, nodes)]


def values_and_gradient(lmax: int, nodes: sphere.Grid) -> list[fields.Field]:
    """The signal and both components of its gradient."""
    return [fields.value(lmax, nodes), *fields.gradient(lmax, nodes)]


EVEN = ParityRule(so3.gaunt_coefficient, [[(0, 0, 1)]], values)
"""The product of two signals."""

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

    def read(self) -> Iterator[tuple[int, int]]:
        """What is read: even (0) or odd (1) paths, and the parity of their l3."""
        if self.even:
            yield 0, self.parity
        if self.odd:
            yield 1, 1 - self.parity


class _Level:
    """One grid: exact for every pair with l1 + l2 <= top, whatever the output."""

    def __init__(
        self, owner: TensorProduct, scheme: Scheme, top: int, pairs: Sequence[_Pair]
    ) -> None:
        self.top, self._rules = top, scheme.rules
        self._name = f"level{top}"
        nodes = sphere.grid(top + 1, 2 * top + 1)
        self.points = (top + 1) * (2 * top + 1)
        self.irs_in1 = sorted({ir1 for ir1, _ in pairs})
        # Neighbours in this order are the partners of one irrep: no copy is made of them.
        self.irs_in2 = sorted({ir2 for _, ir2 in pairs}, key=lambda ir: (ir.l % 2, ir))
        self._to = [
            [self._field(owner, which, ir, irs, nodes, made(ir.l, nodes)) for ir in used]
            for which, used, irs, made in (
                (1, self.irs_in1, owner.irs_in1, scheme.first),
                (2, self.irs_in2, owner.irs_in2, scheme.second),
            )
        ]
        odd_pairs = {path[:2] for path in owner.paths if sum(ir.l for ir in path[:3]) % 2}
        even_pairs = {path[:2] for path in owner.paths if not sum(ir.l for ir in path[:3]) % 2}
        self.groups, known = [], set(pairs)
        for number, ir1 in enumerate(self.irs_in1):
            for q in (0, 1):
                partners = [i for i, ir2 in enumerate(self.irs_in2)
                         if ir2.l % 2 == q and (ir1, ir2) in known]  # fmt: skip
                if partners:
                    block = slice(partners[0], partners[-1] + 1)
                    met = {(ir1, ir2) for ir2 in self.irs_in2[block]}
                    self.groups.append(
                        _Group(number, block, bool(met & even_pairs), bool(met & odd_pairs),
                               (ir1.l + q) % 2)
                    )  # fmt: skip
        self._from = {
            (odd, q): self._reading(owner, odd, q, nodes)
            for group in self.groups
            for odd, q in group.read()
        }

    def _reading(
        self, owner: TensorProduct, odd: int, q: int, nodes: sphere.Grid
    ) -> fields.FieldTransform:
        read = self._rules[odd].read(self.top - (self.top - q) % 2, nodes)
        name = f"{self._name}_out{odd}{q}"
        return fields.FieldTransform(owner, name, _degrees(q, self.top), nodes, read, back=True)

    def _field(
        self,
        owner: TensorProduct,
        which: int,
        ir: o3.Irrep,
        irs: Sequence[o3.Irrep],
        nodes: sphere.Grid,
        made: Sequence[fields.Field],
    ) -> fields.FieldTransform:
        start = slices(irs)[irs.index(ir)].start
        m = torch.arange(-ir.l, ir.l + 1)
        sector = Sector(torch.full_like(m, ir.l), m, start + torch.arange(ir.dim), False, ir.l)
        name = f"{self._name}_in{which}_{ir}"
        return fields.FieldTransform(
            owner, name, sector, nodes, made, back=False, dense_points=int(1e9)
        )

    def multiply(self, x1: Tensor, x2: Tensor) -> Iterator[Tensor]:
        """Signals read off, in the order of :meth:`blocks`: (N, partners x components)."""
        first = [t.to_grid(x1) for t in self._to[0]]
        second = [t.to_grid(x2) for t in self._to[1]]
        stacked = [torch.stack(partners, dim=1) for partners in zip(*second, strict=True)]
        for group in self.groups:
            f = [field[:, None] for field in first[group.first]]
            h = [field[:, group.partners] for field in stacked]
            for odd, q in group.read():
                products = [_sum(f, h, terms) for terms in self._rules[odd].terms]
                signals = [signal.flatten(0, 1) for signal in products]
                read = self._from[odd, q].from_grid(signals)
                yield read.reshape(products[0].shape[0], -1)

    def blocks(self) -> Iterator[tuple[o3.Irrep, o3.Irrep, int]]:
        """What :meth:`multiply` yields: pair and parity of l3 of each run of components."""
        for group in self.groups:
            for _, q in group.read():
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
            for odd, q in group.read():
                products = sum(map(len, self._rules[odd].terms))
                total += partners * (products * self.points + self._from[odd, q].macs)
        return total


class PairGrids(NamedTuple):
    """Every pair of irreps on a grid of its own: the description of all paths apart.

    Attributes:
        irs_in1: Irreps of input 1.
        irs_in2: Of input 2.
        irs_out: Of the output, one for each path.
        paths: Triples of irreps.
        scheme: Fields, and how paths are made of them.
    """

    irs_in1: Sequence[o3.Irrep]
    irs_in2: Sequence[o3.Irrep]
    irs_out: Sequence[o3.Irrep]
    paths: Sequence[Path]
    scheme: Scheme

    @property
    def slots(self) -> Sequence[Sequence[int]]:
        """One for each component."""
        return ONE_SLOT


class PairwiseProduct(Described):
    """Every Clebsch-Gordan path, on a few grids that are tight for their pairs.

    Attributes:
        scheme: Fields, and how paths are made of them (class attribute).
    """

    keeps_paths = True
    weights_per = "path"
    broadcasts = True
    scheme: ClassVar[Scheme]

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def describe(self) -> PairGrids:
        return PairGrids(self.irs_in1, self.irs_in2, self.irs_out, self.paths, self.scheme)


class PlainLevels(Plain):
    """Pairs on a few grids, each exact for all pairs up to some l1 + l2.

    Args:
        owner: Product that keeps the tables.
        scheme: Fields, and how paths are made of them.
    """

    def __init__(self, owner: TensorProduct, scheme: Scheme) -> None:
        self._owner, self._rules = owner, scheme.rules
        pairs = {path[:2] for path in owner.paths}
        self._levels = []
        top, below = max(a.l + b.l for a, b in pairs), -1
        while below is not None and top >= 0:
            below = min(top - 1, ceil(SHRINK * top) - 1)
            here = sorted(pair for pair in pairs if below < pair[0].l + pair[1].l <= top)
            if here:
                own = max(a.l + b.l for a, b in here)
                self._levels.append(_Level(owner, scheme, own, here))
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
            size = self._rules[(l1 + l2 + l3) % 2].size(l1, l2, l3)
            factor = torch.tensor(1 / size, dtype=torch.float64)
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
    return PlainLevels(owner, pairs.scheme)


@form.register
def _(pairs: PairGrids, lies: Lying, device: torch.device, dtype: torch.dtype) -> Form | None:
    """A stage for each pair, on the grid that is tight for it: few tiles are held at a time."""
    parts, stages = _Parts(lies), []
    for (a, ir1), (b, ir2) in product(enumerate(pairs.irs_in1), enumerate(pairs.irs_in2)):
        numbers = [n for n, path in enumerate(pairs.paths) if path[:2] == (ir1, ir2)]
        if not numbers:
            continue
        top = max(pairs.irs_out[n].l for n in numbers)
        nodes = sphere.grid(*sphere.exact_resolution(ir1.l, ir2.l, top))
        inputs = (
            _signals(a, ir1, pairs.scheme.first(ir1.l, nodes)),
            _signals(b, ir2, pairs.scheme.second(ir2.l, nodes)),
        )
        outputs: list[Signal] = []
        terms: list[Triple] = []
        for rule in pairs.scheme.rules:
            factors = {n: rule.size(ir1.l, ir2.l, pairs.irs_out[n].l) for n in numbers}
            read = [n for n in numbers if factors[n] > so3.ZERO]
            if not read:
                continue
            part = parts.joined(read)
            for field, summands in enumerate(rule.terms):
                terms += [Triple((i, j, len(outputs)), sign) for i, j, sign in summands]
                matrices = [
                    _reading(rule, field, pairs.irs_out[n], nodes) / factors[n] for n in read
                ]
                outputs.append(Signal(part, torch.cat(matrices, dim=1)))
        stages.append(Stage((*inputs, outputs), terms))
    return grid_form(parts.sides, stages, device, dtype)


class _Parts:
    """Where the components of each irrep lie, and of what is read off together."""

    def __init__(self, lies: Lying) -> None:
        irs = (lies.irs_in1, lies.irs_in2, lies.irs_out)
        blocks = [
            [index[:, part] for part in slices(side)]
            for index, side in zip(lies.places(), irs, strict=True)
        ]
        self._outputs = blocks[2]
        self.sides: list[list[Tensor]] = [*blocks[:2], []]

    def joined(self, paths: Sequence[int]) -> int:
        """Number of a new part that holds the outputs of some paths."""
        self.sides[2].append(torch.cat([self._outputs[n] for n in paths], dim=1))
        return len(self.sides[2]) - 1


def _sum(f: Sequence[Tensor], h: Sequence[Tensor], terms: Sequence[tuple[int, int, int]]) -> Tensor:
    """Products of fields, added up with their signs."""
    products = [met(f[i], h[j]) if sign == 1 else -met(f[i], h[j]) for i, j, sign in terms]
    return products[0] if len(products) == 1 else sum(products[1:], products[0])


def _signals(part: int, ir: o3.Irrep, made: Sequence[fields.Field]) -> list[Signal]:
    """Fields of one irrep."""
    (sector,) = sectors([ir]).values()
    return [Signal(part, field.matrix(sector).T) for field in made]


def _reading(rule: ParityRule, number: int, ir: o3.Irrep, nodes: sphere.Grid) -> Tensor:
    """What reads an irrep off one product on a grid: (points, components)."""
    (sector,) = sectors([ir]).values()
    return rule.read(ir.l, nodes)[number].weighted(nodes).matrix(sector).T


def _degrees(parity: int, top: int) -> Sector:
    """All (l, m) with l <= top of one parity."""
    l, m = sphere.degrees_orders(top)
    kept = l % 2 == parity
    return Sector(l[kept], m[kept], torch.arange(int(kept.sum())), True, int(l[kept].max()))

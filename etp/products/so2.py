r"""Convolution with the spherical harmonics of a direction, in a frame that looks along it (eSCN).

With the polar axis turned to the direction, all components of :math:`Y(d)` but m = 0 vanish and a
path couples only equal orders :math:`|m|`: the product becomes one small matrix for each order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import pi, sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.maths import so3
from etp.maths.layout import slices
from etp.product.base import TensorProduct
from etp.product.edge_table import Scaled, TableEdge
from etp.product.registry import register
from etp.product.weighting import Per, Split, met
from etp.products._frames import Angle, Frame, Harmonics, along, times_i, turned_axes
from etp.products._so2_nodes import along_direction, is_pseudo


class _Features:
    """Irreps of one channel as rows of equal width, order m at W // 2 + m.

    Places with ``|m| > l`` hold anything before the first turning matrix and zero after it. Along
    the directions only orders up to ``mmax`` are kept, all where it is None.
    """

    def __init__(
        self, owner: TensorProduct, name: str, irs: Sequence[o3.Irrep], mmax: int | None = None
    ) -> None:
        self._owner, self._name = owner, name
        lmax = max(ir.l for ir in irs)
        self.irreps, self.width = len(irs), 2 * lmax + 1
        top = lmax if mmax is None else min(lmax, mmax)
        self.kept = 2 * top + 1
        degrees = turned_axes(lmax)
        turn = torch.zeros(len(irs), self.width, self.width, dtype=torch.float64)
        source = torch.zeros(len(irs), self.width, dtype=torch.int64)
        places = []
        for row, (ir, part) in enumerate(zip(irs, slices(irs), strict=True)):
            inside = slice(lmax - ir.l, lmax + ir.l + 1)
            turn[row, inside, inside] = degrees[ir.l]
            source[row] = part.start
            source[row, inside] = torch.arange(part.start, part.stop)
            places.append(row * self.width + lmax - ir.l + torch.arange(ir.dim))
        # Pseudo irreps: the pair (m, -m) as a complex number times i, so that every path is real.
        mixed = turn.clone()
        for row, ir in enumerate(irs):
            if ir.p != (-1) ** ir.l:
                mixed[row] = times_i(turn[row])
        owner.register_table(f"{name}_turn", turn)
        owner.register_table(f"{name}_mixed", mixed[:, lmax - top : lmax + top + 1])
        owner.register_buffer(f"{name}_source", source.flatten(), persistent=False)
        owner.register_buffer(f"{name}_places", torch.cat(places), persistent=False)
        self.macs = sum(ir.dim * (ir.dim + min(ir.dim, self.kept) + 4) for ir in irs)

    def spread(self, x: Tensor) -> Tensor:
        """(N, components) to (N, irreps, width)."""
        source = self._owner.index(f"{self._name}_source")
        return x.index_select(1, source).unflatten(1, (-1, self.width))

    def collect(self, z: Tensor) -> Tensor:
        """(N, irreps, width) to (N, components)."""
        return z.flatten(1).index_select(1, self._owner.index(f"{self._name}_places"))

    def apply(self, x: Tensor, name: str, *, inverse: bool = False) -> Tensor:
        """Multiply each irrep by its ``turn`` or ``mixed`` matrix, or by the transpose."""
        matrix = self._owner.table(f"{self._name}_{name}", x.dtype)
        matrix = matrix if inverse else matrix.mT
        return torch.bmm(x.transpose(0, 1), matrix).transpose(0, 1)

    def inwards(self, x: Tensor, frame: Frame) -> Tensor:
        """Features (N, irreps, width) as seen along the directions, one for N / E rows.

        Returns:
            Shape (N, irreps, kept).
        """
        x = _where(frame.near, lambda: self.apply(x, "turn", inverse=True), x)
        x = self.apply(_turn(x, frame.alpha, -1), "turn", inverse=True)
        return self.apply(_turn(x, frame.beta, -1), "mixed")

    def outwards(self, z: Tensor, frame: Frame) -> Tensor:
        """Inverse of :meth:`inwards`."""
        z = self.apply(z, "mixed", inverse=True)
        z = _turn(self.apply(_turn(z, frame.beta, 1), "turn"), frame.alpha, 1)
        return _where(frame.near, lambda: self.apply(z, "turn"), z)

    def matrices(self, turn: Callable[[Tensor, Frame], Tensor], frame: Frame, width: int) -> Tensor:
        """What a turn does to rows, one matrix for each direction and irrep: (E, irreps, w, w')."""
        edges = frame.alpha[0].shape[0]
        unit = torch.eye(width, dtype=frame.alpha[0].dtype, device=frame.alpha[0].device)
        rows = unit[:, None].expand(edges, width, self.irreps, width).flatten(0, 1)
        return turn(rows, frame).unflatten(0, (edges, width)).transpose(1, 2)


class SO2Edge(TableEdge):
    """Edge product of the family: what each weight scales, as couplings with harmonics.

    Many channels look along one direction, so that what turns them is made once: not of turns, but
    of harmonics of every degree of the direction.
    """

    whole: SO2

    @override
    def build(self) -> None:
        self._vector = slices(self.irs_in2)[self.irs_in2.index(o3.Irrep(1, -1))]
        self._harmonics = Harmonics(self, self.lmax_in1 + self.lmax_out)
        super().build()

    @property
    @override
    def second_numel(self) -> int:
        return self._harmonics.numel

    @override
    def second(self, x2: Tensor) -> Tensor:
        size, harmonics = self._harmonics.of(x2[:, self._vector], x2.dtype)
        return harmonics * size.to(x2.dtype)

    @override
    def couplings(self) -> Iterator[Scaled]:
        for ir_in1, ir_out, strengths in self.whole.parts():
            quarters = is_pseudo(ir_in1) - is_pseudo(ir_out)
            orders = strengths[len(strengths) // 2 :]
            values = [
                strength * along_direction(m, ir_in1.l, ir_out.l, quarters)
                for m, strength in enumerate(orders.tolist())
                if strength
            ]
            start = (ir_in1.l - ir_out.l) ** 2
            yield Scaled(ir_in1, self.irs_out.index(ir_out), start, torch.stack(values).sum(0))


@register
class SO2(TensorProduct):
    r"""Clebsch-Gordan product with :math:`s Y(d)`, s > 0: every path weighted, then added up.

    c = 1, on inputs of this kind only: the direction d and the size s are read from the 1o part of
    input 2 (``integral`` harmonics have s = 1), its other degrees are taken to be those of s Y(d).
    :math:`z = D(R)\, W\, D(R)^T x` with R y = d and, for each order, :math:`W_m = \sum h
    \sqrt{(2l_2+1)/4\pi}\, w(l_1,l_2,l_3)_{\pm m,0,m}`: 1 + 4 min(l1, l3) numbers for a pair of
    degrees. D(R) is four turns about the polar axis and fixed matrices, :math:`2 \sum (2l+1)^2` for
    each side. Derivatives by the direction are right everywhere, the poles included.
    """

    name, title = "so2", "SO(2) convolution (eSCN)"
    reference = "Passaro and Zitnick 2023, arXiv:2302.03655"
    weights_per: ClassVar[Per] = "path"
    bilinear = False
    rule = "direction"
    broadcasts = True

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
    ) -> None:
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)
        self._in, self._out = (
            _Features(self, "features_in", self.irs_in1, self.top),
            _Features(self, "features_out", self.irs_out, self.top),
        )
        vector = self.irs_in2.index(o3.Irrep(1, -1))
        self._direction = slices(self.irs_in2)[vector]
        parts = list(self.parts())
        blocks = torch.stack([strengths for _, _, strengths in parts])
        self._pairs = len(self.irs_in1), len(self.irs_out)
        pairs = [
            self.irs_in1.index(ir_in1) * len(self.irs_out) + self.irs_out.index(ir_out)
            for ir_in1, ir_out, _ in parts
        ]
        spread = torch.zeros(len(parts), self._pairs[0] * self._pairs[1], self._in.kept,
                             dtype=torch.float64)  # fmt: skip
        spread[torch.arange(len(parts)), pairs] = blocks
        self.register_table("spread", spread.flatten(1))
        self.register_table("whole", spread.sum(0))

    @classmethod
    @override
    def edge_class(cls) -> type[TensorProduct]:
        return SO2Edge

    @property
    def top(self) -> int | None:
        """Largest order that is computed, None for all."""
        return None

    def parts(self) -> Iterator[tuple[o3.Irrep, o3.Irrep, Tensor]]:
        """What each weight scales: irreps of input 1 and output, and a strength for each order."""
        for path in self.paths:
            yield path.ir_in1, path.ir_out, self._block(*path[:3])

    def _block(self, ir1: o3.Irrep, ir2: o3.Irrep, ir3: o3.Irrep) -> Tensor:
        """Strength of one path for each order of input 1, in the places of its features."""
        strengths = torch.zeros(self._in.kept, dtype=torch.float64)
        values = _strengths(ir1.l, ir2.l, ir3.l)
        odd = (ir1.l + ir2.l + ir3.l) % 2
        sign = -1.0 if odd and ir1.p != (-1) ** ir1.l else 1.0
        centre = self._in.kept // 2
        for m in range(odd, min(ir1.l, ir3.l) + 1):
            strengths[[centre - m, centre + m]] = sign * values[m]
        return strengths

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self._convolve(x1, x2, self.table("whole", x1.dtype)[None])

    @override
    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        whole = weights @ self.table("spread", x1.dtype)
        return self._convolve(x1, x2, whole.unflatten(1, (-1, self._in.kept)))

    def _convolve(self, x1: Tensor, x2: Tensor, strengths: Tensor) -> Tensor:
        """``strengths``: (G, pairs, width), row n of input 1 uses row n mod G."""
        top = max(self._in.width, self._out.width) // 2
        size, frame = along(x2[:, self._direction], top, x1.dtype)
        x = self._in.spread(met(x1, size.to(x1.dtype)))
        if x1.shape[0] // x2.shape[0] <= max(self._in.width, self._out.width):
            z = self._mix(self._in.inwards(x, frame), strengths)
            return self._out.collect(self._out.outwards(z, frame))
        # Many channels look along one direction: its matrices, once, are cheaper than the turns.
        inwards = self._in.matrices(self._in.inwards, frame, self._in.width)
        outwards = self._out.matrices(self._out.outwards, frame, self._out.kept)
        z = self._mix(_in_runs(x, inwards), strengths)
        return self._out.collect(_in_runs(z, outwards))

    def _mix(self, x: Tensor, strengths: Tensor) -> Tensor:
        """Couple irreps order by order: (N, in1, orders in) to (N, out, orders out)."""
        rows = x.unflatten(0, (-1, strengths.shape[0]))
        matrices = strengths.unflatten(1, self._pairs)
        z = torch.einsum("ngiw,giow->ngow", rows, matrices).flatten(0, 1)
        missing = (self._out.kept - self._in.kept) // 2
        return torch.nn.functional.pad(z, (missing, missing)) if missing else z

    @override
    def macs(self) -> int:
        couplings = int((self._tables["whole"] != 0).sum())
        top = max(self._in.width, self._out.width) // 2
        return self._in.macs + self._out.macs + couplings + 8 * top + self._dims[0]

    @override
    def weight_macs(self) -> int:
        return int((self._tables["spread"] != 0).sum())


@register
class SO2Linear(SO2):
    r"""SO(2) linear layer, as eSCN and UMA run it: a weight for each order, not for each path.

    Along the direction all degrees of input 1 are mixed with all of the output, order by order:
    :math:`z_{l_3,\pm m} = \sum_{l_1} w_{l_1 l_3 m}\, s_{l_1 l_3 m}\, x_{l_1,\pm m}`, to the
    natural outputs; to pseudo ones m and -m are exchanged with a sign (what there is the imaginary
    part of a complex weight: their outputs have no parity, and both are added up). Orders
    above ``mmax`` are left out. The fixed s are such that all weights at one give each path the
    coefficient 1, as long as no order is left out.

    Of input 2 only the direction counts: the paths are those with its harmonics of *every* degree,
    :math:`|l_1 - l_3|` to :math:`l_1 + l_3`, whichever of them input 2 holds. A weight of an order
    adds to all of them, and together the weights of all orders reach what weights of all paths do.
    Channels are kept apart here; eSCN mixes them in the same matrices.

    Args:
        irreps_in1: First input.
        irreps_in2: Second input: harmonics of a direction, 1o among them.
        filter_ir_out: Irreps of the output, of those that the given degrees reach; None for all.
        mmax: Largest order; None for the class's own, all orders for this one.
    """

    name, title = "so2-linear", "SO(2) linear layer (eSCN, UMA)"
    reference = "Passaro and Zitnick 2023, arXiv:2302.03655; UMA, arXiv:2506.23971"
    weights_per = "order"
    usual: ClassVar[int | None] = None

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Sequence[o3.Irrep] | None = None,
        mmax: int | None = None,
    ) -> None:
        if mmax is not None and mmax < 0:
            raise ValueError(f"mmax must be at least 0, got {mmax}")
        self.mmax = self.usual if mmax is None else mmax
        super().__init__(irreps_in1, irreps_in2, filter_ir_out=filter_ir_out)

    @property
    @override
    def top(self) -> int | None:
        shared = min(self.lmax_in1, self.lmax_out)
        return shared if self.mmax is None else min(shared, self.mmax)

    @override
    def candidates(self) -> list[tuple[o3.Irrep, o3.Irrep, o3.Irrep]]:
        outs = dict.fromkeys(ir_out for _, _, ir_out in super().candidates())
        return [
            (ir1, o3.Irrep(l, (-1) ** l), ir_out)
            for ir1 in self.irs_in1
            for ir_out in outs
            for l in range(abs(ir1.l - ir_out.l), ir1.l + ir_out.l + 1)
            if ir1.p * (-1) ** l == ir_out.p
        ]

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return sum(piece.coefficient for piece in self.split(ir_in1, ir_in2, ir_out))

    @override
    def split(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> Iterator[Split]:
        odd = (ir_in1.l + ir_in2.l + ir_out.l) % 2
        orders = _orders(ir_in1.l, ir_out.l, odd)
        for m, value in zip(orders.orders, orders.adds[ir_in2.l], strict=True):
            if self.mmax is None or m <= self.mmax:
                yield Split(0, 0, m, value)

    @override
    def parts(self) -> Iterator[tuple[o3.Irrep, o3.Irrep, Tensor]]:
        centre = self._in.kept // 2
        for factor in self.weighting.factors:
            ir_in1, ir_out = factor.target
            m, odd = factor.number, int(ir_in1.p * (-1) ** (ir_in1.l + ir_out.l) != ir_out.p)
            orders = _orders(ir_in1.l, ir_out.l, odd)
            sign = -1.0 if odd and ir_in1.p != (-1) ** ir_in1.l else 1.0
            strengths = torch.zeros(self._in.kept, dtype=torch.float64)
            strengths[[centre - m, centre + m]] = sign * orders.sizes[orders.orders.index(m)]
            yield ir_in1, ir_out, strengths


@register
class SO2Linear2(SO2Linear):
    """The same with orders up to 2 only: what turns and mixes no longer grows with all orders."""

    name, title, usual = "so2-linear-2", "SO(2) linear layer, mmax 2", 2


class _Orders(NamedTuple):
    """Orders of a pair of degrees, and what they are as paths.

    Attributes:
        orders: Orders m that the paths of this parity have.
        sizes: Strength of each order where all paths have coefficient 1.
        adds: For each degree of input 2 what each order adds to its coefficient.
    """

    orders: tuple[int, ...]
    sizes: tuple[float, ...]
    adds: dict[int, tuple[float, ...]]


@cache
def _orders(l1: int, l3: int, odd: int) -> _Orders:
    orders = tuple(range(odd, min(l1, l3) + 1))
    degrees = [l2 for l2 in range(abs(l1 - l3), l1 + l3 + 1) if (l1 + l2 + l3) % 2 == odd]
    strengths = torch.stack([_strengths(l1, l2, l3)[list(orders)] for l2 in degrees], dim=1)
    sizes = strengths.sum(1)
    # As many paths as orders: each set of strengths is one of coefficients.
    adds = torch.linalg.inv(strengths) * sizes
    rows = {l2: tuple(row) for l2, row in zip(degrees, adds.tolist(), strict=True)}
    return _Orders(orders, tuple(sizes.tolist()), rows)


def _strengths(l1: int, l2: int, l3: int) -> Tensor:
    """Strength of a path with coefficient 1 for each order m = 0, 1, ..., min(l1, l3)."""
    odd = (l1 + l2 + l3) % 2
    coupling = so3.clebsch_gordan(l1, l2, l3)[:, l2] * sqrt((2 * l2 + 1) / 4 / pi)
    orders = torch.arange(min(l1, l3) + 1)
    return coupling[l1 + (-orders if odd else orders), l3 + orders]


def _turn(x: Tensor, angle: Angle, sign: int) -> Tensor:
    """Turn features (N, irreps, width) about the polar axis by angles or their negatives."""
    cosines, sines = (_middle(t, x.shape[-1])[:, None] for t in angle)
    runs = x.reshape(cosines.shape[0], -1, x.shape[-1])
    return (runs * cosines - sign * runs.flip(-1) * sines).reshape(x.shape)


def _where(near: Tensor | None, turned: Callable[[], Tensor], x: Tensor) -> Tensor:
    """Rows of the directions near a pole turned, the others as they are."""
    if near is None:
        return x
    return torch.where(
        near.repeat_interleave(x.shape[0] // near.shape[0], dim=0)[:, :, None], turned(), x
    )


def _in_runs(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiply runs of rows, (E * U, irreps, w), by the matrices of their edge."""
    runs = x.unflatten(0, (matrices.shape[0], -1)).transpose(1, 2)
    return (runs @ matrices).transpose(1, 2).flatten(0, 1)


def _middle(orders: Tensor, width: int) -> Tensor:
    """The ``width`` middle columns."""
    start = (orders.shape[1] - width) // 2
    return orders[:, start : start + width]

r"""Convolution with the spherical harmonics of a direction, in a frame that looks along it (eSCN).

With the polar axis turned to the direction, all components of :math:`Y(d)` but m = 0 vanish and a
path couples only equal orders :math:`|m|`: the product becomes one small matrix for each order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from etp.e3 import o3
from etp.maths import so3
from etp.maths.layout import slices
from etp.product.base import TensorProduct
from etp.product.registry import register
from etp.product.weighting import met

Angle = tuple[Tensor, Tensor]
"""Cosine and sine."""

_AXES = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
"""Rotation Q with Q y = x, Q z = y, Q x = z: turns about y become turns about x."""
_NEAR_POLE = 0.8
"""Cosine from which derivatives are taken in turned axes: the azimuth has none at the pole."""


class _Features:
    """Irreps of one channel as rows of equal width, order m at W // 2 + m.

    Places with ``|m| > l`` hold anything before the first turning matrix and zero after it.
    """

    def __init__(self, owner: TensorProduct, name: str, irs: Sequence[o3.Irrep]) -> None:
        self._owner, self._name = owner, name
        lmax = max(ir.l for ir in irs)
        self.width = 2 * lmax + 1
        axes = torch.tensor(_AXES, dtype=torch.float64)[None]
        degrees = [d[0] for d in so3.wigner_d(lmax, axes)]
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
                mixed[row] = turn[row].flip(0)
                mixed[row, lmax + 1 :] *= -1.0
        owner.register_table(f"{name}_turn", turn)
        owner.register_table(f"{name}_mixed", mixed)
        owner.register_buffer(f"{name}_source", source.flatten(), persistent=False)
        owner.register_buffer(f"{name}_places", torch.cat(places), persistent=False)
        self.macs = sum(2 * ir.dim**2 + 4 * ir.dim for ir in irs)

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
        """Features (N, irreps, width) as seen along the directions, one for N / E rows."""
        x = _where(frame.near, lambda: self.apply(x, "turn", inverse=True), x)
        x = self.apply(_turn(x, frame.alpha, -1), "turn", inverse=True)
        return self.apply(_turn(x, frame.beta, -1), "mixed")

    def outwards(self, z: Tensor, frame: Frame) -> Tensor:
        """Inverse of :meth:`inwards`."""
        z = self.apply(z, "mixed", inverse=True)
        z = _turn(self.apply(_turn(z, frame.beta, 1), "turn"), frame.alpha, 1)
        return _where(frame.near, lambda: self.apply(z, "turn"), z)

    def matrices(self, turn: Callable[[Tensor, Frame], Tensor], frame: Frame) -> Tensor:
        """What a turn does to rows, one matrix for each direction and irrep: (E, irreps, w, w)."""
        edges, irreps = frame.alpha[0].shape[0], len(self._owner.get_buffer(f"{self._name}_source"))
        irreps //= self.width
        unit = torch.eye(self.width, dtype=frame.alpha[0].dtype, device=frame.alpha[0].device)
        rows = unit[:, None].expand(edges, self.width, irreps, self.width).flatten(0, 1)
        return turn(rows, frame).unflatten(0, (edges, self.width)).transpose(1, 2)


class Frame(NamedTuple):
    """Directions as turns: multiples of both angles for each order, (E, 2 top + 1).

    ``near`` says which directions are near the pole and given in turned axes, None for none.
    """

    alpha: Angle
    beta: Angle
    near: Tensor | None


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
    weights_per = "path"
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
            _Features(self, "features_in", self.irs_in1),
            _Features(self, "features_out", self.irs_out),
        )
        vector = self.irs_in2.index(o3.Irrep(1, -1))
        self._direction = slices(self.irs_in2)[vector]
        blocks = torch.stack([self._block(*path[:3]) for path in self.paths])
        self._pairs = len(self.irs_in1), len(self.irs_out)
        pairs = [
            self.irs_in1.index(path.ir_in1) * len(self.irs_out) + self.irs_out.index(path.ir_out)
            for path in self.paths
        ]
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)
        self.register_table("blocks", blocks)
        whole = torch.zeros(self._pairs[0] * self._pairs[1], self._in.width, dtype=torch.float64)
        whole.index_add_(0, self.index("pairs"), blocks)
        self.register_table("whole", whole)

    def _block(self, ir1: o3.Irrep, ir2: o3.Irrep, ir3: o3.Irrep) -> Tensor:
        """Strength of one path for each order of input 1, in the places of its features."""
        strengths = torch.zeros(self._in.width, dtype=torch.float64)
        coupling = so3.clebsch_gordan(ir1.l, ir2.l, ir3.l)[:, ir2.l] * sqrt(
            (2 * ir2.l + 1) / 4 / pi
        )
        odd = (ir1.l + ir2.l + ir3.l) % 2
        sign = -1.0 if odd and ir1.p != (-1) ** ir1.l else 1.0
        centre = self._in.width // 2
        for m in range(odd, min(ir1.l, ir3.l) + 1):
            value = sign * coupling[ir1.l + (-m if odd else m), ir3.l + m]
            strengths[centre + m] = strengths[centre - m] = value
        return strengths

    @override
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        return 1.0

    @override
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self._convolve(x1, x2, self.table("whole", x1.dtype)[None])

    @override
    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        terms = weights[:, :, None] * self.table("blocks", x1.dtype)
        pairs = self._pairs[0] * self._pairs[1]
        whole = terms.new_zeros(terms.shape[0], pairs, self._in.width)
        return self._convolve(x1, x2, whole.index_add(1, self.index("pairs"), terms))

    def _convolve(self, x1: Tensor, x2: Tensor, strengths: Tensor) -> Tensor:
        """``strengths``: (G, pairs, width), row n of input 1 uses row n mod G."""
        given = x2[:, self._direction]
        size, unit = _polar(given.to(torch.promote_types(x2.dtype, torch.float32)))
        x = self._in.spread(met(x1, size.to(x1.dtype)))
        turned = x2.requires_grad and torch.is_grad_enabled()
        near = unit[:, 1:2].abs() > _NEAR_POLE if turned else None
        if near is not None:
            unit = torch.where(near, unit.roll(1, dims=1), unit)
        top = max(self._in.width, self._out.width) // 2
        alpha, beta = (_multiples(angle, top, x1.dtype) for angle in _angles(unit))
        frame = Frame(alpha, beta, near)
        if x1.shape[0] // x2.shape[0] <= max(self._in.width, self._out.width):
            z = self._mix(self._in.inwards(x, frame), strengths)
            return self._out.collect(self._out.outwards(z, frame))
        # Many channels look along one direction: its matrices, once, are cheaper than the turns.
        z = self._mix(_in_runs(x, self._in.matrices(self._in.inwards, frame)), strengths)
        return self._out.collect(_in_runs(z, self._out.matrices(self._out.outwards, frame)))

    def _mix(self, x: Tensor, strengths: Tensor) -> Tensor:
        """Couple irreps order by order: (N, in1, width in) to (N, out, width out)."""
        rows = x.unflatten(0, (-1, strengths.shape[0]))
        matrices = strengths.unflatten(1, self._pairs)
        z = torch.einsum("ngiw,giow->ngow", rows, matrices).flatten(0, 1)
        missing = (self._out.width - self._in.width) // 2
        return torch.nn.functional.pad(z, (missing, missing))

    @override
    def macs(self) -> int:
        couplings = int((self._tables["whole"] != 0).sum())
        top = max(self._in.width, self._out.width) // 2
        return self._in.macs + self._out.macs + couplings + 8 * top + self._dims[0]

    @override
    def weight_macs(self) -> int:
        return int((self._tables["blocks"] != 0).sum())


def _polar(given: Tensor) -> tuple[Tensor, Tensor]:
    """Size s and direction of s Y_1(d), (N, 1) and (N, 3); zero has the direction of the pole."""
    square = given.square().sum(dim=1, keepdim=True)
    there = square > 0
    length = torch.where(there, square, 1.0).sqrt()
    pole = given.new_tensor([0.0, 1.0, 0.0])
    unit = torch.where(there, given / length, pole)
    return torch.where(there, length, 0.0) / sqrt(3 / (4 * pi)), unit


def _angles(unit: Tensor) -> tuple[Angle, Angle]:
    """Azimuth and colatitude of directions (N, 3); at a pole the azimuth is 0."""
    x, y, z = unit.unbind(1)
    square = x * x + z * z
    away = square > torch.finfo(unit.dtype).eps ** 2
    sine = torch.where(away, square, 1.0).sqrt()
    azimuth = torch.where(away, z / sine, 1.0), torch.where(away, x / sine, 0.0)
    return azimuth, (y, torch.where(away, sine, 0.0))


def _multiples(angle: Angle, top: int, dtype: torch.dtype) -> Angle:
    """Cosine and sine of m times an angle for m = -top..top, each (N, 2 top + 1)."""
    cosine, sine = angle
    cosines, sines = [torch.ones_like(cosine)], [torch.zeros_like(sine)]
    for _ in range(top):
        c, s = cosines[-1], sines[-1]
        cosines.append(cosine * c - sine * s)
        sines.append(sine * c + cosine * s)
    return (
        torch.stack(cosines[:0:-1] + cosines, dim=1).to(dtype),
        torch.stack([-s for s in sines[:0:-1]] + sines, dim=1).to(dtype),
    )


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

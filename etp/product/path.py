"""One interaction of a product, and what calls cost at the least."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from etp.e3 import o3


class Path(NamedTuple):
    """One interaction: which irreps meet, where the result goes, and how strongly.

    ``coefficient`` is relative to ``e3nn.o3.wigner_3j`` and never 0.

    Examples:
        >>> from etp import products
        >>> products.get("gaunt-grid")("1o", "1o").paths[0]
        Path(ir_in1=1o, ir_in2=1o, ir_out=0e, coefficient=0.48860251190...)
    """

    ir_in1: o3.Irrep
    ir_in2: o3.Irrep
    ir_out: o3.Irrep
    coefficient: float


def dense_macs(paths: Iterable[Path]) -> int:
    """Multiply-adds of an outer product for each pair of irreps, and dense coefficients.

    Examples:
        >>> from etp import products
        >>> dense_macs(products.get("cg-dense")("1o", "1o", filter_ir_out="0e").paths)
        18
    """
    paths = tuple(paths)
    pairs = {(path.ir_in1, path.ir_in2) for path in paths}
    outer = sum(a.dim * b.dim for a, b in pairs)
    return outer + sum(p.ir_in1.dim * p.ir_in2.dim * p.ir_out.dim for p in paths)


class Cost(NamedTuple):
    """What one call must do at the least: multiply-adds, and bytes read and written once.

    Examples:
        >>> cost = Cost(macs=10, bytes=40)
        >>> cost.flops
        20
    """

    macs: int
    bytes: int

    @property
    def flops(self) -> int:
        """Floating point operations, two for a multiply-add."""
        return 2 * self.macs

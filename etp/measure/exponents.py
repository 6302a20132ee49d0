"""How the multiply-adds of each algorithm grow with lmax, as its papers say or its sums show."""

from __future__ import annotations

_MIMO = {
    "cg-dense": 6,
    "cg-sparse": 5,
    "cg-summed": 5,
    "cp-full": 6,
    "cp-16": 2,
    "cp-64": 2,
    "complete": 5,
    "complete-vector": 5,
    "gaunt-grid": 3,
    "gaunt-grid-fixed": 2,
    "gaunt-grid-fft": 3,
    "gaunt-fourier-fft": 3,
    "gaunt-fourier-direct": 4,
    "gaunt-bracket": 3,
    "spin": 3,
    "low-rank-2": 3,
    "low-rank-4": 3,
    "vector-signal": 3,
    "matrix": 4,
    "matrix-block": 6,
    "so2": 3,
    "so2-linear": 3,
    "so2-linear-2": 3,
    "e3nn": 6,
    "e3nn-uuu": 6,
    "cuequivariance": 6,
    "openequivariance": 5,
}


def mimo_exponent(product: str) -> int | None:
    """Power of lmax that the multiply-adds of a product reach in MIMO; None where nobody has said.

    Examples:
        >>> mimo_exponent("gaunt-grid")
        3
    """
    return _MIMO.get(product)

r"""The complete fast product: every Clebsch-Gordan path from pointwise products on the sphere.

For each pair of degrees the values of two signals multiply to their even paths and their Poisson
bracket holds all odd ones,

.. math::
    \int Y_{l_1} Y_{l_2} Y_{l_3} = g\, w, \qquad \int \{Y_{l_1}, Y_{l_2}\} Y_{l_3} = k\, w,

with :math:`g, k > 0` on every path that symmetry allows, so that dividing by them leaves c = 1.
"""

from __future__ import annotations

from etp.maths import so3
from etp.product.registry import register
from etp.products._pairwise import (
    EVEN,
    PairwiseProduct,
    ParityRule,
    Scheme,
    values,
    values_and_gradient,
)


@register
class Complete(PairwiseProduct):
    r"""Clebsch-Gordan product, path by path, on a few grids that are tight for their pairs.

    :math:`f_{l_1} h_{l_2}` and :math:`\{f_{l_1}, h_{l_2}\}` are polynomials of degree l1 + l2, so a
    grid of l1 + l2 + 1 by 2 (l1 + l2) + 1 points serves every l3. Fields of an input are shared by
    all pairs of a grid. Multiply-adds grow like L^5 where signals are read row by row, and like L^6
    while grids are small enough that one dense matrix is faster; the output alone is L^4.
    """

    name, title = "complete", "Complete (products and brackets)"
    reference = "arXiv:2602.21466; Elsasser integrals (James 1973)"
    scheme = Scheme(
        values_and_gradient,
        values_and_gradient,
        (EVEN, ParityRule(so3.bracket_coefficient, [[(1, 2, 1), (2, 1, -1)]], values)),
    )

r"""Every Clebsch-Gordan path from a scalar signal times a vector signal.

Odd paths need no derivative of input 1 if input 2 enters as magnetic vector harmonics and the
vectors are read with gradients, since

.. math::
    \int Y_{l_1}\, (n \times \nabla Y_{l_2}) \cdot \nabla Y_{l_3} =
    \int Y_{l_1} \{Y_{l_2}, Y_{l_3}\} = k(l_1, l_2, l_3)\, w(l_1, l_2, l_3)

by the cyclic symmetry of w and the symmetry of k. Even paths are products of scalars.
"""

from __future__ import annotations

from etp.maths import so3, sphere
from etp.product.registry import register
from etp.products import _fields as fields
from etp.products._pairwise import EVEN, PairwiseProduct, ParityRule, Scheme, values


def _magnetic(lmax: int, nodes: sphere.Grid) -> list[fields.Field]:
    """The signal f, and n x grad f in the frame of the angles."""
    down, along = fields.gradient(lmax, nodes)
    return [fields.value(lmax, nodes), along.negative(), down]


def _gradient(lmax: int, nodes: sphere.Grid) -> list[fields.Field]:
    return list(fields.gradient(lmax, nodes))


@register
class CompleteVector(PairwiseProduct):
    """Clebsch-Gordan product, path by path, with vector spherical harmonics.

    The same operation as ``complete`` on the same grids: one field of input 1 instead of three,
    and two readings of an odd path instead of one. Multiply-adds grow like L^5.
    """

    name, title = "complete-vector", "Complete (vector harmonics)"
    reference = "after Xie et al. 2026, arXiv:2602.21466"
    scheme = Scheme(
        values,
        _magnetic,
        (EVEN, ParityRule(so3.bracket_coefficient, [[(0, 1, 1)], [(0, 2, 1)]], _gradient)),
    )

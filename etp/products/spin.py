r"""Products of spin-weighted signals, after SpinGTP (arXiv:2607.01408).

With :math:`{}_sf = \sum x\, {}_sY` the product of spins s and -s is a scalar signal, and

.. math::
    \int {}_{s}Y_{l_1}\, {}_{-s}Y_{l_2}\, Y_{l_3} \;\propto\;
    \sqrt{(2l_1+1)(2l_2+1)(2l_3+1)/4\pi}\;
    \begin{pmatrix} l_1 & l_2 & l_3 \\ s & -s & 0 \end{pmatrix} w,

which for s = 1 is no longer zero on odd paths. Real inputs have spins 1 and -1 that are complex
conjugates: the real part of their product couples even paths, its imaginary part odd ones.
"""

from __future__ import annotations

from typing_extensions import override

from etp.product.registry import register
from etp.products._pointwise import Meeting, Plan, PointwiseProduct, SpinSignal


@register
class Spin(PointwiseProduct):
    r"""Spins (0, 0) and (1, -1) to 0, added up: every path interacts.

    With :math:`a_i = l_i (l_i + 1)` and the coefficients g and k of ``gaunt-bracket``, c =
    :math:`g\,(1 + (a_1 + a_2 - a_3) / (2 \sqrt{a_1 a_2}))` on even paths (g where l1 or l2 is 0)
    and :math:`k / \sqrt{a_1 a_2}` on odd ones; neither vanishes, since
    :math:`a_3 < (\sqrt{a_1} + \sqrt{a_2})^2`. Weights are a factor for each irrep and spin of the
    inputs and for each irrep of the output.
    """

    name, title = "spin", "Spin-weighted signals"
    reference = "after arXiv:2607.01408"

    @override
    def plan(self) -> Plan:
        def ones(lmax: int) -> tuple[float, ...]:
            return (1.0,) * (lmax + 1)

        tops = (self.lmax_in1, self.lmax_in2)
        first, second = ([SpinSignal(spin, ones(top)) for spin in (0, 1)] for top in tops)
        meetings = [
            Meeting((0, 0, 0), "value"),
            Meeting((1, 1, 0), "dot"),
            Meeting((1, 1, 0), "cross"),
        ]
        return Plan((first, second, [SpinSignal(0, ones(self.lmax_out))]), meetings)

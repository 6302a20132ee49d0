"""Signs of the e3nn at hand: releases before 0.6 differ on some odd paths, such as (1, 2, 2)."""

from __future__ import annotations

from functools import cache

import torch

from etp.e3 import o3
from etp.maths import so3


@cache
def sign_of_e3nn(l1: int, l2: int, l3: int) -> float:
    """Sign of the installed ``wigner_3j(l1, l2, l3)`` relative to ours, which is that of 0.6.

    Args:
        l1: Degree of input 1.
        l2: Degree of input 2.
        l3: Degree of the output.

    Examples:
        >>> sign_of_e3nn(1, 1, 1)
        1.0
    """
    ours = so3.clebsch_gordan(l1, l2, l3)
    theirs = o3.wigner_3j(l1, l2, l3, dtype=torch.float64, device=ours.device)
    return 1.0 if float((ours * theirs).sum()) > 0 else -1.0

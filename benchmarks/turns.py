"""Multiply-adds of the exact power, counted and written to the data that the pages read.

    python -m benchmarks.turns

Counts need no quiet machine. ``etp.analysis.turns`` puts them beside those of the Gaunt power.
"""

from __future__ import annotations

import json

from etp.analysis.turns import PATH, natural
from etp.powers.clebsch_gordan import ClebschGordan

TOPS = {2: 7, 3: 5, 4: 3}
"""Largest lmax for each order; beyond, the tables take minutes."""


def counts() -> list[dict[str, int]]:
    """Multiply-adds for each order, lmax and largest output degree."""
    lines = []
    for order, top in TOPS.items():
        for lmax in range(1, top + 1):
            for lout in sorted({0, 1, lmax}):
                power = ClebschGordan(
                    natural(lmax), order=order, irreps_out=natural(lout), basis="independent"
                )
                macs = power.polynomials.macs
                lines.append({"order": order, "lmax": lmax, "lout": lout, "macs": macs})
                print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    lines = ",\n ".join(map(json.dumps, counts()))
    PATH.write_text(f"[{lines}]\n")

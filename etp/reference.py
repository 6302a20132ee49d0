"""Results that come with the package, so that nobody meets an empty page.

They come from two runs of one day on one machine, with the cases of ``benchmarks.reference``: MIMO
lmax 2 to 6 and some batches and channels were measured again with more rounds, which replaced
the first values. Multiply-adds of 62 rows were counted again by later code. Every row says on
what it was measured. Sample lists are left out, block values are kept: verdicts are computed from
them as from anyone's own results.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

from etp.rows import Row

PATH = Path(__file__).resolve().parent / "data" / "reference.jsonl.gz"


@cache
def reference_rows() -> list[Row]:
    """Rows of the bundled results."""
    with gzip.open(PATH, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]

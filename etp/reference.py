"""Results that come with the package, so that nobody meets an empty page.

They were measured with ``python -m etp sweep``; every row says on what. Sample lists are left out,
block values are kept: verdicts are computed from them as from anyone's own results.
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

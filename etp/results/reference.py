"""Results that come with the package, so that nobody meets an empty page.

They come from one run of ``benchmarks.reference`` on one machine; what was odd about it (a busy
machine, two speeds, twins apart) is shown with each case as with anyone's own. Every row says on
what it was measured. Sample lists are left out, block values are kept: verdicts are computed from
them as from anyone's own results.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

from etp.problem import Direction
from etp.results.rows import Row

DATA = Path(__file__).resolve().parent / "data"
PATH = DATA / "reference.jsonl.gz"
LAYER_DIRECTIONS: tuple[Direction, ...] = ("forward", "double-backward")
"""In which layers are measured: energies, and what the training on forces needs."""


@cache
def reference_rows() -> list[Row]:
    """Rows of the bundled results.

    Examples:
        >>> {row.status for row in reference_rows()} <= {"ok", "invalid", "failed"}
        True
    """
    return _read(PATH)


@cache
def trained_rows() -> list[Row]:
    """Rows of bundled trainings on the pieces of Tetris (``etp experiment tetris``)."""
    return _read(DATA / "tetris.jsonl.gz")


@cache
def potential_rows() -> list[Row]:
    """Rows of bundled trainings of a potential, every product beside the others."""
    return _read(DATA / "potential.jsonl.gz")


@cache
def step_rows() -> list[Row]:
    """Rows of bundled timings of training steps (``benchmarks.steps``); none before they are made.

    They are of one machine that was quiet, so they come with its measurement only.
    """
    path = DATA / "steps.jsonl.gz"
    return _read(path) if path.exists() else []


@cache
def layer_rows() -> list[Row]:
    """Rows of bundled comparisons on the layers of published models (``benchmarks.reference``)."""
    return _read(DATA / "layers.jsonl.gz")


def _read(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [Row.read(json.loads(line)) for line in file]

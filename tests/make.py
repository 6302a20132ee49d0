"""What tests share: rows made up, plausible and different where they must differ; complaints."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import Tensor

from etp.cli.main import main
from etp.problem import Problem
from etp.results.rows import SCHEMA, Row

MIMO = Problem.of_setting("MIMO", 2)
MEDIAN = {"median_s": 1e-3}


def complaint(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command says of bad input."""
    try:
        status = main(words)
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    return said[0]


def row(
    product: str = "cg-sparse",
    measure: str = "runtime",
    result: dict[str, Any] | None = MEDIAN,
    problem: Problem | dict[str, Any] = MIMO,
    **changes: Any,
) -> Row:
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "id": uuid.uuid4().hex,
        "job": None,
        "group": None,
        "created": "2026-01-02T03:04:05+00:00",
        "product": product,
        "measure": measure,
        "problem": problem.as_dict() if isinstance(problem, Problem) else problem,
        "status": "ok",
        "reason": None,
        "badges": (),
        "result": result,
        "environment": {"device_name": "a processor", "torch": "2.13.0", "threads": 2},
    }
    return Row(**values | changes)


def run_of(
    seconds: dict[str, float],
    *,
    twin: str | None = None,
    rounds: int = 30,
    noise: float = 0.01,
    seed: int = 0,
    problem: Problem = MIMO,
    look: int = 0,
    group: str = "g",
) -> list[Row]:
    """Runtimes of interleaved rounds with known medians."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 0.05, rounds)
    slots = [(name, "product") for name in seconds] + ([(twin, "twin")] if twin else [])
    rows = []
    for name, role in slots:
        blocks = seconds[name] * np.exp(common + rng.normal(0, noise, rounds))
        result = {
            "median_s": float(np.median(blocks)),
            "q25_s": float(np.quantile(blocks, 0.25)),
            "q75_s": float(np.quantile(blocks, 0.75)),
            "blocks_s": blocks.tolist(),
            "samples_s": blocks.tolist(),
            "block_calls": [1] * rounds,
            "start_s": [0.1 * n for n in range(rounds)],
            "order": [0] * rounds,
            "role": role,
            "reference": next(iter(seconds)),
            "look": look,
        }
        rows.append(row(name, result=result, problem=problem, group=group))
    return rows


def interactions(
    product: str,
    paths: dict[tuple[str, str, str], float],
    *,
    keeps_paths: bool = False,
    allowed: int = 19,
    problem: Problem = MIMO,
) -> Row:
    result = {
        "title": product.title(),
        "paths": [],
        "triples": [list(path) for path in paths],
        "coefficients": list(paths.values()),
        "count": len(paths),
        "allowed": allowed,
        "keeps_paths": keeps_paths,
        "outputs": 9,
    }
    return row(product, "interactions", result, problem)


def expressivity(product: str, rank: int, problem: Problem = MIMO) -> Row:
    result = {"closed_form": rank, "rank": rank, "paths": rank, "allowed": 19}
    return row(product, "expressivity", result, problem)


def represent(irreps: o3.Irreps, degrees: list[Tensor], inverted: Tensor) -> Tensor:
    """Representation matrices of group elements, (k, dim, dim), block diagonal.

    ``degrees`` are their Wigner matrices, ``inverted`` says which hold the inversion, (k,).
    """
    sign = torch.where(inverted, -1.0, 1.0).to(torch.float64).reshape(-1, 1, 1)
    blocks = [
        degrees[ir.l] * (sign if ir.p == -1 else 1.0) for mul, ir in irreps for _ in range(mul)
    ]
    return torch.stack([torch.block_diag(*parts) for parts in zip(*blocks, strict=True)])

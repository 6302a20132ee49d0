"""Comparisons as data frames: what charts draw and tables list."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp
from statistics import median
from typing import Any

import pandas as pd

from etp.analysis.comparison import Comparison, ProductEntry
from etp.analysis.findings import pair_words
from etp.measure.flags import coarse_clock, enqueue_bound, launch_bound
from etp.text import quartiles_text, ratio_text

NOISY = 0.25
"""Quartiles further apart than this share of the median are worth a badge."""


def timed_frame(comparisons: Iterable[Comparison], x: str = "lmax") -> pd.DataFrame:
    """Timed products of several problems; ``x`` names the column that becomes ``x``."""
    lines = [_line(comparison, entry) for comparison in comparisons for entry in comparison.timed]
    table = pd.DataFrame(lines)
    if not table.empty:
        table["x"] = table[x]
    return table


def frame(comparison: Comparison) -> pd.DataFrame:
    """One line for each product: everything that charts and tables show, missing as None."""
    return pd.DataFrame([_line(comparison, entry) for entry in comparison.entries])


def shown(lines: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The table of a comparison as people read it: units, words, badges."""
    return pd.DataFrame(
        {
            "product": lines["product"],
            "median": lines["median_s"] * 1e3,
            "quartiles": [
                quartiles_text(a, b) if pd.notna(a) and pd.notna(b) else ""
                for a, b in zip(lines["q25_s"], lines["q75_s"], strict=True)
            ],
            "ratio": [
                "1.00×" if p == baseline else ratio_text(r) if pd.notna(r) else ""
                for p, r in zip(lines["product"], lines["ratio"], strict=True)
            ],
            "outputs": lines["keeps_paths"].map({True: "per path", False: "per irrep"}),
            "weights": lines["weights_per"].map(
                {"path": "per path", "degree": "per degree", "order": "per order"}
            ),
            "paths": lines["paths"],
            "gamma": lines["gamma"],
            "us_per_gamma": lines["s_per_gamma"] * 1e6,
            "error": [f"{e:.1e}" if pd.notna(e) else "" for e in lines["error_max"]],
            "first": lines["first_call_s"] * 1e3,
            "wall": lines["wall_s"] * 1e3,
            "memory": lines["peak_bytes"] / 1e6,
            "badges": [
                (["baseline"] if p == baseline else []) + list(badges)
                for p, badges in zip(lines["product"], lines["badges"], strict=True)
            ],
        }
    )


def tradeoff_frame(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of :func:`frame` that have a place in time against expressivity."""
    known = lines[lines["valid"] & lines["gamma"].notna()].reset_index(drop=True)
    known["front"] = known["front"].fillna("dominated")
    known["paths"] = [f"{n} of {m}" for n, m in zip(known["paths"], known["allowed"], strict=True)]
    return known


def judged_frame(comparison: Comparison) -> pd.DataFrame:
    """Valid lines of :func:`frame` that have a verdict, and its ``words``."""
    table = frame(comparison)
    others = table[table["valid"] & table["ratio"].notna()].reset_index(drop=True)
    # Without an interval yet, the point stands alone.
    known = (others["low"] > 0) & (others["high"] < float("inf"))
    for end in ("low", "high"):
        others[end] = others[end].where(known, others["ratio"])
    others["words"] = [pair_words(comparison, product) for product in others["product"]]
    return others


def _late_badges(comparison: Comparison, runtime: dict[str, Any]) -> list[str]:
    """Badges that follow from the numbers."""
    typical = runtime.get("median_s")
    if typical is None:
        return []
    badges = []
    share, step = runtime.get("enqueue_share"), runtime.get("clock_step_s")
    raised = (
        launch_bound(typical, runtime.get("empty_s"))
        if comparison.problem.device == "cpu"
        else None,
        None if share is None else enqueue_bound(share),
        None if step is None else coarse_clock(typical * runtime.get("group", 1), step),
    )
    badges += [flag.name for flag in raised if flag is not None]
    if "q75_s" in runtime and runtime["q75_s"] - runtime["q25_s"] > NOISY * typical:
        badges.append("noisy")
    return badges


def _line(comparison: Comparison, entry: ProductEntry) -> dict[str, Any]:
    runtime, errors = entry.result("runtime"), entry.result("equivariance")
    gamma, reached = entry.result("expressivity"), entry.result("interactions")
    cost, memory = entry.result("cost"), entry.result("memory")
    judged, same = comparison.judgement, comparison.same(entry.product)
    verdict = judged.verdicts.get(entry.product)
    row = entry.row
    # Block values, as in the verdicts: calls pooled would weigh a disturbed block by its few calls.
    typical = entry.typical_s if runtime else None
    low, high = entry.quartiles_s if runtime else (None, None)
    rank = gamma.get("rank")
    return {
        "product": entry.product,
        "title": entry.title,
        "lmax": comparison.problem.lmax,
        "batch": comparison.problem.batch,
        "channels": comparison.problem.channels,
        "device": comparison.problem.device,
        "machine": comparison.environment().get("device_name"),
        "setting": comparison.problem.setting,
        "input 1": comparison.problem.irreps1,
        "input 2": comparison.problem.irreps2,
        "outputs kept": comparison.problem.filter_out,
        "kind": comparison.problem.kind,
        "dtype": comparison.problem.dtype,
        "direction": comparison.problem.direction,
        "weighted": comparison.problem.weights,
        "cache": comparison.problem.cache,
        "threads": comparison.environment().get("threads"),
        "valid": entry.valid,
        "status": row.status,
        "reason": row.reason,
        "badges": [*row.badges, *_late_badges(comparison, runtime)],
        "median_s": typical,
        "q25_s": typical if low is None else low,
        "q75_s": typical if high is None else high,
        "ratio": exp(-verdict.estimate) if verdict else None,
        "low": exp(-verdict.high) if verdict else None,
        "high": exp(-verdict.low) if verdict else None,
        "word": verdict.word if verdict else None,
        "same_operation": same,
        "front": judged.fronts.get(entry.product),
        "gamma": rank,
        "closed_form": gamma.get("closed_form"),
        "fixed_gamma": gamma.get("fixed_rank"),
        "paths": reached.get("count"),
        "allowed": reached.get("allowed"),
        "outputs": reached.get("outputs"),
        "keeps_paths": reached.get("keeps_paths"),
        "weights_per": reached.get("weights_per"),
        "s_per_gamma": typical / rank if typical and rank else None,
        "error_max": errors.get("max"),
        "error_median": errors.get("median"),
        "error_min": min(errors["per_element"]) if errors.get("per_element") else None,
        "gate": errors.get("gate"),
        "first_call_s": runtime.get("first_call_s"),
        "wall_s": median(runtime["walls_s"]) if runtime.get("walls_s") else None,
        "setup_s": runtime.get("setup_s"),
        "compile_s": runtime.get("compile_s"),
        "peak_bytes": memory.get("peak_bytes"),
        "table_bytes": memory.get("table_bytes"),
        "macs": cost.get("macs"),
        "bytes": cost.get("bytes"),
        "flops": cost.get("flops"),
        "rounds": runtime.get("rounds"),
        "id": row.id,
    }

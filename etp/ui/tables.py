"""Tables that pages show and draw from, each made once and never changed."""

from __future__ import annotations

import pandas as pd

from etp.analysis import equivariance, expressivity, findings, growth, learning, tables
from etp.analysis import trust as rests
from etp.analysis.comparison import Comparison
from etp.analysis.growth import Line
from etp.charts.theme import ON
from etp.problem import Problem
from etp.results.rows import Row
from etp.ui.kept import kept

frame = kept(200)(tables.frame)
judged_frame = kept(200)(tables.judged_frame)
timed_frame = kept(100)(tables.timed_frame)
equivariance_checks = kept(50)(equivariance.equivariance_checks)
counts = kept(50)(expressivity.counts)
growths = kept(50)(growth.growths)
limits = kept(200)(growth.limits)
roofs_of = kept(100)(growth.roofs_of)
crossings = kept(50)(growth.crossings)
pay_offs = kept(50)(growth.pay_offs)
trust = kept(100)(rests.trust)
finding = kept(100)(findings.finding)
growth_finding = kept(50)(growth.growth_finding)
shown = kept(100)(tables.shown)
elements = kept(50)(equivariance.EquivarianceChecks.elements)
gates = kept(50)(equivariance.EquivarianceChecks.gates)
cliff = kept(50)(equivariance.EquivarianceChecks.cliff)
degrees = kept(50)(equivariance.EquivarianceChecks.degrees)
ranks = kept(50)(expressivity.Counts.table)
trained = kept(20)(learning.trained)
learned = kept(20)(learning.frame)
confusion = kept(50)(learning.confusion)
potentials = kept(20)(learning.potentials)
potential_frame = kept(20)(learning.potential_frame)
curves = kept(40)(learning.curves)
steps = kept(20)(learning.step_frame)
bars = kept(50)(expressivity.Counts.bars)


@kept(200)
def timed(comparison: Comparison) -> pd.DataFrame:
    """Products of a comparison that were timed."""
    table = frame(comparison)
    return table[table["valid"]].reset_index(drop=True)


@kept(200)
def fastest_first(comparison: Comparison) -> pd.DataFrame:
    """The same, fastest first."""
    return timed(comparison).sort_values("median_s").reset_index(drop=True)


@kept(100)
def along(line: Line) -> pd.DataFrame:
    """Timed products at every size of a line, by product and size."""
    return timed_frame(line.comparisons, line.axis).sort_values(["product", "x"])


@kept(50)
def devices(rows: list[Row]) -> frozenset[str]:
    """Devices that rows are of."""
    return frozenset(row.problem["device"] for row in rows)


@kept(200)
def left_out(comparison: Comparison) -> tuple[list[tuple[str, str | None, list[str]]], list[str]]:
    """Products that were not timed, each with its reason and badges, and all badges there are."""
    lines = frame(comparison)
    refused = lines.loc[~lines["valid"], ["product", "reason", "badges"]]
    worn = sorted({badge for badges in lines["badges"] for badge in badges})
    return list(refused.itertuples(index=False, name=None)), worn


@kept(200)
def tradeoff_frame(comparison: Comparison) -> pd.DataFrame:
    """Time against expressivity."""
    return tables.tradeoff_frame(timed(comparison))


@kept(200)
def errors(comparison: Comparison) -> pd.DataFrame:
    """Equivariance errors, where they were measured."""
    table = frame(comparison)
    table = table[table["error_max"].notna()]
    return table.rename(columns={"error_max": "max", "error_median": "median", "error_min": "min"})[
        ["product", "median", "max", "min", "gate"]
    ]


@kept(100)
def with_gamma(table: pd.DataFrame) -> pd.DataFrame:
    """Lines whose expressivity was measured."""
    return table[table["gamma"].notna() & (table["gamma"] > 0)]


def device_of(comparison: Comparison) -> str:
    """Name of a comparison's device at the end of a label."""
    environment = comparison.environment()
    name = str(environment.get("device_name") or comparison.problem.device)
    return name.removeprefix("NVIDIA ")


@kept(50)
def of_devices(comparisons: list[Comparison], elsewhere: list[Comparison]) -> pd.DataFrame:
    """Timed products of a device, and those of others under names that say where."""
    parts = [timed_frame(comparisons)]
    for comparison in elsewhere:
        there = timed(comparison)
        parts.append(
            there.assign(x=there["lmax"], product=there["product"] + ON + device_of(comparison))
        )
    return pd.concat(parts, ignore_index=True)


Paths = frozenset[tuple[str, str, str]]


@kept(100)
def compared_maps(problem: Problem, product: Paths | None, other: Paths | None) -> pd.DataFrame:
    """Map of a product, with what the other one does otherwise."""
    return expressivity.compared_maps(problem, product, other)[0]

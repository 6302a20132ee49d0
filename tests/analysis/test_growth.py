"""Growth, crossovers and limits on synthetic rows whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from etp.analysis.comparison import comparisons
from etp.analysis.growth import (
    Fit,
    bent_fit,
    crossing_sentence,
    crossings,
    fit,
    fitted_sizes,
    growth_finding,
    growths,
    limits,
    lines,
    pay_off_sentence,
    pay_offs,
    roofs_of,
)
from etp.analysis.growth.fits import t_value
from etp.problem import Problem
from tests.make import interactions, row, run_of

ROOFS = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": {"float32": 1e11}}


def at(axis: str, size: int) -> Problem:
    if axis == "lmax":
        return Problem.of_setting("MIMO", size)
    return Problem.of_setting("MIMO", 2).at(**{axis: size})


def sweep(axis, sizes, laws, *, noise=0.003, counts=None):
    """Rows of a sweep: each product's time, and its operations, are functions of the size."""
    rows = []
    for number, size in enumerate(sizes):
        problem = at(axis, size)
        seconds = {name: law(size) for name, law in laws.items()}
        own = run_of(seconds, twin=next(iter(laws)), noise=noise, seed=number, problem=problem,
                       group=f"g{size}")  # fmt: skip
        for name, law in (counts or {}).items():
            result = {"macs": law(size), "bytes": 10, "flops": 2 * law(size)}
            own.append(row(name, "cost", result, problem))
        rows += own
    return rows


def line_of(axis, sizes, laws, **options):
    (line,) = lines(comparisons(sweep(axis, sizes, laws, **options)), axis)
    return line


def fits_of(line) -> dict[str, tuple[Fit, Fit | None]]:
    """Fits of time and count by product, slowest growth first."""
    fits = {}
    for growth in growths(line):
        assert growth.time is not None
        fits[growth.product] = (growth.time, growth.count)
    return fits


@pytest.mark.parametrize(
    ("free", "printed"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (7, 2.36462), (8, 2.30600),
     (30, 2.04227)],
)  # fmt: skip
def test_the_t_value_is_that_of_the_printed_tables(free, printed):
    assert t_value(free) == pytest.approx(printed, abs=6e-5)


def test_a_fit_and_its_interval_agree_with_an_independent_regression():
    rng = np.random.default_rng(3)
    sizes = [1, 2, 3, 4, 6, 8]
    values = [1e-6 * (s + 1) ** 3.3 * math.exp(rng.normal(0, 0.1)) for s in sizes]
    fitted = fit(sizes, values, shift=1)
    (slope, _), covariance = np.polyfit(np.log(np.array(sizes) + 1), np.log(values), 1, cov=True)
    half = 2.776445 * math.sqrt(covariance[0, 0])
    assert fitted.exponent == pytest.approx(slope, rel=1e-12)
    assert (fitted.low, fitted.high) == pytest.approx((slope - half, slope + half), rel=1e-6)


def test_three_sizes_give_a_slope_but_no_interval():
    fitted = fit([1, 10, 100], [1.0, 10.0, 100.0])
    assert fitted.exponent == pytest.approx(1)
    assert fitted.low is None
    assert fitted.high is None


@pytest.mark.parametrize(
    ("sizes", "values", "word"),
    [
        ([1, 2], [1.0, 2.0], "at least 3"),
        ([2, 2, 2], [1.0, 1.0, 1.0], "1 different"),
        ([1, 2, 3], [1.0, 2.0], "2 values"),
        ([1, 2, 3], [1.0, 0.0, 2.0], "values must be positive"),
        ([1, 2, 3], [1.0, math.inf, 2.0], "values must be positive"),
        ([0, 1, 2], [1.0, 2.0, 3.0], "sizes must be positive"),
    ],
)
def test_what_has_no_slope_is_refused_in_words(sizes, values, word):
    with pytest.raises(ValueError, match=word):
        fit(sizes, values)


def test_no_degrees_of_freedom_give_no_interval():
    with pytest.raises(ValueError, match="at least 1"):
        t_value(0)


def test_the_larger_sizes_are_fitted_and_never_fewer_than_four_of_them():
    assert fitted_sizes(range(1, 11)) == [5, 6, 7, 8, 9, 10]
    assert fitted_sizes([4, 1, 3, 2, 5]) == [2, 3, 4, 5]
    assert fitted_sizes([10, 100]) == [10, 100]


@pytest.mark.parametrize(("axis", "sizes", "shift"), [
    ("lmax", [1, 2, 3, 4, 5, 6], 1), ("batch", [10, 100, 1000, 10000], 0),
    ("channels", [1, 4, 16, 64], 0),
])  # fmt: skip
def test_known_exponents_of_time_and_count_come_back_slowest_first(axis, sizes, shift):
    laws = {"steep": lambda s: 1e-7 * (s + shift) ** 3.0, "flat": lambda s: 1e-5 * (s + shift)}
    counts = {"steep": lambda s: 5 * (s + shift) ** 4, "flat": lambda s: 7 * (s + shift) ** 2}
    line = line_of(axis, sizes, laws, counts=counts)
    fits = fits_of(line)
    assert list(fits) == ["flat", "steep"]
    for product, time, count in (("flat", 1, 2), ("steep", 3, 4)):
        measured, counted = fits[product]
        assert measured.exponent == pytest.approx(time, abs=0.1)
        assert measured.low is not None
        assert measured.high is not None
        assert measured.low < measured.exponent < measured.high
        assert counted is not None
        assert counted.exponent == pytest.approx(count, abs=1e-9)
        assert measured.sizes == counted.sizes == tuple(fitted_sizes(sizes))


def test_without_counts_there_is_no_theory():
    (only,) = growths(line_of("batch", [1, 10, 100], {"a": lambda b: 1e-6 * b}))
    assert only.count is None


def test_block_values_are_fitted_not_the_median_of_single_calls():
    rows = sweep("batch", [1, 10, 100, 1000], {"a": lambda b: 1e-6 * b})
    for timing in rows:
        timing["result"]["median_s"] = 1.0
    (line,) = lines(comparisons(rows), "batch")
    assert fits_of(line)["a"][0].exponent == pytest.approx(1, abs=0.1)


def test_imported_rows_without_blocks_or_rounds_have_slopes_and_no_crossings():
    rows = [
        row(name, result={"median_s": law(b)}, problem=at("batch", b))
        for b in (1, 10, 100, 1000)
        for name, law in {"a": lambda b: 1e-6 * b, "b": lambda b: 1e-4}.items()
    ]
    (line,) = lines(comparisons(rows), "batch")
    assert [time.exponent for time, _ in fits_of(line).values()] == pytest.approx([0, 1])
    assert crossings(line) == []


def test_a_line_holds_what_differs_along_its_axis_alone():
    rows = sweep("batch", [10, 100], {"a": float}) + sweep("channels", [2, 4], {"a": float})
    along = lines(comparisons(rows), "batch")
    assert sorted(line.sizes for line in along) == [[10, 100], [1000], [1000]]
    assert sorted(line.sizes for line in lines(comparisons(rows), "channels")) == [[1], [1], [2, 4]]


def test_typed_irreps_make_no_line_along_lmax_but_one_along_batch():
    rows = [row(problem=Problem.of_irreps("0e+1o", "1o", batch=batch)) for batch in (1, 10)]
    assert lines(comparisons(rows), "lmax") == []
    assert [line.sizes for line in lines(comparisons(rows), "batch")] == [[1, 10]]


def test_two_machines_are_two_lines():
    rows = sweep("batch", [10, 100], {"a": float})
    other = sweep("batch", [10, 100], {"a": float})
    other = [r.with_(environment=r.environment | {"device_name": "another"}) for r in other]
    assert len(lines(comparisons(rows + other), "batch")) == 2


def test_an_axis_that_is_none_is_refused():
    with pytest.raises(ValueError, match="axis must be one of lmax, batch, channels"):
        lines([], "colour")  # type: ignore[arg-type]


def test_a_crossing_is_found_where_the_verdicts_change_and_named():
    laws = {"cg-sparse": lambda l: 1e-6 * (l + 1) ** 5, "gaunt-grid": lambda l: 1e-4 * (l + 1) ** 2}
    # 1e-6 n^5 = 1e-4 n^2 at n = 4.64, so between lmax 3 and 4.
    line = line_of("lmax", [1, 2, 3, 4, 5, 6], laws)
    (only,) = crossings(line)
    assert (only.winner, only.loser, only.before, only.size) == ("gaunt-grid", "cg-sparse", 3, 4)
    assert only.ties == ()
    assert crossing_sentence(only, line).startswith(
        "gaunt-grid overtakes cg-sparse at lmax 4 for batch 1\u202f000 on a processor, 2 threads"
    )


def test_ties_on_the_way_stay_ties():
    times = {10: (1.0, 2.0), 100: (1.0, 1.0), 1000: (1.0, 1.0), 10000: (2.0, 1.0)}
    laws = {"a": lambda b: 1e-3 * times[b][0], "b": lambda b: 1e-3 * times[b][1]}
    line = line_of("batch", list(times), laws, noise=0.03)
    (only,) = crossings(line)
    assert (only.winner, only.before, only.ties, only.size) == ("b", 10, (100, 1000), 10000)
    assert "at batch 100 and 1\u202f000 the two are not separable" in crossing_sentence(only, line)


def test_drawing_level_is_not_overtaking():
    times = {10: 2.0, 100: 1.0, 1000: 1.0}
    laws = {"a": lambda b: 1e-3, "b": lambda b: 1e-3 * times[b]}
    assert crossings(line_of("batch", list(times), laws, noise=0.03)) == []


def test_a_lead_that_changes_twice_is_told_twice():
    times = {10: 2.0, 100: 0.5, 1000: 2.0}
    laws = {"a": lambda b: 1e-3, "b": lambda b: 1e-3 * times[b]}
    changes = crossings(line_of("batch", list(times), laws))
    assert [(c.winner, c.size) for c in changes] == [("b", 100), ("a", 1000)]


def test_pairs_without_the_baseline_are_judged_as_well():
    laws = {
        "base": lambda b: 1e-2,
        "p": lambda b: 1e-6 * b,
        "q": lambda b: 1e-5 * b**0.5,
    }
    line = line_of("batch", [10, 50, 200, 1000], laws)
    assert line.last.baseline == "base"
    assert [(c.winner, c.loser, c.size) for c in crossings(line)] == [("q", "p", 200)]


def test_products_of_other_rounds_are_never_said_to_overtake():
    rows = sweep("batch", [10, 1000], {"a": lambda b: 1e-3})
    for size, seconds in ((10, 1e-2), (1000, 1e-4)):
        rows += run_of({"b": seconds}, problem=at("batch", size), group=f"other{size}")
    (line,) = lines(comparisons(rows, "a"), "batch")
    assert crossings(line) == []


def with_costs(setup, first):
    rows = run_of({"old": 2e-3, "new": 1e-3, "late": 4e-3}, twin="old", noise=0.001)
    for line in rows:
        name = line["product"]
        assert line.result is not None
        line.result.update({"setup_s": setup[name], "first_call_s": first[name]})
    (comparison,) = comparisons(rows)
    return comparison


def test_a_larger_set_up_pays_off_after_the_calls_that_earn_it_back():
    comparison = with_costs(
        {"old": 0.5, "new": 4.5, "late": 0.0}, {"old": 2e-3, "new": 0.301, "late": 1.0}
    )
    (only,) = pay_offs(comparison)
    # 4 s of set-up and 0.3 s of the first call, against 1 ms in each call.
    assert only.product == "new"
    assert only.calls == pytest.approx(4300, rel=0.01)
    assert "pays off after about 4\u202f300 calls" in pay_off_sentence(only, comparison)


def test_a_compiled_product_is_held_against_its_own_plain_form():
    rows = run_of({"base": 5e-4, "a": 2e-3, "a+compile": 1e-3}, twin="base", noise=0.001)
    for line in rows:
        compiled = line["product"] == "a+compile"
        costs = {"setup_s": 0.0, "first_call_s": 1e-3, "compile_s": 3.0 if compiled else 0.0}
        assert line.result is not None
        line.result.update(costs)
    (comparison,) = comparisons(rows, "base")
    (only,) = pay_offs(comparison)
    assert (only.product, only.baseline) == ("a+compile", "a")
    assert only.calls == pytest.approx(3000, rel=0.01)


def test_what_is_quicker_to_set_up_as_well_needs_no_pay_off():
    times = {"old": 0.5, "new": 0.1, "late": 0.0}
    assert pay_offs(with_costs(times, {"old": 0.1, "new": 0.1, "late": 0.1})) == []


def limited(seconds, flops, size, *, memory=0, roofs=ROOFS, **changes):
    rows = run_of({"a": seconds}, noise=0.0)
    rows.append(row("a", "cost", {"macs": flops // 2, "bytes": size, "flops": flops}))
    rows.append(row("a", "memory", {"peak_bytes": memory, "table_bytes": 0}))
    rows.append(row("device", "roofline", roofs | changes))
    (comparison,) = comparisons(rows)
    measured = roofs_of(rows, comparison)
    assert measured is not None
    (only,) = limits(comparison, measured)
    return only


def test_the_roof_over_a_product_and_its_share_follow_from_counts():
    # 100 FLOP/byte, so the flat roof of 1e11 applies; 8e7 FLOP in 1 ms are 80 % of it.
    many = limited(1e-3, 80_000_000, 800_000)
    assert (many.roof, many.word) == ("arithmetic", "arithmetic")
    assert many.share == pytest.approx(0.8, rel=0.03)
    # 1 FLOP/byte, so the slope of 1e10 B/s applies.
    few = limited(1e-3, 6_000_000, 6_000_000)
    assert (few.roof, few.word) == ("bytes", "bytes")
    assert few.share == pytest.approx(0.6, rel=0.03)


@pytest.mark.parametrize(
    ("word", "arguments", "changes"),
    [
        ("neither roof", (1e-3, 20_000_000, 200_000), {}),
        ("cache", (1e-3, 15_000_000, 15_000_000), {}),
        ("launch", (1e-5, 800_000, 8_000), {}),
        ("page faults", (0.1, 6e8, 6e8), {"memory": 6e8, "fresh_bytes_per_s": 1e10}),
        # The same without a measured rate of touching memory, or with memory that is kept.
        ("bytes", (0.1, 6e8, 6e8), {"memory": 6e8}),
        ("bytes", (1e-3, 6e6, 6e6), {"memory": 6e6, "fresh_bytes_per_s": 1e10}),
    ],
)
def test_what_else_limits_is_told_from_the_data(word, arguments, changes):
    assert limited(*arguments, **changes).word == word


def test_roofs_of_another_machine_or_number_type_do_not_count():
    rows = run_of({"a": 1e-3})
    (comparison,) = comparisons(rows)
    other = {"device_name": "another", "threads": 2}
    assert roofs_of([row("device", "roofline", ROOFS, environment=other)], comparison) is None
    half = ROOFS | {"matmul_flops_per_s": {"float64": 1e9}}
    assert roofs_of([row("device", "roofline", half)], comparison) is None
    assert roofs_of([], comparison) is None


def test_only_forward_calls_have_counted_operations():
    problem = Problem.of_setting("MIMO", 2, direction="backward")
    rows = [*run_of({"a": 1e-3}, problem=problem),
            row("a", "cost", {"macs": 1, "bytes": 1, "flops": 2}, problem)]  # fmt: skip
    (comparison,) = comparisons(rows)
    assert limits(comparison, {"copy_bytes_per_s": 1.0, "matmul_flops_per_s": 1.0}) == []


def test_the_lead_names_slopes_times_and_who_grows_faster_than_its_count():
    laws = {"cg-sparse": lambda l: 1e-7 * (l + 1) ** 6, "gaunt-grid": lambda l: 1e-4 * (l + 1) ** 2}
    counts = {"cg-sparse": lambda l: 10 * (l + 1) ** 5, "gaunt-grid": lambda l: 9 * (l + 1) ** 3}
    lead = growth_finding(line_of("lmax", [1, 2, 3, 4, 5, 6], laws, counts=counts))
    assert lead.heading == "From lmax 3 to 6, gaunt-grid grows like L²·⁰ and cg-sparse like L⁶·⁰."
    assert "At lmax 6 that is 4." in lead.meaning
    assert "gaunt-grid overtakes cg-sparse at lmax 5" in lead.meaning
    assert "cg-sparse grows faster than its operation count (L⁶·⁰ against L⁵·⁰)" in lead.doubt


def test_a_bend_is_not_called_a_power():
    times = {10: 1.0, 100: 0.01, 1000: 1.0, 10000: 0.01}
    lead = growth_finding(line_of("batch", list(times), {"a": lambda b: times[b]}))
    assert lead.heading == "From batch 10 to 10\u202f000, no product grows like one power of batch."
    assert lead.meaning.startswith("At batch 10\u202f000 a takes ")


def test_a_slope_known_badly_is_told_by_its_break_or_not_at_all():
    sizes = [10, 100, 1000, 10_000, 100_000]
    laws = {"a": lambda b: 2e-5 * max(1.0, b / 1000)}
    line = line_of("batch", sizes, laws)
    (growth,) = growths(line)
    assert growth.time is not None
    assert not growth.time.clear
    assert growth.bent is not None
    assert growth.bent.size == 1000
    lead = growth_finding(line)
    assert lead.heading == (
        "From batch 10 to 100\u202f000, a is flat below 1\u202f000 and then linear."
    )
    noisy = {10: 1.0, 100: 8.0, 1000: 2.0, 10_000: 30.0, 100_000: 20.0}
    assert (
        "no product grows like one power"
        in growth_finding(line_of("batch", sizes, {"a": lambda b: 1e-5 * noisy[b]})).heading
    )


def test_a_fit_with_a_break_finds_known_powers():
    sizes = [1, 2, 4, 8, 16, 32, 64]
    bent = bent_fit(sizes, [3.0 * min(s, 8) ** 0.5 * max(s / 8, 1.0) ** 2 for s in sizes])
    assert bent.below == pytest.approx(0.5)
    assert bent.above == pytest.approx(2)
    assert bent.size == 8
    assert bent.error < 1e-9
    with pytest.raises(ValueError, match="at least 5"):
        bent_fit([1, 2, 3, 4], [1.0] * 4)


def test_the_lead_is_a_pair_that_a_user_would_choose_between():
    # Both are slower than what does the same as they do, and nobody asked for either.
    laws = {
        "base": lambda b: 1e-5,
        "library": lambda b: 1e-3 * b**0.1,
        "slow": lambda b: 2e-4 * b**0.5,
    }
    rows = sweep("batch", [10, 50, 200, 1000], laws)
    (line,) = lines(comparisons(rows), "batch")
    assert [(c.winner, c.loser) for c in crossings(line)] == [("library", "slow")]
    assert "overtakes" not in growth_finding(line).meaning
    every = {("0e", "0e", "0e"): 1.0}
    for size in (10, 50, 200, 1000):
        rows += [interactions(name, every, problem=at("batch", size)) for name in laws]
    (line,) = lines(comparisons(rows), "batch")
    assert crossings(line)[0].same
    assert "overtakes" not in growth_finding(line).meaning


def test_a_share_above_a_roof_carries_its_doubt():
    limit = limited(1e-3, 200_000_000, 2_000_000)
    assert limit.share > 1
    assert limit.word == "count in doubt"


def test_two_sizes_are_said_to_be_too_few():
    lead = growth_finding(line_of("channels", [1, 4], {"a": lambda c: 1e-3 * c}))
    assert lead.heading == "2 sizes were measured, too few for a slope."

"""Powers from the command line, and as problems: what is measured, and what is refused."""

from __future__ import annotations

import json

import pytest

from etp.analysis.advice import advice
from etp.analysis.comparison import comparisons
from etp.analysis.findings import finding, pair_sentence
from etp.cli.main import main, parser
from etp.cli.problems import degrees_of, problems
from etp.kernels.on_cpu import build
from etp.problem import EmptyProblemError, Problem
from etp.results.rows import Row
from etp.run.case import Case, needed_bytes, run

needs_compiler = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))


def power(irreps: str = "0e+1o+2e", filter_out: str | None = "0e+1o", **rest: object) -> Problem:
    return Problem.of_irreps(irreps, None, filter_out, kind="power", **rest)


def test_a_power_has_one_input_its_channels_and_shared_weights():
    problem = power("16x0e+16x1o", None, order=2, batch=10)
    assert (problem.irreps1, problem.irreps2, problem.filter_out) == ("0e+1o",) * 3
    assert (problem.channels, problem.weights) == (16, "shared")
    size = problem.size()
    # 0e, 1o; of two factors 0e (twice) and 1o.
    assert (size.paths, size.outputs) == (5, 64)
    assert size.bytes == 10 * (64 + 64) * 4


@pytest.mark.parametrize("setting", [False, True])
def test_the_command_of_a_power_describes_it(setting):
    problem = (
        Problem.of_setting("MIMO", 2, kind="power", order=2, channels=4)
        if setting
        else power("8x0e+8x1o", "0e", order=4, elements=10)
    )
    words = ["sweep", *problem.command().split()]
    options = parser().parse_args(words)
    assert problems(options, degrees_of(options.lmax)) == [problem]
    assert Problem.from_dict(json.loads(json.dumps(problem.as_dict()))) == problem


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Problem.of_irreps("0e+1o", "0e", kind="power"), "irreps2 must be irreps1"),
        (lambda: Problem.of_irreps("0e+1o", None), "irreps2 must be given"),
        (lambda: power("4x0e+2x1o"), "same multiplicity"),
        (lambda: power(weights="balanced"), "weights must be 'shared' or 'per-sample'"),
        (lambda: power(order=5), "order must be a whole number from 1 to 4"),
        (lambda: power(elements=2, weights="per-sample"), "elements must be 1 where each node has"),
        (lambda: power("0e+1o", "0e+7e+1e"), "leave out 7e, 1e"),
        (lambda: Problem.of_setting("MISO", 1, kind="power"), "setting must be one of"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_power_is_refused_with_the_mend(make, part):
    with pytest.raises(ValueError, match=part):
        make()


def test_outputs_that_no_product_reaches_are_an_empty_problem():
    with pytest.raises(EmptyProblemError, match="leave out 1e"):
        power("0e+1o", "1e")
    # Three different vectors have a determinant, three equal ones do not.
    with pytest.raises(EmptyProblemError):
        power("1o", "0o", order=3)


def test_memory_grows_with_nodes_and_with_weights_of_their_own():
    sizes = [needed_bytes(power(batch=n, weights=w)) for n, w in
             ((10, "shared"), (100, "shared"), (100, "per-sample"))]  # fmt: skip
    assert sizes[0] * 10 == sizes[1] < sizes[2]
    assert needed_bytes(power(batch=10, elements=10)) > sizes[0]


def rows_of(problem: Problem, *products: str, **rest: object) -> list[Row]:
    case = Case(problem, products, memory=False, rounds=2, budget_s=0.0, **rest)  # type: ignore[arg-type]
    return [item for item in run(case.as_dict()) if isinstance(item, Row)]


@pytest.mark.parametrize("direction", ["forward", "double-backward"])
def test_powers_are_checked_timed_and_compared(direction):
    problem = power(channels=2, batch=20, direction=direction)
    rows = rows_of(problem, "cg", "gaunt-grid", "gaunt-fourier-direct", "matrix")
    for row in rows:
        assert row.status == "ok", row.reason
        assert Row.read(row.as_dict()) == row
    (comparison,) = comparisons(rows, baseline="gaunt-grid")
    assert comparison.same("gaunt-fourier-direct")
    assert not comparison.same("matrix")
    assert not comparison.same("cg")
    (comparison,) = comparisons(rows)
    assert comparison.baseline == "cg"
    assert len(comparison.timed) == 4
    assert "it reaches 6 couplings, cg 17" in pair_sentence(comparison, "gaunt-grid")
    said = advice(comparison)
    assert said.same.endswith("nothing else that was timed does what cg does.")
    assert "reaches 6 of 17 couplings," in said.fewer
    assert finding(comparison).heading.startswith("On these irreps")


def test_weights_by_element_are_checked_and_timed():
    # More elements than the rows on which a call is looked at before it is timed.
    problem = power(channels=2, batch=200, elements=89, direction="backward")
    rows = rows_of(problem, "cg", "matrix")
    assert [row.reason for row in rows if row.status != "ok"] == []
    assert {row.product for row in rows if row.measure == "runtime"} == {"cg", "matrix"}
    cost = {row.product: row.measured for row in rows if row.measure == "cost"}["cg"]
    weights = 89 * 2 * 41  # a weight for each coupling, of which many vanish
    assert cost["bytes"] == 4 * (200 * 2 * (9 + 4) + weights)


def test_what_a_power_gives_up_is_said_of_couplings():
    from etp.analysis.findings import missing_words

    rows = rows_of(power(batch=4), "cg", "matrix")
    (comparison,) = comparisons(rows)
    assert missing_words(comparison.problem, comparison.entry("cg")) is None
    words = missing_words(comparison.problem, comparison.entry("matrix"), "matrix")
    assert words is not None
    assert "11 of the 17 independent couplings" in words


def test_a_sweep_of_powers_has_products_of_its_own(capsys, tmp_path):
    out = tmp_path / "powers.jsonl"
    words = "sweep --kind power --irreps1 4x0e+4x1o --order 2 3 --batch 8 --rounds 1 --budget 0"
    assert main([*words.split(), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "0e+1o to 0e+1o, power of order 3, 8 nodes" in printed.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["problem"]["order"] for row in rows} == {2, 3}
    assert {row["product"] for row in rows} == {"cg", "gaunt-grid", "matrix"}
    assert main([*words.split(), "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("already") == 2


@pytest.mark.parametrize("measure", ["agreement", "equivariance", "expressivity", "interactions",
                                     "runtime"])  # fmt: skip
def test_every_question_about_a_power_has_an_answer(capsys, measure):
    words = f"measure {measure} --product GAUNT-GRID --kind power --irreps1 0e+1o --batch 4 --json"
    assert main(words.split()) == 0
    assert json.loads(capsys.readouterr().out)["product"] == "gaunt-grid"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("sweep --kind power --irreps1 0e+1o --products e3nn", "no power 'e3nn'; known: cg"),
        ("sweep --kind power --irreps2 0e+1o", "give --setting"),
        ("measure runtime --product cg --irreps1 0e --irreps2 0e", "no tensor product 'cg'"),
    ],
)
def test_bad_words_are_one_line(capsys, words, part):
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert part in said
    assert said.count("\n") == 1


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_a_compiled_power_is_timed_like_a_product():
    rows = rows_of(power(batch=4, direction="backward"), "cg+compile", "cg")
    assert [row.reason for row in rows if row.status != "ok"] == []
    compiled = {
        row.product: row.result["compiled"]
        for row in rows
        if row.result and row.measure == "runtime"
    }
    assert compiled["cg+compile"]["torch.compile"] > 0
    assert "torch.compile" not in compiled["cg"]
    (twice,) = rows_of(power(batch=4, direction="double-backward"), "cg+compile")
    assert (twice.status, "no second derivatives" in str(twice.reason)) == ("invalid", True)

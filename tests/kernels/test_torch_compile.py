"""Products under ``torch.compile``, and what the compiler takes apart from the first call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from etp import measure
from etp.kernels import compile_times as compiling
from etp.kernels import torch_compile
from etp.kernels.on_cpu import build as native
from etp.measure import runtime
from etp.measure.clock import Call
from etp.problem import Problem
from etp.run.case import Case, build, checks, run
from etp.run.case.checks import started
from etp.ui.settings import Settings

PROBLEM = Problem.of_setting("MIMO", 1, batch=8)
needs_compiler = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))
# The compiler's own, of things that are none of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@needs_compiler
@pytest.mark.parametrize(
    ("name", "problem"),
    # Of e3nn the compiler writes C++, of some seconds for each path.
    [("matrix", PROBLEM), ("e3nn", Problem.of_setting("SISO", 1, batch=8))],
    ids=["matrix", "e3nn"],
)
def test_a_compiled_product_is_right_and_its_compiler_is_counted_apart(name, problem):
    torch_compile.forget()
    tp, start = started(problem, name + "+compile", called=True)
    assert start.compiled["torch.compile"] > 0
    assert start.compile_s >= start.compiled["torch.compile"]
    assert measure.agreement(tp, dtype=torch.float32).passed
    _, plain = started(problem, name, called=True)
    assert "torch.compile" not in plain.compiled


def test_what_compilers_take_is_no_part_of_set_up_and_first_call(monkeypatch):
    now = [100.0]

    def work(seconds: float, compiler: float) -> None:
        now[0] += seconds + compiler
        compiling.made("a compiler", compiler)

    monkeypatch.setattr(checks, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(checks, "build", lambda *_: work(1.0, 3.0))
    monkeypatch.setattr(checks, "inputs", lambda *_: (None, None, None))
    monkeypatch.setattr(runtime, "make_call", lambda *_, **__: Call(lambda: work(0.5, 2.0)))
    _, start = checks.started(PROBLEM, "any", called=True)
    assert start == (1.0, 0.5, 5.0, {"a compiler": 5.0})


def test_second_derivatives_are_refused_with_the_reason():
    case = Case(PROBLEM.at(direction="double-backward"), ("matrix+compile",), rounds=1)
    (row,) = [row for row in run(case.as_dict()) if row.get("measure") == "runtime"]
    assert row["status"] == "invalid"
    assert "torch.compile has no second derivatives" in row["reason"]


def test_a_wrong_name_is_named_without_the_suffix():
    with pytest.raises(ValueError, match=r"no tensor product 'matrx'.*did you mean 'matrix'"):
        build(PROBLEM, "matrx+compile")


def test_settings_name_both_forms_and_write_both_down():
    chosen, errors = Settings.from_query({"products": "matrix,e3nn", "compiled": "also"})
    assert not errors
    assert chosen.names() == ("matrix", "matrix+compile", "e3nn", "e3nn+compile")
    assert "--products matrix,matrix+compile,e3nn,e3nn+compile " in chosen.command()
    assert "tp.compile()" in chosen.snippet("matrix+compile")
    assert "tp.compile()" not in chosen.snippet("matrix")


@needs_compiler
def test_rows_hold_compile_time_and_an_empty_call():
    case = Case(PROBLEM, ("cg-sparse", "e3nn"), rounds=2, budget_s=0.1)
    found = {row["product"]: row["result"] for row in run(case.as_dict()) if "result" in row
             and row["measure"] == "runtime"}  # fmt: skip
    assert found["cg-sparse"]["compile_s"] == sum(found["cg-sparse"]["compiled"].values()) > 0
    assert found["e3nn"]["compile_s"] == 0
    assert all(result["empty_s"] > 0 for result in found.values())

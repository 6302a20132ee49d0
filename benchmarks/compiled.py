"""Where ``torch.compile`` wins, and after how many calls it has paid for its compile time.

``python -m benchmarks.compiled`` times every product that runs here beside its compiled form in
MIMO, in interleaved rounds, both checked against the oracle first, and prints a table.
"""

from __future__ import annotations

import argparse
from math import exp

from etp import products
from etp.analysis.comparison import Comparison, comparisons
from etp.analysis.growth import pay_offs
from etp.kernels.torch_compile import SUFFIX
from etp.problem import Problem
from etp.results.rows import Row
from etp.run import case as sweep


def compared(name: str, problem: Problem) -> Comparison:
    """One product beside its compiled form."""
    case = sweep.Case(problem, (name, name + SUFFIX), budget_s=3.0, memory=False)
    rows: list[Row] = [item for item in sweep.run(case.as_dict()) if isinstance(item, Row)]
    (comparison,) = comparisons(rows)
    return comparison


def line(name: str, comparison: Comparison) -> str:
    """One line of the table: how many times faster the compiled form is, and what it costs."""
    form = name + SUFFIX
    entry = comparison.entry(form)
    if not entry.valid:
        row = next(iter(entry.rows.values()))
        return f"| {name} | {comparison.problem.lmax} | {row['reason']} | | |"
    verdict = comparison.judgement.verdicts[form]
    low, high = sorted((verdict.low, verdict.high))
    ratio = f"{exp(-verdict.estimate):.2f}"
    interval = f"{exp(-high):.2f} to {exp(-low):.2f}"
    seconds = entry.result("runtime")["compiled"].get("torch.compile", 0.0)
    earned = [pay_off for pay_off in pay_offs(comparison) if pay_off.product == form]
    calls = f"{earned[0].calls:.2g}" if earned else "never"
    cells = (
        name, comparison.problem.lmax, f"{ratio} ({interval})", verdict.word, f"{seconds:.1f}",
        calls,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lmax", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--product", nargs="*", help="only these")
    options = parser.parse_args()
    names = options.product or products.available()
    print("| product | lmax | times as fast | verdict | compile, s | pays off after calls |")
    print("|---|---|---|---|---|---|")
    for name in names:
        for lmax in options.lmax:
            problem = Problem.of_setting("MIMO", lmax, batch=options.batch)
            try:
                print(line(name, compared(name, problem)), flush=True)
            except ValueError as error:
                print(f"| {name} | {lmax} | {error} | | | |", flush=True)


if __name__ == "__main__":
    main()

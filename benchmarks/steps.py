"""Time training steps with each power; write the table and the reference results of the page.

``python -m benchmarks.steps`` takes steps of the potential at the paper's settings (lmax 3, order
3; 64, 128 and 256 channels where memory allows) with the paper's Gaunt forms and the exact
contraction, interleaved and paired, and writes ``benchmarks/steps.md`` and the rows that the page
of applications shows. Nothing else should run meanwhile. ``--device cuda:0`` times a GPU.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Sequence
from pathlib import Path

from etp.analysis.learning import step_finding, step_frame
from etp.experiments.settings import Potential
from etp.results.reference import DATA
from etp.results.rows import Row, jsonl
from etp.run import case as cases
from etp.run.case.case import check_fits
from etp.ui.plans import TIMED_LMAX, TIMED_POWERS

TABLE = Path(__file__).parent / "steps.md"
PAPER = 1.3125
"""Times as fast a step with the grid as with the 2D-Fourier form, in the paper's notebook."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--product", default="cg-sparse", help="of convolutions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--out", type=Path, default=DATA / "steps.jsonl.gz")
    options = parser.parse_args()
    rows: list[Row] = []
    for channels in options.channels:
        settings = Potential(
            channels=channels, lmax=TIMED_LMAX, steps=options.rounds, batch=options.batch,
            device=options.device,
        )  # fmt: skip
        case = settings.case(TIMED_POWERS) | {"kind": "step-time", "product": options.product}
        try:
            check_fits(settings.problem())
            rows += [item for item in cases.run(case) if isinstance(item, Row)]
        except (ValueError, MemoryError, RuntimeError) as error:
            print(f"{channels} channels left out: {error}")
            continue
        options.table.write_text(table(rows))
        with gzip.open(options.out, "wt", encoding="utf-8", compresslevel=9) as file:
            file.write(jsonl(rows))
    print(table(rows))


def table(rows: Sequence[Row]) -> str:
    """The table in words and numbers, for each number of channels."""
    if not rows:
        return "# Training steps\n\nNothing was timed.\n"
    first = rows[0]
    about = first.environment
    parts = [
        "# Training steps\n\n"
        f"A MACE-style potential, lmax {first.problem['lmax']}, order 3, {first.problem['dtype']}, "
        f"on {about['device_name']}, torch {about['torch']}, {about['date'][:10]}; rounds of one "
        "step with each power in random order, ratios paired within rounds with their intervals, "
        "beside a twin of the first. The paper found a step with the grid "
        f"{PAPER} times as fast as with the 2D-Fourier form (ratio {1 / PAPER:.2f}), and did not "
        "time the exact contraction.\n"
    ]
    for channels in dict.fromkeys(row.problem["channels"] for row in rows):
        own = [row for row in rows if row.problem["channels"] == channels]
        shown = step_frame(own)
        head = "| " + " | ".join(shown.columns) + " |"
        lines = ["| " + " | ".join(line) + " |" for line in shown.itertuples(index=False)]
        rule = "|" + "---|" * len(shown.columns)
        said = step_finding(own)
        parts.append(
            "\n".join([f"## {channels} channels\n", head, rule, *lines, "", said.heading]) + "\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    main()

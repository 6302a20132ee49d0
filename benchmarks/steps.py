"""Time training steps with each power; write the table and the reference results of the page.

``python -m benchmarks.steps`` takes steps of the potential at the paper's settings (lmax 3, order
3; 64, 128 and 256 channels where memory allows) with the paper's Gaunt forms and the exact
contraction, interleaved and paired, and writes ``benchmarks/steps.md`` and the rows that the page
of applications shows. Nothing else should run meanwhile. ``--device cuda:0`` times a GPU. When the
time is up or Ctrl-C is pressed, the round ends and what was timed is written.
"""

from __future__ import annotations

import argparse
import gzip
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from etp.analysis.learning import step_frame
from etp.analysis.step_time import PAPER, load_flags, step_finding
from etp.experiments.settings import PotentialSettings
from etp.results.reference import DATA
from etp.results.rows import Row, jsonl
from etp.run import case as cases
from etp.run.case.case import check_fits
from etp.ui.plans import TIMED_LMAX, TIMED_POWERS

TABLE = Path(__file__).parent / "steps.md"


class Patience:
    """Whether to stop: asked after each round.

    Args:
        seconds: Time for everything.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.share_end = self.end
        self.interrupted = False

    def interrupt(self, *_: object) -> None:
        """Stop after this round; the next signal ends the process at once."""
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def next(self, part: int, left: int) -> None:
        """Give what comes next ``part`` of ``left`` parts of the time that is left."""
        now = time.monotonic()
        self.share_end = now + (self.end - now) * part / left

    def over(self) -> bool:
        """Whether the time is up."""
        return self.interrupted or time.monotonic() > self.share_end


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rounds", type=int, default=40, help="at most, of each size")
    parser.add_argument("--seconds", type=float, default=600, help="for everything")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--product", default="cg-sparse", help="of convolutions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--out", type=Path, default=DATA / "steps.jsonl.gz")
    options = parser.parse_args()
    patience = Patience(options.seconds)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, patience.interrupt)
    rows: list[Row] = []
    for n, channels in enumerate(options.channels):
        if patience.interrupted:
            break
        # A step takes about as long as there are channels.
        patience.next(channels, sum(options.channels[n:]))
        settings = PotentialSettings(
            channels=channels, lmax=TIMED_LMAX, steps=options.rounds, batch=options.batch,
            device=options.device, threads=options.threads,
        )  # fmt: skip
        case = settings.case(TIMED_POWERS) | {"kind": "step-time", "product": options.product}
        try:
            check_fits(settings.problem())
            rows += [item for item in cases.run(case, patience.over) if isinstance(item, Row)]
        except (ValueError, MemoryError, RuntimeError) as error:
            print(f"{channels} channels left out: {error}")
            continue
        options.table.write_text(table(rows), encoding="utf-8")
        with gzip.open(options.out, "wt", encoding="utf-8", compresslevel=9) as file:
            file.write(jsonl(rows))
    print(table(rows))


def table(rows: Sequence[Row]) -> str:
    """The table in words and numbers, for each number of channels."""
    if not rows:
        return "# Training steps\n\nNothing was timed.\n"
    first = rows[0]
    about = first.environment
    loaded = "".join(f" **{flag.name}**: {flag.detail}." for flag in load_flags(rows))
    parts = [
        "# Training steps\n\n"
        f"A MACE-style potential, lmax {first.problem['lmax']}, order 3, {first.problem['dtype']}, "
        f"on {about['device_name']}, {about['threads']} of {about['cores']} threads, torch "
        f"{about['torch']}, {about['date'][:10]}; rounds of one step with each power in random "
        "order. Ratios are paired within rounds and have intervals, beside a twin of the first. "
        "The share of the powers is what a step takes longer than one whose powers cost nothing, "
        f"paired in the same rounds. The paper found a step with the grid {PAPER} times as fast as "
        f"with the 2D-Fourier form (ratio {1 / PAPER:.2f}).{loaded}\n"
    ]
    for channels in dict.fromkeys(row.problem["channels"] for row in rows):
        own = [row for row in rows if row.problem["channels"] == channels]
        shown = step_frame(own)
        head = "| " + " | ".join(shown.columns) + " |"
        lines = ["| " + " | ".join(line) + " |" for line in shown.itertuples(index=False)]
        rule = "|" + "---|" * len(shown.columns)
        said = step_finding(own)
        words = f"{said.heading} {said.meaning} ({said.doubt})"
        parts.append("\n".join([f"## {channels} channels\n", head, rule, *lines, "", words]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()

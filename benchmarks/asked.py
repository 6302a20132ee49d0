"""What it costs to be asked: import, building a product, first call, and the harness itself.

``python -m benchmarks.asked`` prints a table; every figure is the best of several fresh processes,
because that is what the code costs when nothing else disturbs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCTS = ("cg-sparse", "cg-dense", "gaunt-grid", "matrix")

_CLOCK = "import json, time\nstart = time.perf_counter()\n"
_DONE = "\nprint(json.dumps(time.perf_counter() - start))"
_IMPORT = _CLOCK + "import etp" + _DONE
_BUILD = """
import json, time
from etp import products
from etp.irreps import setting_irreps
from etp.measure.drawing import random_inputs
first, second, _ = setting_irreps("MIMO", 6)
small, _, _ = setting_irreps("MIMO", 1)
make = products.get({name!r})
x, y = random_inputs(make(small, small), 1, __import__("torch").Generator())
make(small, small)(x, y)
times = []
for _ in range(2):
    start = time.perf_counter()
    product = make(first, second)
    built = time.perf_counter()
    x, y = (t.float() for t in random_inputs(product, 10, __import__("torch").Generator()))
    called = time.perf_counter()
    product(x, y)
    times.append((built - start, time.perf_counter() - called))
print(json.dumps(times))
"""
_COMPILE = """
import json, time, torch
from etp.kernels.on_cpu import tile
start = time.perf_counter()
reason = tile.missing()
print(json.dumps((time.perf_counter() - start, reason)))
"""
_OVERHEAD = """
import json
from etp.measure import selftest
print(json.dumps([str(selftest._known_duration()), str(selftest._overhead())]))
"""


def ask(code: str, **environ: str) -> object:
    """Run code in a fresh process and read what it prints."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environ,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def row(what: str, seconds: float, limit: float | None = None) -> None:
    """Print one line."""
    verdict = "" if limit is None else f"{'met' if seconds < limit else 'missed'} (< {limit:g} s)"
    print(f"| {what} | {seconds:.3f} s | {verdict} |")


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=5)
    tries = range(parser.parse_args().tries)
    print("| what | cost | asked |\n|---|---|---|")
    row("import etp", min(float(str(ask(_IMPORT))) for _ in tries), 0.3)
    with tempfile.TemporaryDirectory() as folder:
        seconds, reason = ask(_COMPILE, XDG_CACHE_HOME=folder)  # type: ignore[misc]
    note = f" ({reason})" if reason else ""
    row(f"compile the CPU kernel, once per machine and precision{note}", seconds)
    row("load the CPU kernel", min(ask(_COMPILE)[0] for _ in tries))  # type: ignore[index]
    for name in PRODUCTS:
        answers = [ask(_BUILD.format(name=name)) for _ in tries]
        for number, when in enumerate(("first in a process", "again")):
            built = min(pair[number][0] for pair in answers)  # type: ignore[index]
            called = min(pair[number][1] for pair in answers)  # type: ignore[index]
            row(f"{name}, lmax 6, {when}: build", built, 0.5)
            row(f"{name}, lmax 6, {when}: first call", called)
    for line in ask(_OVERHEAD):  # type: ignore[attr-defined]
        print(f"\nHarness: {line}")


if __name__ == "__main__":
    main()

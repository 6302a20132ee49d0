"""One contestant's process: makes what it is asked for and times it, one JSON line at a time.

``python worker.py MODULE THREADS`` imports ``MODULE``, which offers ``make(work, x, y)``: a
dictionary of calls by name. Each call does the whole work, waits for the result and returns arrays,
the output first. Questions come on standard input, answers go to standard output:

- ``{"do": "make", "work": {...}, "x": FILE, "y": FILE}``: names made, and why others were not;
- ``{"do": "output", "name": NAME, "batch": N, "rows": N, "to": FILE}``: saves the first
  samples of the output;
- ``{"do": "time", "name": NAME, "calls": N}``: seconds of each call;
- ``{"do": "limits"}``: what the module says about its limits (only ours does).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Answer until the input ends."""
    module, threads = sys.argv[1], int(sys.argv[2])
    # The same cores for everybody, the last ones because the first serves interrupts.
    # XLA sizes its pool by what it may run on.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.path.insert(0, str(Path(__file__).parent))
    calls: dict[str, Any] = {}
    contestant: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            contestant = contestant or importlib.import_module(module)
            contestant.set_threads(threads)
            answer = _answer(contestant, calls, question)
        except Exception as error:  # a peer may fail in any way, and must not end the run
            answer = {"failed": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")


def _answer(contestant: Any, calls: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
    if question["do"] == "make":
        calls.clear()
        contestant.forget()
        x, y = (np.load(question[key]) for key in ("x", "y"))
        failed = {}
        for name, make in contestant.OFFERS[question["work"]["operation"]].items():
            try:
                call = make(question["work"], x, y)
                call()
                calls[name] = call
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"[:300]
        return {"made": list(calls), "failed": failed}
    if question["do"] == "output":
        z = np.asarray(calls[question["name"]]()[0])
        samples_first = z if len(z) == question["batch"] else z.T
        np.save(question["to"], samples_first[: question["rows"]])
        return {}
    if question["do"] == "time":
        return {"seconds": times(calls[question["name"]], question["calls"])}
    return dict(contestant.limits(question["work"]))


def times(call: Any, count: int) -> list[float]:
    """Seconds of each call, after one that is not counted."""
    call()
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    main()

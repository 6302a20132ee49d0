"""The pool: every piece once, from any number of threads, nested, and in children after a fork."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from etp.kernels.on_cpu import build

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

SOURCE = """
#include "pool.h"
#include <stdatomic.h>

typedef void (*Parallel)(int64_t, int, void (*)(void *, int64_t), void *);
typedef struct { Parallel parallel; int64_t pieces; atomic_int *counts; } Inner;

void count(void *context, int64_t index) {
    volatile int work = 0;
    while (work < 200) work = work + 1;
    atomic_fetch_add((atomic_int *)context + index, 1);
}

void nest(void *context, int64_t index) {
    const Inner *inner = context;
    inner->parallel(inner->pieces, 3, count, inner->counts + index * inner->pieces);
}
"""


class Inner(ctypes.Structure):
    _fields_ = (
        ("parallel", ctypes.c_void_p),
        ("pieces", ctypes.c_int64),
        ("counts", ctypes.c_void_p),
    )


@cache
def pieces() -> ctypes.CDLL:
    return build.generated(SOURCE, "pool-test").handle


def address(function: object) -> ctypes.c_void_p:
    return ctypes.cast(function, ctypes.c_void_p)  # type: ignore[arg-type]


def parallel(number: int, threads: int, piece: object, context: object) -> None:
    run = build.library().handle.etp_parallel
    run.argtypes = (ctypes.c_int64, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    run.restype = None
    run(number, threads, address(piece), context)


def counts_of(number: int, threads: int) -> set[int]:
    """How often each of the pieces of a call was run."""
    counts = (ctypes.c_int * max(number, 1))()
    parallel(number, threads, pieces().count, counts)
    return set(counts[:number])


@pytest.mark.parametrize("threads", [-1, 0, 1, 2, 3, 8, 2000])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 1000])
def test_every_piece_is_run_once(number, threads):
    if threads > 100 and number > 100:
        threads = 100  # the number of helpers stays bearable
    assert counts_of(number, threads) <= {1}


def test_calls_that_follow_one_another_do_not_mix():
    for number in range(1, 3000):
        assert counts_of(number % 7 + 1, 3) == {1}


def test_several_threads_may_call_at_once():
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda k: counts_of(50 + k % 90, 3), range(2000)))
    assert found == [{1}] * 2000


def test_a_piece_may_call_again():
    outer, inner = 40, 30
    counts = (ctypes.c_int * (outer * inner))()
    handed = Inner(address(build.library().handle.etp_parallel), inner, ctypes.addressof(counts))
    parallel(outer, 3, pieces().nest, ctypes.byref(handed))
    assert set(counts) == {1}


IN_A_PROCESS = """
import ctypes, os, signal, sys, threading, time
from tests.kernels.test_pool import build, counts_of
helpers = build.library().handle.etp_helpers
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_PROCESS + code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
        timeout=120,
    )


def test_no_thread_is_started_before_it_is_needed_and_none_too_many():
    done = run("""
print(helpers()); counts_of(1, 4); counts_of(9, 1); print(helpers())
counts_of(9, 3); print(helpers()); counts_of(9, 2); print(helpers())
""")
    assert done.stdout.split() == ["0", "0", "2", "2"], done.stderr
    assert done.returncode == 0


FORK = """
def child():
    signal.alarm(30)
    right = helpers() == 0 and all(counts_of(300, 3) == {1} for _ in range(50)) and helpers() == 2
    os._exit(0 if right else 1)

def forked():
    pid = os.fork()
    if pid == 0:
        child()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_a_child_computes_after_a_fork():
    done = run(
        FORK
        + """
assert counts_of(300, 3) == {1}
print(forked(), forked(), counts_of(300, 3), helpers())
"""
    )
    assert done.stdout.split() == ["0", "0", "{1}", "2"], done.stderr


def test_a_child_computes_though_another_thread_was_inside():
    done = run(
        FORK
        + """
stop = threading.Event()
def busy():
    while not stop.is_set():
        assert counts_of(200000, 3) == {1}
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
print(*[forked() for _ in range(10)])
stop.set()
for thread in threads: thread.join()
print(counts_of(300, 3))
"""
    )
    assert done.stdout.split() == ["0"] * 10 + ["{1}"], done.stderr


def test_a_child_builds_though_another_thread_was_building():
    done = run(
        FORK
        + """
inside, over = threading.Event(), threading.Event()
def build_slowly():
    with build._ONE_AT_A_TIME:
        inside.set()
        over.wait()
thread = threading.Thread(target=build_slowly)
thread.start()
inside.wait()
print(forked())
over.set()
thread.join()
"""
    )
    assert done.stdout.split() == ["0"], done.stderr


@pytest.mark.parametrize(
    ("kept", "maker", "asked"),
    [
        ("tempdir", "_get_default_tempdir", "gettempdir"),
        ("_name_sequence", "_RandomNameSequence", "_get_candidate_names"),
    ],
)
def test_a_child_builds_though_another_thread_was_in_tempfile(kept, maker, asked):
    done = run(
        FORK
        + f"""
import tempfile
tempfile.mktemp()
inside, make = threading.Event(), tempfile.{maker}
def make_slowly():
    inside.set()
    time.sleep(0.3)
    return make()
tempfile.{kept}, tempfile.{maker} = None, make_slowly
thread = threading.Thread(target=tempfile.{asked})
thread.start()
inside.wait()
print(forked())
thread.join()
"""
    )
    assert done.stdout.split() == ["0"], done.stderr


def test_a_process_ends_though_a_thread_is_inside():
    done = run("""
threading.Thread(target=lambda: [counts_of(10**6, 3) for _ in range(100)], daemon=True).start()
while helpers() == 0: pass
print("end", flush=True)
""")
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr

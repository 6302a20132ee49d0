"""Built libraries on disk: whole or built anew, used without a compiler, a warning without both."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etp.kernels.on_cpu import build, cache
from etp.measure.drawing import random_inputs

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

USE = """
import torch
from etp import products
from etp.kernels.on_cpu import build
from etp.measure.drawing import random_inputs
tp = products.get("cg-sparse")("0e+1o", "0e+1o")
x, y = random_inputs(tp, 40, torch.Generator().manual_seed(0), torch.float64)
wanted = torch.load({answer!r})
for _ in range(2):
    torch.testing.assert_close(tp(x, y), wanted, rtol=1e-12, atol=1e-12)
print("compiled" if build.missing() is None else "plain")
"""


@pytest.fixture(scope="module", autouse=True)
def _quick(quick_compiler) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quick_compiler.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A cache folder in which the library was built by another process."""
    folder = tmp_path_factory.mktemp("built")
    assert use(folder, answer(folder)).stdout == "compiled\n"
    return folder


def answer(folder: Path) -> Path:
    """The product of ``USE`` by a dense contraction."""
    import torch

    from etp import products
    from etp.measure.oracle import evaluate

    tp = products.get("cg-sparse")("0e+1o", "0e+1o")
    x, y = random_inputs(tp, 40, torch.Generator().manual_seed(0), torch.float64)
    path = folder / "answer.pt"
    torch.save(evaluate(tp, x, y), path)
    return path


def use(
    folder: Path, wanted: Path, code: str = USE, **environ: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a product in a process whose cache lies in ``folder``."""
    names = os.environ | {"ETP_CACHE": str(folder), "PYTHONPATH": str(ROOT)} | environ
    return subprocess.run(
        [sys.executable, "-c", code.format(answer=str(wanted))],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in names.items() if value is not None},
        timeout=300,
    )


@pytest.fixture
def copy(built, tmp_path) -> Path:
    """That folder, to be damaged."""
    return Path(shutil.copytree(built, tmp_path / "copy"))


def library_in(folder: Path) -> Path:
    (path,) = folder.glob("kernels-*.so")
    return path


DAMAGE = {
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "garbage": lambda whole: os.urandom(len(whole)),
    "one bit": lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
}


def found_in(folder: Path, key: str) -> cache.StoredLibrary | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETP_CACHE", str(folder))
        return cache.find(key)


def key_of(library: Path) -> str:
    return library.stem.rpartition("-")[0]


def test_a_damaged_library_is_built_anew(copy):
    path = library_in(copy)
    path.write_bytes(DAMAGE["one bit"](path.read_bytes()))
    assert use(copy, copy / "answer.pt").stdout == "compiled\n"
    assert found_in(copy, key_of(path)) is not None


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_library_is_passed_over(damage, copy):
    path = library_in(copy)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert found_in(copy, key_of(path)) is None


def test_a_damaged_library_without_a_compiler_is_not_loaded(copy, tmp_path):
    path = library_in(copy)
    path.write_bytes(DAMAGE["cut in half"](path.read_bytes()))
    assert use(copy, copy / "answer.pt", PATH=str(tmp_path)).stdout == "plain\n"


@pytest.mark.parametrize("text", ["", "soon", None])
def test_a_damaged_note_of_the_seconds_is_no_matter(text, copy):
    path = library_in(copy)
    note = path.with_suffix(".seconds")
    if text is None:
        note.unlink()
    else:
        note.write_text(text)
    assert found_in(copy, key_of(path)) == (path, 0.0)


def test_a_library_with_a_damaged_note_is_not_built_anew(copy):
    note = library_in(copy).with_suffix(".seconds")
    note.write_text("soon")
    before = library_in(copy).stat().st_mtime_ns
    assert use(copy, copy / "answer.pt").stdout == "compiled\n"
    assert library_in(copy).stat().st_mtime_ns == before


def test_a_warm_cache_is_used_without_a_compiler_and_without_a_warning(built, tmp_path):
    done = use(built, built / "answer.pt", PATH=str(tmp_path))
    assert done.stdout == "compiled\n"
    assert "SlowForm" not in done.stderr


def test_without_compiler_and_cache_one_warning_says_so(built, tmp_path):
    done = use(tmp_path / "none", built / "answer.pt", PATH=str(tmp_path))
    assert done.stdout == "plain\n"
    assert done.stderr.count("SlowForm") == 1
    assert "install g++ or clang++" in done.stderr
    assert list((tmp_path / "none").rglob("*.nbi"))  # Numba's files too, not in the package


COMPILER = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
exec dd if=/dev/zero of="$2" bs=64k
"""
"""Writes objects without end, as far as the disk goes."""


@pytest.mark.fault(
    done="the disk full while kernels are compiled",
    lost="no rows yet",
    doubled="no rows yet",
    says="products use their plain form, which is slow",
)
def test_the_disk_is_full_while_kernels_are_compiled(built, tmp_path):
    disk, compiler = tmp_path / "disk", tmp_path / "endless"
    disk.mkdir()
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        done = use(disk, built / "answer.pt", CXX=str(compiler))
        assert done.stdout == "plain\n"
        assert done.stderr.count("SlowForm") == 1
        assert "No space left on device" in done.stderr
        # Nothing half made is left to be loaded, and the disk is as free as before.
        assert not [path for path in disk.rglob("*") if path.suffix in (".so", ".o")]
        assert shutil.disk_usage(disk).free > 500_000
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_processes_that_build_at_once_all_compute(built, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(use, tmp_path, built / "answer.pt") for _ in range(2)]
    assert [future.result().stdout for future in running] == ["compiled\n"] * 2
    # Nothing half done is left.
    assert {path.suffix for path in tmp_path.iterdir()} == {".so", ".seconds"}


PLACE = """
import os
from etp.kernels.on_cpu import build, cache
assert build.missing() is None
print(cache.writable_folder())
"""


def test_a_folder_that_cannot_be_written_is_replaced_by_a_private_one(built, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    done = use(in_the_way, built, PLACE, TMPDIR=str(tmp_path))
    place = Path(done.stdout.strip())
    assert place.parent == tmp_path
    assert not place.exists()  # removed with the process
    assert in_the_way.read_text() == "no folder"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"ETP_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/etp"),
        ({"HOME": "/c"}, "/c/.cache/etp"),
    ],
)
def test_the_folder_follows_the_environment(environ, wanted, monkeypatch):
    for name in ("ETP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert cache.folder() == Path(wanted)


def test_without_a_home_a_private_folder_is_made(monkeypatch, tmp_path):
    def no_home(cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ETP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", classmethod(no_home))
    assert cache.folder() is None
    assert cache.find("kernels") is None
    place = cache.writable_folder()
    assert place.stat().st_mode & 0o777 == 0o700


def test_generated_source_is_compiled_once_and_called_by_its_address(tmp_path, monkeypatch):
    monkeypatch.setenv("ETP_CACHE", str(tmp_path))
    source = """
    #include "pool.h"
    void fill(void *context, int64_t index) { ((REAL *)context)[index] = 3 * index; }
    """
    made = build.generated(source, "trial", ("-DREAL=double",))
    numbers = (ctypes.c_double * 1000)()
    run = build.library().handle.etp_parallel
    run.argtypes = (ctypes.c_int64, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    run(1000, 3, ctypes.cast(made.handle.fill, ctypes.c_void_p), numbers)
    assert list(numbers) == [3.0 * k for k in range(1000)]
    monkeypatch.setattr(build, "compiler", lambda: None)
    assert build.generated(source, "trial", ("-DREAL=double",)).artifact == made.artifact
    with pytest.raises(build.UnbuiltError, match="no C"):
        build.generated(source, "trial", ("-DREAL=float",))


def test_source_that_is_wrong_says_what_the_compiler_said(tmp_path, monkeypatch):
    monkeypatch.setenv("ETP_CACHE", str(tmp_path))
    with pytest.raises(build.UnbuiltError, match="error"):
        build.generated("int f(void) { return nothing; }", "trial")
    assert list(tmp_path.iterdir()) == []

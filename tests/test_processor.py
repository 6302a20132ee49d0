"""What the system says of its processor, and systems that say nothing."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from etp import processor
from etp.kernels.on_cpu import build
from etp.measure import card

CPUINFO = (
    "processor\t: 0\nmodel name\t: Some CPU @ 2: x\ncpu MHz\t\t: 1000.0\nflags\t\t: fpu avx2\n\n"
    "processor\t: 1\nmodel name\t: Some CPU @ 2: x\ncpu MHz\t\t: 3000.0\nflags\t\t: fpu avx2\n"
)


@pytest.fixture
def told(monkeypatch, tmp_path) -> Path:
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "CPUINFO", path)
    return path


def test_name_clock_and_instruction_sets_come_from_one_place(told):
    told.write_text(CPUINFO)
    assert processor.name() == "Some CPU @ 2: x"
    assert card.device_state("cpu").clock_mhz == 2000.0
    key = build.processor.__wrapped__()
    assert key.count("avx2") == 1
    assert "Some CPU" in key


def test_where_nothing_is_said_the_architecture_is_named(told):
    assert not told.exists()
    assert processor.name() in (platform.processor(), platform.machine())
    assert card.device_state("cpu").clock_mhz is None
    assert platform.machine() in build.processor.__wrapped__()


def test_no_other_file_reads_it():
    root = Path(processor.__file__).parent
    readers = [path for path in root.rglob("*.py") if '"/proc/cpuinfo"' in path.read_text()]
    assert readers == [Path(processor.__file__)]

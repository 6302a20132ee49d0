"""Each part is imported by itself, whatever the release of e3nn and whoever comes first."""

from __future__ import annotations

from tests import forked

ALONE = ("etp.powers", "etp.measure.oracle", "etp.experiments.structures", "etp.interop")


def test_a_part_is_imported_first():
    done = forked.run({part: f"import {part}" for part in ALONE}, ["torch"])
    assert done.returncode == 0, done.stderr

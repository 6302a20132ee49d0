"""The files that are begun first are there, and begun first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.conftest import HERE, LONG, pytest_collection_modifyitems


def test_long_files_are_begun_first_and_are_there():
    assert len(set(LONG)) == len(LONG)
    assert [name for name in LONG if not (HERE / name).is_file()] == []
    items = [SimpleNamespace(path=path) for path in sorted(Path(HERE).rglob("test_*.py"))]
    pytest_collection_modifyitems(items)
    assert [item.path for item in items][: len(LONG)] == [HERE / name for name in LONG]

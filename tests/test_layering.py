"""The house plan: a file imports only from lower layers, and the light parts stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (
    {"e3", "options", "processor", "text"},
    {"irreps"},
    {"problem"},
    {"presets", "maths"},
    {"results", "kernels"},
    {"product"},
    {"products"},
    {"powers"},
    {"measure", "interop"},
    {"experiments"},
    {"run"},
    {"analysis", "charts"},
    {"report"},
    {"ui", "cli"},
    {"__main__"},
)
"""The rooms, from the ground floor up; those of one floor do not know each other."""
SHIMS = {"registry", "library_product"}
"""Old addresses of what has moved."""
PLACE = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted((ROOT / "etp").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def part(path: Path) -> str:
    relative = path.relative_to(ROOT / "etp")
    return relative.parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Parts of etp that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("etp"):
            pieces = node.module.split(".")
            found |= {pieces[1]} if len(pieces) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("etp.")}
    return found & set(PLACE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_from_its_own_room_or_from_floors_below(path):
    own = part(path)
    if own == "__init__" or own in SHIMS:
        pytest.skip("exports names that live elsewhere")
    assert own in PLACE, f"{own} has no place in the plan: add it to LAYERS"
    others = imported(path) - {own}
    assert not {name for name in others if PLACE[name] >= PLACE[own]}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_user_interface_knows_streamlit(path):
    if part(path) != "ui":
        assert "import streamlit" not in path.read_text()


def test_no_product_imports_another():
    for path in (ROOT / "etp" / "products").glob("*.py"):
        assert not re.search(r"from etp\.products(?! import _|\._)", path.read_text()), path


LIGHT = (
    "etp", "etp.irreps", "etp.problem", "etp.results.store", "etp.results.formats",
    "etp.run.runner", "etp.ui.settings", "etp.ui.plans", "etp.charts", "etp.analysis.tables",
    "etp.analysis.findings", "etp.measure.verdict", "etp.analysis.machines",
    "etp.ui.compare", "etp.ui.equivariance", "etp.ui.results", "etp.cli.main",
)  # fmt: skip
IMPORTED = """
import sys
from importlib import import_module
for light in sys.argv[1:]:
    import_module(light)
    found = [heavy for heavy in ("torch", "e3nn", "distributed") if heavy in sys.modules]
    if found:
        sys.exit(f"{light} imports {', '.join(found)}")
"""


def test_the_light_parts_import_neither_torch_nor_e3nn():
    """All in one process: what is not there after the last was imported by none."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *LIGHT], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_e3nn_is_imported_in_one_place():
    """Elsewhere a release before 0.5 could not be loaded, depending on who comes first."""
    pattern = re.compile(r"^\s*(from e3nn|import e3nn)", re.MULTILINE)
    found = {path.name for path in FILES if pattern.search(path.read_text())}
    assert found == {"e3.py"}


def files_imported(path: Path) -> set[Path]:
    """Files of etp that a file names in an import, anywhere in it."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {BY_NAME[name] for name in names if name in BY_NAME} - {path}


BY_NAME = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in FILES
    if path.name != "__init__.py"
}


def test_no_files_import_each_other_in_a_circle():
    arrows = {str(path): [*map(str, files_imported(path))] for path in FILES}
    TopologicalSorter(arrows).prepare()


def test_each_class_has_a_name_of_its_own():
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not {name: lines for name, lines in places.items() if len(lines) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_value_is_called_by_a_word_that_says_nothing(path):
    empty = {"found", "one", "thing", "stuff", "tmp", "res"}
    bound = {
        node.arg if isinstance(node, ast.arg) else node.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    }
    assert not bound & empty

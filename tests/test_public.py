"""The API of the documentation: what it names has examples, which are run, and says its arguments.

Public is what ``docs/api`` names. Arguments are named by every function of the library that a
program of one's own can call.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENTRY = re.compile(
    r"^::: (\S+)(?:\n    options:\n(?:      (?!members).*\n)*?      members: \[(.*?)\])?",
    re.MULTILINE | re.DOTALL,
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FEW = 3
"""Parameters from which on a docstring says what each one is."""
ROOMS = ("irreps", "options", "problem", "presets", "maths", "product", "products", "measure",
         "results", "run", "analysis", "charts")  # fmt: skip
"""What programs of one's own call: neither kernels, nor pages, nor the command line."""
CALLABLE = sorted(
    path
    for path in (ROOT / "etp").rglob("*.py")
    if path.relative_to(ROOT / "etp").parts[0].removesuffix(".py") in ROOMS
    and not path.name.startswith("_")
)


def public() -> dict[str, Any]:
    """Classes and functions that the API names, by their addresses."""
    found: dict[str, Any] = {}
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for address, members in ENTRY.findall(page.read_text()):
            thing = resolved(address)
            names = members.replace("\n", " ").split(",") if members else vars(thing)
            if not inspect.ismodule(thing):
                found[address] = thing
                continue
            inside = {name.strip(): getattr(thing, name.strip()) for name in names}
            found |= {
                f"{address}.{name}": value
                for name, value in inside.items()
                if not name.startswith("_")
                and (inspect.isclass(value) or callable(value))
                and value.__module__ == address
            }
    return found


def resolved(address: str) -> Any:
    """What an address names: a module, or something in one."""
    try:
        return importlib.import_module(address)
    except ModuleNotFoundError:
        module, _, name = address.rpartition(".")
        return getattr(resolved(module), name)


PUBLIC = public()


def test_the_api_is_as_large_as_it_looks():
    assert len(PUBLIC) > 50
    assert "etp.product.base.TensorProduct" in PUBLIC
    assert "etp.maths.so3.clebsch_gordan" in PUBLIC


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_name_has_an_example_that_runs(address):
    thing = PUBLIC[address]
    module = importlib.import_module(thing.__module__)
    globs = vars(module) | {"__name__": "example"}
    (test,) = doctest.DocTestFinder(recurse=False).find(thing, address, module=module, globs=globs)
    assert test.examples, f"{address} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    assert said == []


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions and methods of a file, those that override others left out."""

    def inside(node: ast.Module | ast.ClassDef, before: str) -> Iterator[tuple[str, Any]]:
        for child in node.body:
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                yield from inside(child, f"{before}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                decorators = [ast.unparse(each) for each in child.decorator_list]
                if not child.name.startswith("_") and "override" not in decorators:
                    yield before + child.name, child

    yield from inside(ast.parse(path.read_text()), "")


@pytest.mark.parametrize("path", CALLABLE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_of_three_parameters_says_what_each_is(path):
    for name, node in functions(path):
        of = node.args
        given = [*of.posonlyargs, *of.args, of.vararg, *of.kwonlyargs, of.kwarg]
        bound = ("self", "cls") if "." in name else ()
        names = [each.arg for each in given if each and each.arg not in bound]
        if len(names) < FEW:
            continue
        said = ast.get_docstring(node) or ""
        _, _, section = said.partition("Args:\n")
        entries = re.findall(r"^    \**(\w+):", section.partition("\n\n")[0], re.MULTILINE)
        assert entries == names, f"{path.name}: {name} has no Args: of all its parameters"

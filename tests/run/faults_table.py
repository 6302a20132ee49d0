"""The table of faults in ``docs/hosting.md``, made of the marks of the tests that do them.

``python -m tests.run.faults_table`` writes it anew.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hosting.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
HEAD = (
    "| done | rows lost | rows doubled | what is said | test |\n| --- | --- | --- | --- | --- |\n"
)


class Fault(NamedTuple):
    """What a test's mark says: its row of the table."""

    done: str
    lost: str
    doubled: str
    says: str
    test: str


def faults() -> Iterator[Fault]:
    """The marked tests, file by file, in their order."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for function in ast.parse(text).body if "mark.fault(" in text else ():
            if not isinstance(function, ast.FunctionDef):
                continue
            for mark in function.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    words = {word.arg: ast.literal_eval(word.value) for word in mark.keywords}
                    name = f"{path.relative_to(ROOT)}::{function.name}"
                    yield Fault(**{k or "": str(v) for k, v in words.items()}, test=name)


def table() -> str:
    """The rows as Markdown."""
    lines = [
        f"| {f.done} | {f.lost} | {f.doubled} | {f'“{f.says}”' if f.says else ''} | `{f.test}` |\n"
        for f in faults()
    ]
    return HEAD + "".join(lines)


def page(text: str) -> str:
    """The page with the table of now in its place."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

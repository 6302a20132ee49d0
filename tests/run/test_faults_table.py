from __future__ import annotations

import ast

from tests.run import faults_table


def test_the_page_has_the_table_that_the_tests_make():
    text = faults_table.PAGE.read_text(encoding="utf-8")
    assert faults_table.page(text) == text, "python -m tests.run.faults_table writes it anew"
    assert len(list(faults_table.faults())) >= 10


def test_what_is_said_stands_in_the_program():
    said = [
        node.value
        for path in (faults_table.ROOT / "etp").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for fault in faults_table.faults():
        assert any(fault.says in text for text in said), fault

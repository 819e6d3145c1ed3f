"""The page of quirks names the test that holds each of them."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_test_that_the_page_names_is_there() -> None:
    """A promise whose test was renamed or removed is no promise."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "quirks.md").read_text()))
    there = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert named
    assert named - there == set()

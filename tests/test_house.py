"""The rules of the house that no other tool checks: how long a part of the product may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("starburst_common", "prefect_starburst", "worker/starburst_worker")
MOST_OF_A_MODULE = 300  # lines
MOST_OF_A_BODY = 40  # lines of a function below its docstring


def too_long(text: str) -> Iterator[str]:
    """What of a module's text is, and by how much.

    >>> list(too_long("def f():\\n    " + '\"\"\"Its docstring.\"\"\"' + "\\n" + "    g()\\n" * 41))
    ['f has 41 lines, 40 at most']
    >>> list(too_long("g()\\n" * 301))
    ['it has 301 lines, 300 at most']
    """
    if (lines := text.count("\n")) > MOST_OF_A_MODULE:
        yield f"it has {lines} lines, {MOST_OF_A_MODULE} at most"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MOST_OF_A_BODY:
                yield f"{node.name} has {lines} lines, {MOST_OF_A_BODY} at most"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_and_no_function_is_long(package: str) -> None:
    """What would be longer is split by its nouns: CONTRIBUTING.md says how much is much."""
    modules = [*(ROOT / package).rglob("*.py")]
    assert modules
    assert [f"{module.relative_to(ROOT)}: {said}" for module in modules for said in too_long(module.read_text())] == []

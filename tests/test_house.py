"""The rules of the house that no other tool checks: how long a part may be, what is called pure, who has a name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("starburst_common", "prefect_starburst", "airflow_provider_starburst", "worker/starburst_worker")
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


@cache
def modules() -> dict[str, ast.Module]:
    """The product's, by name."""
    found = {}
    for package in PACKAGES:
        root = (ROOT / package).parent
        for file in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(file.read_text())
    return found


def sources_of(contract: str) -> set[str]:
    """The modules that a contract of import-linter is about."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = [each for each in contracts if each["name"] == contract]
    return set(found["source_modules"])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_and_no_function_is_long(package: str) -> None:
    """What would be longer is split by its nouns: CONTRIBUTING.md says how much is much."""
    modules = [*(ROOT / package).rglob("*.py")]
    assert modules
    assert [f"{module.relative_to(ROOT)}: {said}" for module in modules for said in too_long(module.read_text())] == []


def test_what_says_that_it_is_pure_is_under_contract() -> None:
    """The modules whose first line says so are those whose imports are looked at, and the other way round."""
    first_lines = {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in modules().items()}
    says = {name for name, line in first_lines.items() if re.search(r"\bPure\b", line)}
    assert says == sources_of("pure modules import nothing that has effects")
    apart = {name for name in says if re.match(r"starburst_common\.aws\.|prefect_starburst\.", name)}
    assert says - apart == sources_of("pure modules touch no adapter, not through others either")


def test_what_is_pure_asks_neither_the_clock_nor_the_disk() -> None:
    """What no import tells: a file opened, the time of a date, the folder that a path is of."""
    effects = {"open", "print", "input", "now", "utcnow", "today", "fromtimestamp", "cwd", "home", "exists", "stat"}
    effects |= {f"{verb}_{what}" for verb in ("read", "write") for what in ("text", "bytes")} | {"resolve", "iterdir"}
    for name in sources_of("pure modules import nothing that has effects"):
        calls = [node.func for node in ast.walk(modules()[name]) if isinstance(node, ast.Call)]
        called = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
        assert not called & effects, name


def test_no_two_classes_have_one_name() -> None:
    """A class that others import means one thing wherever it is read."""
    where = defaultdict(list)
    for name, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(name)
    assert {name: places for name, places in where.items() if len(places) > 1} == {}

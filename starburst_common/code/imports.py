"""A source file in; the modules that it imports out."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

from starburst_common.code.stamps import Stamp

#: An import statement, wherever one may begin, or a call that imports; a text that only looks like one does no harm.
_IMPORT = re.compile(
    r"(?:^|[:;])[ \t]*(?:from[ \t]+(\w[\w.]*)[ \t]+import\b|import[ \t]+([^\n;#]+))"
    r"|(?:import_module|__import__)\([ \t]*[\"'](\w[\w.]*)",
    re.MULTILINE,
)


@lru_cache(maxsize=4096)  # who submits a thousand lambdas has each file read once
def imports_of(path: Path, stamp: Stamp) -> frozenset[str]:
    """Top-level modules that a file imports. By pattern: to parse a project of some hundred files takes a second."""
    text = source_of(path).replace("\\\n", " ")
    lines = "\n".join(line for line in text.splitlines() if "import" in line)
    found: set[str] = set()
    for source, several, called in _IMPORT.findall(lines):
        found.update(word.split(".")[0] for each in (source, *several.split(","), called) for word in each.split()[:1])
    return frozenset(found)


@lru_cache(maxsize=256)
def parsed_imports(path: Path, stamp: Stamp) -> frozenset[str]:
    found: set[str] = set()
    for node in _parsed(path):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def relative_imports(path: Path) -> list[str]:
    """What a file imports from the package that it is in: the first name of each."""
    found: dict[str, None] = {}
    for node in _parsed(path):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found.update(dict.fromkeys(name.partition(".")[0] for name in names))
    return list(found)


def _parsed(path: Path) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(source_of(path))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def source_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

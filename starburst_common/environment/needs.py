"""Who needs whom in; what is needed but for our own sake out. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from starburst_common.environment.lines import OURS, logical_lines, requirement
from starburst_common.errors import BadInput

Node = tuple[str, str]  #: a package by its normalized name, and one of its extras or ""
Edges = Mapping[Node, Collection[Node]]


def reach(starts: Iterable[Node], edges: Edges, *, past: Collection[Node] = ()) -> set[Node]:
    """All that the starts lead to, themselves included; nothing is followed through `past`.

    >>> sorted(reach([("a", "")], {("a", ""): [("b", "")], ("b", ""): [("a", "")]}))
    [('a', ''), ('b', '')]
    """
    seen, left = set[Node](), list(starts)
    while left:
        node = left.pop()
        if node not in seen:
            seen.add(node)
            left += () if node in past else edges.get(node, ())
    return seen


def needed(names: Iterable[str], edges: Edges, *, direct: Iterable[str] = (), never: Collection[str] = ()) -> set[str]:
    """The packages that are there for more than starburst's sake: asked for, needed by others, or by an extra of ours.

    `direct` were asked for whoever else needs them; `never` count only if something needs them.

    >>> edges = {(OURS, ""): [("boto3", ""), ("rich", "")], ("app", ""): [(OURS, "parquet"), (OURS, "")]}
    >>> edges |= {(OURS, "parquet"): [("pyarrow", "")], ("other", ""): [("rich", "")]}
    >>> sorted(needed([OURS, "app", "boto3", "rich", "pyarrow", "other", "pip"], edges, never=["pip"]))
    ['app', 'other', 'pyarrow', 'rich']
    """
    known = set(names)
    for_us = {name for name, _ in reach([(OURS, "")], edges)}
    starts = {(name, "") for name in (known - for_us - set(never)) | (set(direct) & known)}
    return {name for name, _ in reach(starts - {(OURS, "")}, edges, past=[(OURS, "")])} & known - {OURS}


def nodes(needs: Iterable[str]) -> list[Node]:
    found = list[Node]()
    for text in needs:
        try:
            each = Requirement(re.sub(r"\s*\((.*?)\)", r" \1", text))
        except InvalidRequirement:
            each = Requirement(re.match(r"[\w.-]+(\[[^]]*])?", text)[0])  # type: ignore[index]
        name = canonicalize_name(each.name)
        found += [(name, canonicalize_name(extra)) for extra in ("", *each.extras)]
    return found


def without_ours(text: str, edges: Edges, direct: Iterable[str]) -> str:
    """Without starburst and what only starburst needs; what is `direct` was asked for whoever else needs it."""
    lines = logical_lines(text)
    names = {line: _line_name(line) for line in lines}
    if OURS not in {name for name, _ in edges} | set(names.values()):
        return text
    kept = needed([name for name in names.values() if name], edges, direct=direct)
    return "\n".join(line for line in lines if not names[line] or names[line] in kept)


def _line_name(line: str) -> str:
    """ "" for a path."""
    try:
        return requirement(line.split(" --hash")[0]).name
    except BadInput:
        return ""

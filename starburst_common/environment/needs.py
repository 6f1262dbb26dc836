"""Who needs whom in; what is needed but for our own sake out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from starburst_common.environment.lines import OURS

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

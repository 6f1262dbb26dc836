"""A URI with wildcards in; where to look, and which names match, out. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_WILD = re.compile(r"\*\*/?|\*|\?")
_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class Pattern(NamedTuple):
    """`*` and `?` stand for characters of one name, `**` for any number of folders."""

    start: str  #: all that matches begins so
    matching: re.Pattern[str]
    deep: bool  #: it may match in folders further down
    wild: bool  #: it may match several

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Of a path, or of a key.

        >>> [Pattern.of(text).start for text in ("calls/2026-*/a.csv", "calls/one.csv")]
        ['calls/2026-', 'calls/one.csv']
        >>> def matched(pattern: str) -> list[str]:
        ...     there = ("a/1.csv", "a/b/2.csv", "a/b/c/3.csv", "a/1.csv.gz", "b/4.csv")
        ...     return [name for name in there if Pattern.of(pattern).matching.fullmatch(name)]
        >>> matched("a/*.csv"), matched("a/**"), matched("*/?.csv")
        (['a/1.csv'], ['a/1.csv', 'a/b/2.csv', 'a/b/c/3.csv', 'a/1.csv.gz'], ['a/1.csv', 'b/4.csv'])
        >>> matched("a/**/*.csv"), matched("**/3.csv")
        (['a/1.csv', 'a/b/2.csv', 'a/b/c/3.csv'], ['a/b/c/3.csv'])
        """
        found = [*_WILD.finditer(text)]
        at, parts = 0, []
        for each in found:
            parts += [re.escape(text[at : each.start()]), _MEANING[each[0]]]
            at = each.end()
        parts.append(re.escape(text[at:]))
        start = text[: found[0].start()] if found else text
        deep = any(each[0].startswith("**") for each in found) or (bool(found) and "/" in text[found[0].start() :])
        return cls(start, re.compile("".join(parts), re.DOTALL), deep, bool(found))

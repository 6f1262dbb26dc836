"""A Markdown page in; its fenced code blocks out, in order, each with its language, its place and the heading above."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

_FENCE = re.compile(r"^ *(?P<fence>`{3,}|~{3,}) *(?P<language>[^\s`]*)[^`]*$")
_HEADING = re.compile(r"^#{1,6} +(?P<heading>.+?)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block."""

    page: str
    line: int  #: of its first line of text, counted from 1
    language: str  #: the first word after the fence, or ""
    heading: str  #: the nearest above it, or ""
    text: str  #: without the fences and without their indentation

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path, *, root: Path) -> list[Block]:
    """The page's blocks, which are named by its path below the root."""
    return list(blocks(page.read_text(), page=page.relative_to(root).as_posix()))


def blocks(text: str, *, page: str) -> Iterator[Block]:
    r"""The blocks of a page's text. A fence that nothing closes is an error.

    >>> text = "# Use\n```python\n1 + 1\n```\n- at last\n  ````console\n  $ cat <<X\n  ```\n  ````\n"
    >>> [(str(block), block.language, block.heading, block.text) for block in blocks(text, page="a.md")]
    [('a.md:3', 'python', 'Use', '1 + 1\n'), ('a.md:7', 'console', 'Use', '$ cat <<X\n```\n')]
    """
    heading = ""
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if found := _HEADING.match(line):
            heading = found["heading"]
        if not (opened := _FENCE.match(line)):
            continue
        inside: list[str] = []
        for _, each in lines:
            if set(each.strip()) == {opened["fence"][0]} and len(each.strip()) >= len(opened["fence"]):
                break
            inside.append(each)
        else:
            raise ValueError(f"{page}:{number}: a block is opened here and never closed")
        yield Block(
            page=page,
            line=number + 1,
            language=opened["language"],
            heading=heading,
            text=dedent("".join(f"{each}\n" for each in inside)),
        )

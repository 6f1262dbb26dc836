"""An environment's packages and how large they are in; which of them share a layer out. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

LARGE_BYTES = 8 << 20  #: of a package's files: one that has as many has a layer of its own
MOST_ALONE = 40  #: the largest; with those that are shared and the base's a third of the 125 that engines take
SHARED = 8  #: layers of small packages, at most: a change makes one of them anew
_SMALL = "packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Packages of one layer."""

    name: str  #: for people
    requirements: tuple[str, ...]


def grouped(requirements: Collection[str], sizes: Mapping[str, int]) -> list[Group]:
    """The layers of an environment, from the lowest: large packages, small ones, those that an address names.

    Where a package belongs does not depend on which others there are, unless more than `MOST_ALONE` are large: so a
    change of one leaves the others' layers as they are. What an address names changes most, and is on top.

    >>> sizes = {"numpy==2": 50 << 20, "six==1": 100, "idna==3": 100}
    >>> [group.requirements for group in grouped(["idna==3", "me @ https://host/me.whl", "numpy==2", "six==1"], sizes)]
    [('numpy==2',), ('six==1',), ('idna==3',), ('me @ https://host/me.whl',)]
    """
    large = [line for line in requirements if sizes.get(line, 0) >= LARGE_BYTES]
    alone = set(sorted(large, key=lambda line: (-sizes[line], line))[:MOST_ALONE])
    small: dict[int, list[str]] = {}
    for line in sorted(set(requirements) - alone):
        small.setdefault(_place(line), []).append(line)
    return [
        *(Group(name=package(line), requirements=(line,)) for line in sorted(alone)),
        *(Group(name=_SMALL, requirements=tuple(small[place])) for place in sorted(small)),
    ]


def package(line: str) -> str:
    """The name that a requirement has; of a bare address nothing.

    >>> package("a-b[c]==1 --hash=sha256:1"), package("b @ https://host/b.zip"), package("https://host/b.zip")
    ('a-b', 'b', '')
    """
    found = re.match(r"[\w.-]+(?=\s*(\[|==|@))", line)
    return found[0] if found else ""


def _place(line: str) -> int:
    if "://" in line:
        return SHARED
    return hashlib.sha256(package(line).encode()).digest()[0] % SHARED

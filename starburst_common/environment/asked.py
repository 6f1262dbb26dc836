"""Which part of a lock is wanted, for which Python and machines; refused where the lock is not for that."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from starburst_common import phrases
from starburst_common.environment.lines import MACHINES, counts
from starburst_common.errors import BadInput

Table = dict[str, Any]
_log = phrases.our_log()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which part of a lock is wanted."""

    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    folder: Path = Path()  #: where the code is
    index_strategy: str = ""  #: of uv, where it has to choose; its own where empty

    @property
    def options(self) -> list[str]:
        """For uv, where it resolves."""
        return [f"--index-strategy={self.index_strategy}"] if self.index_strategy else []

    def member(self, lock: Path) -> str:
        """Where the code is as seen from a lock: "." if not below."""
        try:
            return self.folder.relative_to(lock.parent.resolve()).as_posix()
        except ValueError:
            return "."


def well_formed(path: Path) -> AbstractContextManager[None]:
    """Raises `BadInput` where a file lacks what its program writes there, or has it of another type."""
    return phrases.well_formed(
        lambda what: BadInput(
            f"{path}: not as the program that makes such files writes it ({what}): have it written anew"
        )
    )


def alone(path: Path) -> list[Path]:
    """A file that needs no other."""
    return [path]


def with_project(path: Path) -> list[Path]:
    """The lock, and the project it was made for."""
    return [file for file in (path, path.parent / "pyproject.toml") if file.is_file()]


def admit(path: Path, requires: str, python: str) -> None:
    """Raises `BadInput` if this Python is not among those that a lock is for.

    Poetry's caret and tilde are understood where they are followed by a mere version; other grammars pass.
    """
    try:
        allowed = SpecifierSet(poetry_specifiers(requires))
    except InvalidSpecifier:
        return
    if not any(allowed.contains(f"{python}.{patch}", prereleases=True) for patch in range(100)):
        raise BadInput(
            f"{path} is for Python {requires}; this is Python {python}, and workers run the same: use another"
        )


def poetry_specifiers(text: str) -> str:
    """Poetry's constraint as everybody writes it.

    >>> poetry_specifiers("^1.2"), poetry_specifiers("^0.2.1"), poetry_specifiers("~3.1"), poetry_specifiers("1.5")
    ('>=1.2,<2', '>=0.2.1,<0.3', '~=3.1.0', '==1.5')
    """

    def caret(found: re.Match[str]) -> str:
        parts = [int(each) for each in found[1].split(".")]
        at = next((number for number, part in enumerate(parts) if part), len(parts) - 1)
        return f">={found[1]},<{'.'.join(map(str, [*parts[:at], parts[at] + 1]))}"

    text = re.sub(r"\^\s*(\d+(?:\.\d+)*)", caret, text)
    text = re.sub(r"(^|,\s*)~\s*(\d+\.\d+)(?=$|,)", r"\1~=\2.0", text)
    return re.sub(r"(^|,\s*)(?=\d)", r"\1==", text)


def admit_machines(path: Path, machines: Iterable[str]) -> None:
    """Raises `BadInput` if a lock is for no machine that workers may have, and warns if for one kind alone."""
    there = [machine for machine in MACHINES if machine in {*machines}]
    if not there:
        raise BadInput(f"{path}: it is not locked for Linux, which workers run: lock it for that too")
    if len(there) < len(MACHINES):
        _log.warning("%s is locked for %s alone: workers of another kind may lack packages", path, there[0])


def machines_of(markers: Iterable[str], python: str) -> list[str]:
    """Those for which one of some markers holds; all where there is none."""
    known = [Marker(text) for text in markers]
    return [each for each in MACHINES if not known or any(counts(one, python, machines=[each]) for one in known)]


def offered(path: Path, what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    """Raises `BadInput` where a lock has not all groups or extras that are asked for."""
    names = sorted(known)
    if missing := sorted(set(asked) - set(names)):
        raise BadInput(f"{path} has no {what} {', '.join(missing)}; it has {', '.join(names) or 'none'}")

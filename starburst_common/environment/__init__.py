"""What a user's code needs beside Python itself: found once, resolved in full, the same on every machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Resolved requirements for one minor version of Python."""

    python: str  #: the minor version, as "3.11"
    requirements: tuple[str, ...]  #: each with its exact version or URL, markers and hashes; in the order of the text
    source: str = "nothing"  #: where they were found, for people
    local: tuple[str, ...] = ()  #: installed from a folder here: their modules travel with the code, for people

    @classmethod
    def of(cls, python: str, text: str, *, source: str = "nothing", local: tuple[str, ...] = ()) -> Self:
        """From a requirements file whose lines are all exact: comments, order and layout are of no account.

        >>> text = "b==2 --hash=sha256:2 --hash=sha256:1" + chr(10) + "a==1  # because"
        >>> Environment.of("3.11", text).requirements
        ('a==1', 'b==2 --hash=sha256:1 --hash=sha256:2')
        """
        bare = "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
        lines = (line.split() for line in re.sub(r"\\\s*\n", " ", bare).splitlines())
        return cls(
            python=python,
            requirements=tuple(sorted({_in_order(words) for words in lines if words})),
            source=source,
            local=local,
        )

    @property
    def text(self) -> str:
        """A requirements file."""
        return "".join(f"{line}\n" for line in self.requirements)


def _in_order(words: list[str]) -> str:
    hashes = sorted(word for word in words if word.startswith("--hash="))
    return " ".join([*(word for word in words if not word.startswith("--hash=")), *hashes])

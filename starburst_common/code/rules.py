"""Files of patterns, ours and Git's, in; what each says of a file, the innermost first, out."""

from __future__ import annotations

import re
import warnings
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from starburst_common.code.stamps import Stamp, stamp_of
from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.trust import believed

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

OURS, GITS = ".starburstignore", ".gitignore"
_STARS = 4  #: in a name of a pattern, and names that are two: each lets its time grow by the length once more


class Patterns:
    """One file's patterns, for what lies below its folder; read when first asked, and what was said is remembered."""

    def __init__(self, file: Path) -> None:
        self.folder = file.parent
        self._file, self._start = file, len(str(file)) - len(file.name)
        self._said: dict[str, bool | None] = {}

    @property
    def brings_back(self) -> bool:
        """Whether some pattern starts with "!"."""
        return any(pattern.include is False for pattern in self._spec.patterns)

    def leaves_out(self, path: str) -> bool | None:
        """Whether it leaves a file out (True) or in (False); None where it says nothing."""
        if path not in self._said:
            self._said[path] = self._spec.check_file(path[self._start :]).include
        return self._said[path]

    @cached_property
    def _spec(self) -> GitIgnoreSpec:
        from pathspec import GitIgnoreSpec  # takes a tenth of a second, which most functions need not wait

        patterns = []
        for number, line in enumerate(self._file.read_text("utf-8-sig", errors="replace").splitlines(), 1):
            try:
                line = _few_stars(line)
                with warnings.catch_warnings(action="ignore"):
                    patterns += list(GitIgnoreSpec.from_lines([line]).patterns)
            except (ValueError, re.error, OverflowError, RecursionError) as error:
                if self._file.name == OURS:  # Git passes over a line that is no pattern
                    raise BadInput(f"{self._file}, line {number}: {told(line)} is no pattern: {error}") from None
        return GitIgnoreSpec(patterns)


def _few_stars(line: str) -> str:
    """The pattern with each run of stars as one, which means the same. Raises `ValueError` where many are left.

    >>> _few_stars("!**/a***b/\\\\**/**")
    '!**/a*b/\\\\**/**'
    """
    if line.startswith("#"):
        return line
    parts = [
        part if part.strip() == "**" else re.sub(r"(\\.)|\*+", lambda found: found[1] or "*", part)
        for part in line.removeprefix("!").split("/")
    ]
    if any(part.count("*") > _STARS for part in parts):
        raise ValueError(f"more than {_STARS} stars in a name take too long to match")
    if sum(part.strip() == "**" for part in parts) > _STARS:
        raise ValueError(f"more than {_STARS} times ** takes too long to match")
    return "!" * line.startswith("!") + "/".join(parts)


class Rules(NamedTuple):
    """The rules for one folder, the innermost first."""

    ours: tuple[Patterns, ...] = ()
    gits: tuple[Patterns, ...] = ()

    def with_those_in(self, folder: Path, names: list[str]) -> Rules:
        """And a folder's own; `names` are its files."""
        return Rules(
            ((_read(folder, OURS), *self.ours) if OURS in names else self.ours),
            ((_read(folder, GITS), *self.gits) if GITS in names else self.gits),
        )


def rules_above(place: Path) -> Rules:
    """From the project's root down to the folder that the module is in."""
    folders = [place, *place.parents] if place.is_dir() else [*place.parents]
    root = next((f for f in folders if (f / ".git").exists() or (f / "pyproject.toml").exists()), place.parent)
    rules = Rules()
    for folder in reversed(place.parents):
        if folder.is_relative_to(root):
            if (ours := folder / OURS).is_file():
                believed(ours, "remove it")  # it can bring along what would stay here
            rules = rules.with_those_in(folder, [name for name in (OURS, GITS) if (folder / name).is_file()])
    return rules


def _read(folder: Path, name: str) -> Patterns:
    return _rules_then(folder / name, stamp_of((folder / name).stat()))


@lru_cache(maxsize=1024)
def _rules_then(file: Path, stamp: Stamp) -> Patterns:
    return Patterns(file)


def said_of(path: str, rules: tuple[Patterns, ...]) -> bool | None:
    """Whether the innermost that says anything leaves a file out (True) or in (False)."""
    return next((said for each in rules if (said := each.leaves_out(path)) is not None), None)

"""What an item finds around it, as at home: the working directory and the command line."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from starburst_common.wire import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the items of a run stand.

    `folder` is the caller's working directory where workers share its files; empty is a folder of the slot's own.
    """

    folder: str = ""
    argv: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, shared: bool) -> Self:
        """As it is here and now."""
        folder = ""
        if shared:
            with suppress(FileNotFoundError):  # it was removed
                folder = str(Path.cwd())
        return cls(folder=folder, argv=tuple(map(str, getattr(sys, "argv", ()))))

    @property
    def fields(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """As it was stored. Raises `Refused`."""
        return cls(folder=fields.text("folder"), argv=tuple(map(str, fields.many("argv"))))

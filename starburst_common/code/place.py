"""What an item finds around it, as at home: the working directory, files that are sent there, and the command line."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from starburst_common.code.bundle import Bundle, bundle_of_files
from starburst_common.code.files import File, files_at
from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.wire.fields import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the items of a run stand.

    `folder` is the caller's working directory where workers share its files; else it is a place in a folder of the
    slot's own, in which the bundle `files` is laid out, if there is one.
    """

    folder: str = ""
    files: str = ""
    argv: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """As it was stored. Raises `Refused`."""
        files = fields.name("files") if fields.text("files") else ""
        return cls(folder=fields.text("folder"), files=files, argv=tuple(map(str, fields.many("argv"))))


def user_here() -> str:
    """Who runs this process, and on which machine."""
    import getpass  # a worker asks for nobody

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # as in a container, whose user has no name
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def place_here(files: Sequence[str], *, shared: bool) -> tuple[Place, Bundle | None]:
    """The place as it is here and now, and what is sent there; where workers share our files, those are there.

    Raises `BadInput` for files that are not there, or that cannot be where they are at home.
    """
    argv = tuple(map(str, getattr(sys, "argv", ())))
    sent = check_files(files, shared=shared)
    if sent is None:
        return Place(folder=str(Path.cwd()) if shared and _is_somewhere() else "", argv=argv), None
    bundle = bundle_of_files(sent.files, sent.secrets)
    return Place(folder=sent.folder, files=bundle.digest, argv=argv), bundle


class _Sent(NamedTuple):
    """Files to send, those that look like secrets, and where items stand among them."""

    files: list[File]
    secrets: list[str]
    folder: str


def _is_somewhere() -> bool:
    with suppress(FileNotFoundError):  # the working directory was removed
        return bool(Path.cwd())
    return False


def check_files(files: Sequence[str], *, shared: bool) -> _Sent | None:
    """What is to be sent, if anything is. Raises as `place_here`, before anything has been read or made."""
    if files and not _is_somewhere():
        raise BadInput("files=: the working directory, from which they are sought, is gone")
    paths = [path for name in files for path in _named(name)]
    if shared or not paths:
        return None
    here = Path.cwd()
    whole = [Path(os.path.normpath(here / path)) for path in paths]
    above = max(path.parts.count("..") for path in map(Path, map(os.path.relpath, whole)))
    for path in (path for path in paths if path.is_absolute() and not path.is_relative_to(here)):
        raise BadInput(
            f"files={told(str(path))} is not below the working directory {here}, and workers have no such path: name "
            "it relative to that, or copy it there"
        )
    root = here.parents[above - 1] if above else here
    return _Sent(*files_at(whole, root), here.relative_to(root).as_posix())


def _named(name: str) -> Iterator[Path]:
    """The files and folders that a path or a pattern names."""
    found = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - relative or not, as it is named
    if not found:
        raise BadInput(f"files={told(name)}: there is no such file, folder, or match, seen from {Path.cwd()}")
    yield from map(Path, found)

"""A path in; a folder or file out that nobody but this user, and root, can replace. What others may change is refused.

Modes and owners are looked at, as `lstat` and `fstat` tell them. Where a POSIX ACL lets others write, Linux shows that
as the group's right, and `chmod` ends it; where that group is the user's own, the ACL itself is read. The ACLs of macOS
and of NFS version 4 show nowhere here.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from starburst_common.errors import BadInput
from starburst_common.phrases import our_log

_log = our_log()
_MOST_LINKS = 40
_ACL = "system.posix_acl_access"
_ACL_ENTRY = struct.Struct("<HHI")  #: tag, rights and id; a version goes before them
_ACL_USER, _ACL_GROUP, _ACL_WRITE = 2, 8, 2
HOME_INSTEAD = "set STARBURST_HOME to a folder of your own"
CACHE_INSTEAD = "set XDG_CACHE_HOME to a folder of your own"


def owner_only(path: str, flags: int) -> int:
    """An `opener` for `open`: a file that it makes is its owner's alone from the start, whatever the umask."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def own_folder(folder: Path, instead: str = HOME_INSTEAD) -> Path:
    """The folder without links on its way; made where it is not there, and this user's alone from then on.

    Raises `BadInput` where another owns it or could put another in its place, or where others may write there;
    `instead` is the way out.
    """
    place = _way(folder.absolute(), instead)
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if mode := _own_mode(os.fstat(handle), place, "-R ", instead):
            os.fchmod(handle, mode)
    finally:
        os.close(handle)
    return place


def own_file(file: Path) -> None:
    """As `open_own`, by the file's name alone: for one that must not be opened and closed."""
    found = os.lstat(file)
    _plain(found, file)
    if mode := _own_mode(found, file, "", HOME_INSTEAD):
        file.chmod(mode)


def open_own(file: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a file in an `own_folder`, this user's alone from then on.

    Raises `BadInput` as that does, and where it is no plain file; and `FileNotFoundError`.
    """
    try:
        handle = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            _plain(os.lstat(file), file)
        raise
    try:
        found = os.fstat(handle)
        _plain(found, file)
        if mode := _own_mode(found, file, "", HOME_INSTEAD):
            os.fchmod(handle, mode)
    except BaseException:
        os.close(handle)
        raise
    return handle


def what_others_may(file: Path, *, whose: bool = True) -> str:
    """Why a file is not to be believed: another owns it (if `whose` counts), or others may write it; or nothing."""
    found = file.stat()
    if whose and found.st_uid not in _trusted():
        return f"it belongs to {_user(found.st_uid)}"
    return _writers(found, file)


def own_place(file: Path, instead: str) -> Path:
    """Where a file is that is there, without links on its way. Raises `BadInput` where another could replace it."""
    return _way(file.absolute(), instead)


def believed(file: Path, instead: str) -> None:
    """Raises `BadInput` for a file that was looked for, as in the folders above, and that another has a hand in.

    Who can write where this process imports from is no other: he runs here already.
    """
    found, imported = file.stat(), [*_imported_from()]
    owners = {*_trusted(), *(each.st_uid for each in imported)}
    if strangers := {found.st_uid, file.lstat().st_uid} - owners:
        raise BadInput(f"{file} belongs to {_user(strangers.pop())}, and it says what is run: {instead}")
    if (who := _writers(found, file)) and not any(_lets_in(folder, found) for folder in imported):
        raise BadInput(f"{file}: {who}, and it says what is run: `chmod go-w {file}`, or {instead}")


def uv_believed(folder: Path) -> None:
    """Raises `BadInput` where uv, called in a folder, would read settings in which another has a hand."""
    for file in (place / name for place in (folder, *folder.parents) for name in ("uv.toml", "pyproject.toml")):
        if file.is_file():
            believed(file, "remove it, or work in a folder of your own that does not lie below it")


def _imported_from() -> Iterator[os.stat_result]:
    for folder in sys.path:
        with suppress(OSError):
            yield Path(folder).stat()


def _lets_in(folder: os.stat_result, found: os.stat_result) -> bool:
    """Whether all that can write a file can write in a folder, which is imported from, too."""
    if folder.st_mode & stat.S_ISVTX:
        return False
    group = folder.st_mode & stat.S_IWGRP and folder.st_gid == found.st_gid and not found.st_mode & stat.S_IWOTH
    return bool(folder.st_mode & stat.S_IWOTH or group)


def _plain(found: os.stat_result, file: Path) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise BadInput(f"{file} is a link: put the file itself there, or {HOME_INSTEAD}")
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{file} is no file: remove it, or {HOME_INSTEAD}")


def _own_mode(found: os.stat_result, place: Path, option: str, instead: str) -> int:
    """The mode that keeps others out, where what was found lets them read; 0 where it needs no other."""
    if found.st_uid != os.geteuid():
        raise BadInput(f"{place} belongs to {_user(found.st_uid)}, not to {_user(os.geteuid())}: {instead}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "everybody" if found.st_mode & stat.S_IWOTH else f"the group {_group(found.st_gid)}"
        raise BadInput(
            f"{place} may be written by {who}: look that nothing there is of another's making, then "
            f"`chmod {option}go-rwx {place}`, or {instead}"
        )
    if not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return 0
    _log.warning("%s could be read by others: it is now yours alone (mode %o)", place, 0o700 if option else 0o600)
    return stat.S_IMODE(found.st_mode) & ~(stat.S_IRWXG | stat.S_IRWXO)


def _way(path: Path, instead: str) -> Path:
    """Where a path leads, each folder on the way and each link looked at; what is not there is made."""
    at, todo, links = Path(path.anchor), list(reversed(path.parts[1:])), 0
    while todo:
        _nobody_else_replaces_in(at, instead)
        part = todo.pop()
        step = at.parent if part == ".." else at / part
        try:
            found = os.lstat(step)
        except FileNotFoundError:
            step.mkdir(mode=0o700, exist_ok=True)
            found = os.lstat(step)
        if not stat.S_ISLNK(found.st_mode):
            at = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        if found.st_uid not in _trusted():
            raise BadInput(f"{step} is a link that {_user(found.st_uid)} made: {instead}")
        target = step.readlink()
        at = Path(target.anchor) if target.is_absolute() else at
        todo.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
    return at


def _nobody_else_replaces_in(folder: Path, instead: str) -> None:
    found = os.lstat(folder)
    if found.st_uid not in _trusted():
        raise BadInput(f"{folder} belongs to {_user(found.st_uid)}, who can replace what is in it: {instead}")
    if not found.st_mode & stat.S_ISVTX and (who := _writers(found, folder)):  # as in /tmp, where each has his own
        raise BadInput(f"{folder}: {who}, and so replace what is in it: `chmod go-w {folder}`, or {instead}")


def _writers(found: os.stat_result, place: Path) -> str:
    if found.st_mode & stat.S_IWOTH:
        return "everybody may write it"
    if not found.st_mode & stat.S_IWGRP:
        return ""
    if not _of_one(found.st_gid):
        return f"the group {_group(found.st_gid)} may write it"
    return next((f"{who} may write it, by its ACL" for who in _named_in_acl(place)), "")


def _named_in_acl(place: Path) -> Iterator[str]:
    """Others whom a POSIX ACL names as those who may write."""
    if sys.platform != "linux":
        return
    try:
        entries = os.getxattr(place, _ACL)[4:]
    except OSError:  # it has none
        return
    for tag, rights, number in _ACL_ENTRY.iter_unpack(entries):
        if rights & _ACL_WRITE and tag == _ACL_USER and number not in _trusted():
            yield _user(number)
        if rights & _ACL_WRITE and tag == _ACL_GROUP and not _of_one(number):
            yield f"the group {_group(number)}"


def _trusted() -> tuple[int, ...]:
    """This user, root, and whoever root is called here: in a container, root may have another number, or none."""
    return (os.geteuid(), 0, Path("/").stat().st_uid)


def _of_one(group: int) -> bool:
    """Whether a group is its user's own, as where every user has one and the umask is 002; or root's."""
    me = _user(os.geteuid())
    try:
        found = grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name in (me, "root") and set(found.gr_mem) <= {me, "root"}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)

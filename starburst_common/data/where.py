"""A URI in; what lies there, and its bytes, out: of S3, or of this machine's files.

Buckets are seen as who asks sees them; with None, as this process does by default.
"""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

from starburst_common.buckets import Buckets, SeenBucket
from starburst_common.data.pattern import Pattern
from starburst_common.errors import BadInput, Denied, Exists, NotFound, Unavailable
from starburst_common.model import Buffer

S3 = "s3://"
#: What only a worker's supervisor imports: in an image it lies beside what its slots do, to which this module belongs.
_SUPERVISOR = str(Path(__file__).parents[3] / "supervisor")


class Lying(NamedTuple):
    """A file or an object, as it was when it was found."""

    uri: str  #: `s3://BUCKET/KEY`, or an absolute path
    nbytes: int
    version: str  #: another one once it is written anew


def find(uri: str, buckets: Buckets | None, *, nothing: bool = False) -> list[Lying]:
    """What a URI names, with `*`, `?` and `**` for several, in the order of their names.

    Raises `BadInput` where it names nothing, unless that may be, and `Denied` where it may not be seen.
    """
    found = _on_s3(uri, buckets) if uri.startswith(S3) else _here(uri)
    if not found and not nothing:
        raise BadInput(f"{uri}: nothing is there")
    return sorted(found)


def placed(uri: str) -> str:
    """The same wherever the process stands. Raises `BadInput` for a URI of another kind."""
    if "://" in uri and not uri.startswith(S3):
        raise BadInput(f"{uri}: give s3://BUCKET/KEY, or a path on this machine")
    return uri if uri.startswith(S3) else str(Path(uri).expanduser().absolute())


def read(lying: Lying, lo: int, hi: int, buckets: Buckets | None) -> Buffer:
    """Its bytes from `lo` to before `hi`. Raises `NotFound` where it is gone, or another than when it was found."""
    if lo >= hi:
        return b""
    if lying.uri.startswith(S3):
        name, key = _split(lying.uri)
        return _bucket(name, buckets).read(key, lo, hi, lying.version)
    with opened(lying, buckets) as file:
        file.seek(lo)
        return file.read(hi - lo)


def opened(lying: Lying, buckets: Buckets | None) -> BinaryIO:
    """The same as a file that is open for reading. Raises as `read`."""
    if lying.uri.startswith(S3):
        name, key = _split(lying.uri)
        return _bucket(name, buckets).opened(key, lying.nbytes, lying.version)
    file = None
    try:
        file = Path(lying.uri).open("rb")  # noqa: SIM115, who asks for it closes it
        if _version(os.fstat(file.fileno())) == lying.version:
            return file
    except OSError as error:
        raise _meaning(error, lying.uri) from None
    file.close()
    raise NotFound.written_anew(lying.uri)


def create(uri: str, body: bytes, buckets: Buckets | None) -> Lying:
    """Write a new object, or a file with the folders above it. Raises `Exists`, `Denied` and `Unavailable`."""
    if uri.startswith(S3):
        name, key = _split(uri)
        return Lying(uri, len(body), _bucket(name, buckets).write(key, body, new=True))
    return _written(uri, body, new=True)


def put(uri: str, body: bytes, buckets: Buckets | None) -> Lying:
    """The same in place of what there is."""
    if uri.startswith(S3):
        name, key = _split(uri)
        return Lying(uri, len(body), _bucket(name, buckets).write(key, body, new=False))
    return _written(uri, body, new=False)


def remove(uri: str, buckets: Buckets | None) -> None:
    """Remove an object, or a file, if it is there. Raises `Denied` and `Unavailable`."""
    if uri.startswith(S3):
        name, key = _split(uri)
        _bucket(name, buckets).remove(key)
    else:
        Path(uri).unlink(missing_ok=True)


def _written(uri: str, body: bytes, *, new: bool) -> Lying:
    """It is whole or not there: a draft beside it gets its name."""
    path = Path(uri)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _folder(path.parent)
        draft.write_bytes(body)
        if new:
            os.link(draft, path)
        else:
            draft.replace(path)
        return Lying(uri, len(body), _version(path.stat()))
    except FileExistsError:
        raise Exists(f"{uri} is already there") from None
    except OSError as error:
        raise _meaning(error, uri) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"{path} is, or is in, a file where a folder should be") from None


def _on_s3(uri: str, buckets: Buckets | None) -> list[Lying]:
    name, key = _split(uri)
    pattern = Pattern.of(key)
    if not name or not key:
        raise BadInput(f"{uri}: give s3://BUCKET/KEY; s3://BUCKET/** is all of a bucket")
    found = _bucket(name, buckets).entries(pattern.start, deep=pattern.deep)
    there = [
        Lying(f"{S3}{name}/{each.key}", each.nbytes, each.etag)
        for each in found
        if pattern.matching.fullmatch(each.key) and not each.key.endswith("/")  # consoles make these for folders
    ]
    if not there and not pattern.wild and _bucket(name, buckets).entries(f"{key.rstrip('/')}/", deep=False):
        raise BadInput(f"{uri}: a folder: say {uri.rstrip('/')}/* for what is in it")
    return there


def _here(uri: str) -> list[Lying]:
    path = Path(placed(uri))
    pattern = Pattern.of(str(path))
    if not pattern.wild and path.is_dir():
        raise BadInput(f"{uri}: a folder: say {uri.rstrip('/')}/* for what is in it")
    found = []

    def unseen(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise _meaning(error, error.filename)

    for where, folders, names in os.walk(pattern.start.rpartition("/")[0] or "/", onerror=unseen):
        folders.sort()
        for name in names:
            full = f"{where.rstrip('/')}/{name}"
            if pattern.matching.fullmatch(full):
                try:
                    about = Path(full).stat()
                except OSError as error:
                    raise _meaning(error, full) from None
                found.append(Lying(full, about.st_size, _version(about)))
        if not pattern.deep:
            break
    return found


def _bucket(name: str, buckets: Buckets | None) -> SeenBucket:
    if buckets is not None:
        return buckets(name)
    if find_spec("obstore") is None:  # in a slot, whose environment is the user's
        sys.path.append(_SUPERVISOR)
        try:
            import obstore.store  # noqa: F401
        finally:
            sys.path.remove(_SUPERVISOR)
    from starburst_common.aws.buckets import own_buckets

    return own_buckets()(name)


def _split(uri: str) -> tuple[str, str]:
    name, _, key = uri.removeprefix(S3).partition("/")
    return name, key


def _version(about: os.stat_result) -> str:
    return f"{about.st_mtime_ns}-{about.st_size}"


def _meaning(error: OSError, uri: str) -> Exception:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"{uri} is not there on this machine")
    if isinstance(error, PermissionError):
        return Denied(f"not allowed to reach {uri}")
    return Unavailable(f"{uri}: {error.strerror}")

"""Bytes and texts of ours, signed and with their version: a *sealed* object is version, HMAC and body.

`about` says what something is and where it belongs, so it cannot be passed off as something else. The HMAC of a large
body is had by keyed BLAKE3, with a key that HMAC makes for it: a quarter of SHA-256's time.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterable, Sequence

from starburst_common.errors import UnknownVersion, Unsigned
from starburst_common.model import Buffer
from starburst_common.wire.keys import KeyRing

WIRE_VERSION = 9
_MAGIC = b"SBW"
_HEAD = struct.Struct(">3sB32s")
HEAD_BYTES = _HEAD.size  #: come before a sealed object's body
_LARGE_BYTES = 1 << 20  #: from there on a body is


def seal(key: bytes, about: str, parts: Iterable[Buffer]) -> bytes:
    """Sign a body."""
    return b"".join(sealed_parts(key, about, parts))


def sealed_parts(key: bytes, about: str, parts: Iterable[Buffer]) -> list[Buffer]:
    """The same without joining the parts, which may be large."""
    body = list(parts)
    return [_HEAD.pack(_MAGIC, WIRE_VERSION, _mac(key, about, body)), *body]


def unseal(key: bytes, about: str, blob: Buffer, *, since: int = WIRE_VERSION) -> memoryview:
    """The body, if it is ours and no older than that. Raises `UnknownVersion` or `Refused`, and reads nothing else."""
    return _unsealed(key, about, blob, since)[0]


def signer_of(key: bytes, about: str, blob: Buffer) -> bytes:
    """By which of the keys it was sealed, if it is ours: the one to go on with. Raises as `unseal`."""
    return _unsealed(key, about, blob)[1]


def _unsealed(key: bytes, about: str, blob: Buffer, since: int = WIRE_VERSION) -> tuple[memoryview, bytes]:
    view = memoryview(blob)
    if len(view) < _HEAD.size or view[:3] != _MAGIC:
        raise Unsigned(f"{about}: not a starburst payload; refused")
    _, version, mac = _HEAD.unpack_from(view)
    body = view[_HEAD.size :]
    signer = _signer(key, lambda known: hmac.compare_digest(mac, _mac(known, about, [body], version)))
    if signer is None:
        raise Unsigned(f"{about}: not signed with this site's key; refused, nothing was unpickled")
    if not since <= version <= WIRE_VERSION:
        raise unknown_version(about, version)
    return body, signer


def _signer(key: bytes, signed: Callable[[bytes], bool]) -> bytes | None:
    """The first of the keys that are known here by which something was signed."""
    if signed(key):
        return key
    return next(filter(signed, key.others()), None) if isinstance(key, KeyRing) else None


def sealed_body(blob: Buffer) -> memoryview:
    """The body of what somebody else has unsealed, for a process that has no key."""
    return memoryview(blob)[_HEAD.size :]


def seal_text(key: bytes, about: str, text: str) -> str:
    """The same for a queue, which takes text."""
    return f"{WIRE_VERSION}.{_mac(key, about, [text.encode()]).hex()}.{text}"


def unseal_text(key: bytes, about: str, sealed: str) -> str:
    """The text, if it is ours. Raises `UnknownVersion` or `Refused`, and reads nothing else of it."""
    version, _, rest = sealed.partition(".")
    mac, _, text = rest.partition(".")
    if not sealed.isascii() or not version.isdigit() or len(version) > 3 or not text:
        raise Unsigned(f"{about}: not a starburst message; refused")
    spoken = int(version)
    said = [text.encode()]
    signer = _signer(key, lambda known: hmac.compare_digest(mac, _mac(known, about, said, spoken).hex()))
    if signer is None or version != str(spoken):
        raise Unsigned(f"{about}: not signed with this site's key; refused")
    if spoken != WIRE_VERSION:
        raise unknown_version(about, spoken)
    return text


def of_this_release(start: Buffer) -> bool:
    """Whether what begins so may have been sealed by this release; nothing vouches for that yet."""
    return bytes(memoryview(start)[: len(_MAGIC) + 1]) == _MAGIC + bytes([WIRE_VERSION])


def unknown_version(about: str, version: int) -> UnknownVersion:
    """What is ours, but of another release: versions share the envelope, so this much can be told and trusted."""
    return UnknownVersion(
        f"{about}: wire version {version}, this starburst speaks {WIRE_VERSION}: "
        "use the same starburst release on the driver and the workers"
    )


def _mac(key: bytes, about: str, parts: Sequence[Buffer], version: int | None = None) -> bytes:
    what = f"{WIRE_VERSION if version is None else version}\0{about}\0".encode()
    if nbytes_of(parts) < _LARGE_BYTES:
        mac = hmac.new(key, what, hashlib.sha256)
        for part in parts:
            mac.update(part)
        return mac.digest()
    from blake3 import blake3  # slots have no key, nor this

    large = blake3(key=hmac.digest(key, b"large\0" + what, hashlib.sha256))
    for part in parts:
        large.update(part)
    return large.digest()


_MISFIT_EXIT = 200  # beyond the codes of processes that a signal ended


DENIED_EXIT = 195  #: of a worker whose role may not do its work
TAKEN_EXIT = 199  #: of a worker whose instance EC2 takes back


def misfit_exit() -> int:
    """The exit code of a worker whose work speaks another wire version; it tells which one the worker speaks."""
    return _MISFIT_EXIT + WIRE_VERSION


def misfit(exit_code: int | None) -> str:
    """Why no such worker can serve this release's runs, if its exit code says so.

    >>> misfit(0)
    ''
    >>> misfit(207).partition(":")[0]
    'a worker speaks wire version 7 and was given work of another, this starburst speaks 9'
    """
    if exit_code is None or not _MISFIT_EXIT < exit_code < 256:
        return ""
    return (
        f"a worker speaks wire version {exit_code - _MISFIT_EXIT} and was given work of another, this starburst speaks "
        f"{WIRE_VERSION}: use the same starburst release on both, in an `image` of your own too; where it was upgraded "
        "while this process ran, start the process anew"
    )


def nbytes_of(parts: Iterable[Buffer]) -> int:
    """How long parts are together."""
    return sum(memoryview(part).nbytes for part in parts)

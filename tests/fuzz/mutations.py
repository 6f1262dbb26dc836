"""A valid sample and a source of chance in; bytes like it, but wrong, out. The same chance gives the same bytes."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import Any

_LENGTH = struct.Struct(">I")
_LONG = 20_000  #: of what is repeated at most
_DEEP = (50, 900, 100_000)
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 7, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**62 - 1, 2**62, 2**63, 2**64),
    *(-(2**31), -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e17, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "\0", "\n", "\ud800", "\u202e", "日本", "0", "-1", "1e999", "nan", "../../x", "/", "a/b/c", "a\0b"),
    *("null", "__class__", "%s%n{0}", "<b>&amp;", "x" * 300, "9" * 5000, "-" * _LONG, "a" * _LONG, "(" * 2000),
    *([], {}, [[]], [None], [0, 0], {"": None}, {"a": {"b": {}}}, [1] * 5000),
]
_TOKENS = [
    *(b"", b" ", b"0", b"-1", b"1", b"true", b"null", b"nan", b"inf", b"1e308", b"9" * 30, b"9" * 5000, b'""', b"''"),
    *(b"[]", b"{}", b'"x"', b"[[1]]", b"{a=1}", b"\xff", b"\x00", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n"),
    *(b"../..", b"/", b"//", b"\\", b"\\\n", b"#", b";", b"@", b"*", b"**", b"!", b"[", b"]", b"(", b")", b"=", b"=="),
    *(
        b"~=",
        b"<",
        b">",
        b"%",
        b"$HOME",
        b"file:///x",
        b"http://a:b@c/",
        b"git+https://x@y",
        b"-r",
        b"-e .",
        b"--hash=",
    ),
    *(b"a" * _LONG, b"(" * 3000, b"*a" * 40, b"a," * 5000, b" " * _LONG, b"[" * 3000, b"{" * 3000, b"a.b." * 3000),
    *(b"\xf0\x9f\x91\xa9\xe2\x80\x8d", b"\x1b[31m", b"\xe2\x80\xae", b"1" * 400 + b".", b'"' * 7, b"'''", b'"""'),
]
_NUMBERS = [
    0,
    1,
    2,
    3,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
_TOKEN = re.compile(rb'"[^"\n]*"|\'[^\'\n]*\'|[-\w.]+|[^\w\s]')


class Kind(Enum):
    """What a sample's bytes are: what is most telling to be wrong with them."""

    BYTES = "bytes"
    TEXT = "text"
    JSON = "JSON"
    DOCUMENT = "document"  #: JSON after its length, then blobs, as `wire.document` makes them


def mutated(kind: Kind, samples: Sequence[bytes], chance: Random) -> bytes:
    """One of the samples, wrong in one to four ways."""
    sample = chance.choice(samples)
    other = chance.choice(samples)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        ways = _WAYS[kind]
        sample = chance.choice(ways)(sample, other, chance)
    return sample


# --- bytes ------------------------------------------------------------------------------------------------------------


def _flipped(sample: bytes, _: bytes, chance: Random) -> bytes:
    wrong = bytearray(sample)
    for _at in range(min(len(wrong), chance.choice((1, 1, 2, 8)))):
        wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
    return bytes(wrong)


def _cut(sample: bytes, _: bytes, chance: Random) -> bytes:
    lo, hi = _slice(sample, chance)
    return chance.choice((sample[:lo], sample[hi:], sample[:lo] + sample[hi:]))


def _doubled(sample: bytes, _: bytes, chance: Random) -> bytes:
    lo, hi = _slice(sample, chance)
    return sample[:hi] + sample[lo:hi] * chance.choice((1, 1, 2, 30)) + sample[hi:]


def _inserted(sample: bytes, _: bytes, chance: Random) -> bytes:
    at = chance.randint(0, len(sample))
    more = chance.choice((chance.randbytes(chance.randint(1, 40)), chance.choice(_TOKENS)))
    return sample[:at] + more + sample[at:]


def _crossed(sample: bytes, other: bytes, chance: Random) -> bytes:
    lo, hi = _slice(other, chance)
    at = chance.randint(0, len(sample))
    return chance.choice((sample[:at] + other[at:], sample[:at] + other[lo:hi] + sample[at:]))


def _numbered(sample: bytes, _: bytes, chance: Random) -> bytes:
    """As where a length lies."""
    wide, number = chance.choice((1, 2, 4, 8)), chance.choice(_NUMBERS)
    at = chance.randint(0, max(len(sample) - wide, 0))
    place = (number % 256**wide).to_bytes(wide, chance.choice(("big", "little")))
    return sample[:at] + place + sample[at + wide :]


def _slice(sample: bytes, chance: Random) -> tuple[int, int]:
    lo = chance.randint(0, len(sample))
    return lo, min(len(sample), lo + chance.choice((1, 2, 8, 64, 1000)))


# --- text -------------------------------------------------------------------------------------------------------------


def _retold(sample: bytes, other: bytes, chance: Random) -> bytes:
    """Another word in the place of one."""
    words = [*_TOKEN.finditer(sample)]
    if not words:
        return _inserted(sample, other, chance)
    word = chance.choice(words)
    others = _TOKEN.findall(other)
    more = chance.choice(others) if others and chance.random() < 0.3 else chance.choice(_TOKENS)
    if word[0][:1] in b"\"'" and chance.random() < 0.6:
        more = word[0][:1] + more.strip(b"\"'\n") + word[0][:1]
    return sample[: word.start()] + more + sample[word.end() :]


def _lines(sample: bytes, other: bytes, chance: Random) -> bytes:
    """A line twice, elsewhere, of another sample, or not at all."""
    lines, others = sample.split(b"\n"), other.split(b"\n")
    at = chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            lines.insert(chance.randint(0, len(lines)), lines[at])
        case 1:
            del lines[at]
        case 2:
            lines.insert(at, chance.choice(others))
        case _:
            lines[at] = chance.choice(others)
    return b"\n".join(lines)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _revalued(sample: bytes, other: bytes, chance: Random) -> bytes:
    """A value in the place of one, a field too many or too few."""
    try:
        value, another = json.loads(sample), json.loads(other)
        for _ in range(chance.choice((1, 1, 2, 3))):
            value = _changed(value, another, chance)
        return _dumped(value)
    except (ValueError, OverflowError, RecursionError):  # it is none any more
        return _retold(sample, other, chance)


def _nested(sample: bytes, other: bytes, chance: Random) -> bytes:
    """Something very deep in the place of a word."""
    words = [*_TOKEN.finditer(sample)]
    depth = chance.choice(_DEEP)
    opened, closed = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    deep = opened * depth + b"1" + closed * chance.choice((depth, 0))
    if not words or chance.random() < 0.2:
        return deep
    word = chance.choice(words)
    return sample[: word.start()] + deep + sample[word.end() :]


def _dumped(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _changed(value: Any, other: Any, chance: Random) -> Any:
    places = [*_places(value)]
    if not places or chance.random() < 0.03:
        return _wrong(value, other, chance)
    holder, name = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[name]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("extra", "", "\ud800", "__class__", str(name) + "x"))] = holder[name]
        case 1 | 2 if isinstance(holder, list):
            holder.insert(name, holder[name])
        case 3:
            theirs = [*_places(other)]
            if theirs:
                their_holder, their_name = chance.choice(theirs)
                holder[name] = json.loads(json.dumps(their_holder[their_name]))
        case _:
            holder[name] = _wrong(holder[name], other, chance)
    return value


def _wrong(value: Any, other: Any, chance: Random) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and chance.random() < 0.4:
        return chance.choice((lambda: value + 1, lambda: value - 1, lambda: -value, lambda: float(value),
                              lambda: str(value), lambda: bool(value)))()  # fmt: skip
    if isinstance(value, str) and chance.random() < 0.3:
        return chance.choice((value[1:], value + value, value + "\0", value.upper(), f"{value}/x", [value]))
    return json.loads(json.dumps(chance.choice(_VALUES)))


def _places(value: Any) -> list[tuple[Any, Any]]:
    found, left = list[tuple[Any, Any]](), [value]
    while left:
        each = left.pop()
        inside = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        for name, inner in inside:
            found.append((each, name))
            left.append(inner)
    return found


# --- documents --------------------------------------------------------------------------------------------------------


def _reheaded(sample: bytes, other: bytes, chance: Random) -> bytes:
    """Another header, with a length that fits it, and blobs as they were, or of the sizes that it tells."""
    head, rest = _parts(sample)
    way = chance.choice((_revalued, _revalued, _revalued, _revalued, _retold, _nested))
    head = way(head, _parts(other)[0], chance)
    return _LENGTH.pack(len(head)) + head + rest


def _reblobbed(sample: bytes, other: bytes, chance: Random) -> bytes:
    """Other bytes in one of the blobs, which its header knows of."""
    head, rest = _parts(sample)
    try:
        header = json.loads(head)
        at, sizes = chance.randrange(len(header["blobs"])), header["blobs"]
        lo = sum(sizes[:at])
        blob, theirs = rest[lo : lo + sizes[at]], _parts(other)[1]
        way = chance.choice(_WAYS[Kind.JSON if blob[:1] == b"{" else Kind.BYTES])
        blob = way(blob, theirs, chance)
        rest = rest[:lo] + blob + rest[lo + sizes[at] :]
        sizes[at] = len(blob)
        head = _dumped(header)
    except (ValueError, LookupError, TypeError, RecursionError):
        return _crossed(sample, other, chance)
    return _LENGTH.pack(len(head)) + head + rest


def _parts(sample: bytes) -> tuple[bytes, bytes]:
    if len(sample) < _LENGTH.size:
        return sample, b""
    end = _LENGTH.size + _LENGTH.unpack_from(sample)[0]
    return sample[_LENGTH.size : end], sample[end:]


Way = Callable[[bytes, bytes, Random], bytes]
_RAW: list[Way] = [_flipped, _flipped, _cut, _doubled, _inserted, _crossed, _numbered]
_WAYS: dict[Kind, list[Way]] = {
    Kind.BYTES: _RAW,
    Kind.TEXT: [*_RAW, *[_retold] * 8, *[_lines] * 5],
    Kind.JSON: [*_RAW, *[_revalued] * 14, _retold, _retold, _nested],
    Kind.DOCUMENT: [*_RAW, *[_reheaded] * 14, *[_reblobbed] * 4],
}

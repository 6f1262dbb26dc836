"""Text of others in; the same, fit for a terminal's line, a table, JSON or a page, out.

What others wrote (labels, functions, messages, logs, file names, answers of services) stays as it is in every value
that the API gives. It is made fit where it is shown, and cut where it comes from.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from starburst_common.errors import StarburstError

#: What steers a terminal, turns or hides text, or breaks a line: C0 and C1, bidirectional marks, separators, what has
#: no width, surrogates, tags. A joiner between letters that need one (emoji, Persian, Hindi) is part of the text.
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e00ff]|(?<![^\x00-\u02ff])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\u02ff\u200c\u200d])"
)
_DELETE = "\x7f"  #: ASCII's one sign without a shape that JSON leaves as it is
_BREAK = re.compile(r"\r\n?|\n")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$])")
_USERINFO = re.compile(r"(\w[\w+.-]{0,40}://)((?:[^/\s@]+@)+)")
_QUERY = re.compile(
    r"(://[^\s?#`\"<>]{1,500})\?((?:(?!,\w{1,9}://)[^\s#`\"<>])+)"
)  #: in lists of addresses a comma ends one
_SECRET = re.compile(
    r"token|secret|passw|pwd|^pass$|auth(?!or)|key|credential|session|jwt|^(.*[-_.])?sig(nature)?$", re.IGNORECASE
)
_NO_WORD = 16  #: a part of a query that is so long and no `name=value` is a secret itself


def visible(text: str) -> str:
    r"""On one line, with what would steer, turn, hide or break it escaped as `repr` does.

    >>> print(visible("a\x1b[31mb\u202ec\nd"), visible("naïve 日本語"))
    a\x1b[31mb\u202ec\nd naïve 日本語
    """
    return text if text.isprintable() and text.isascii() else _HIDDEN.sub(_escaped, text)


def visible_lines(text: str) -> str:
    r"""As `visible`, with its lines and tabs.

    >>> visible_lines("a\tb\r\nc\x07")
    'a\tb\nc\\x07'
    """
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in _BREAK.split(text))


def one_line(text: str, most: int | None = None) -> str:
    r"""As `visible`, with breaks and runs of blanks as one blank; cut with "…" where it is longer than `most`.

    >>> one_line("no\n  such\x1b file"), one_line("abcdef", 4)
    ('no such\\x1b file', 'abc…')
    """
    head = text if most is None else text[: 8 * most]  # whatever is beyond is cut anyway
    line = visible(" ".join(head.split()))
    return line if most is None or (len(line) <= most and len(head) == len(text)) else f"{line[: most - 1]}…"


#: What is raised by reading what another program wrote, where it is not as that program writes it.
ODD = (LookupError, TypeError, AttributeError, ValueError, RecursionError)
_ODD_MOST = 200


def oddity(error: Exception) -> str:
    """What is wrong with such a document, in a few words.

    >>> oddity(KeyError("name")), oddity(TypeError("a list in place of an object"))
    ("it lacks 'name'", 'a list in place of an object')
    """
    what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return one_line(without_credentials(what), _ODD_MOST)


@contextmanager
def well_formed(refused: Callable[[str], StarburstError]) -> Iterator[None]:
    """Raises what `refused` makes of the `oddity`, where what is read here is not as it should be."""
    try:
        yield
    except StarburstError:
        raise
    except ODD as error:
        raise refused(oddity(error)) from error


def shortened(text: str, most: int) -> str:
    """Its beginning and, of what is too long, its end, with how much is left out; at most `most` characters.

    >>> print(shortened("a" * 500 + "b" * 500, 50))
    aaaaaaaaa
    … 981 characters left out …
    bbbbbbbbbb
    """
    if len(text) <= most:
        return text
    kept = most - len(_left_out(len(text)))
    return f"{text[: kept // 2]}{_left_out(len(text) - kept)}{text[len(text) - (kept - kept // 2) :]}"


def without_credentials(text: str) -> str:
    """Text as it may be shown and kept: addresses without user and password, and without what a query has of secrets.

    A mere user of ssh stays, for it is part of the address.

    >>> without_credentials("https://me:secret@host/simple and git+https://token@host/x and ssh://git@host/y")
    'https://host/simple and git+https://host/x and ssh://git@host/y'
    >>> without_credentials("a @ https://host/a.zip?raw=1&token=x#sha256=1, https://host/b?X-Amz-Signature=1")
    'a @ https://host/a.zip?raw=1#sha256=1, https://host/b'
    """
    text = _USERINFO.sub(
        lambda found: found[0] if found[1].endswith("ssh://") and ":" not in found[2] else found[1], text
    )
    return _QUERY.sub(_without_secrets, text)


def nearest(word: str, known: Iterable[str]) -> str:
    """Of known words the one that was probably meant; "" where none was.

    >>> nearest("retrys", ["chunk_size", "retries"]), nearest("x", ["retries"])
    ('retries', '')
    """
    with suppress(ImportError):  # a user's module may have that name
        from difflib import get_close_matches  # only who is wrong needs it

        return next(iter(get_close_matches(word, known, n=1)), "")
    return ""


def name_of(fn: Callable[..., Any]) -> str:
    """What a run says that it calls."""
    return getattr(fn, "__qualname__", repr(fn))


def duration(seconds: float) -> str:
    """A length of time, short.

    >>> [duration(s) for s in (0.04, 3.21, 64, 3700, 200_000)]
    ['0.0 s', '3.2 s', '1 min 04 s', '1 h 01 min', '2 d 7 h']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def each_text(seconds: float) -> str:
    """How long an item takes, in one unit for each magnitude.

    >>> [each_text(s) for s in (2e-07, 0.000231, 0.0123, 0.25, 64)]
    ['less than 0.01 ms', '0.23 ms', '12 ms', '0.25 s', '1 min 04 s']
    """
    if 0 < seconds < 1e-5:
        return "less than 0.01 ms"
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    return f"{seconds:.2g} s" if seconds < 1 else duration(seconds)


def _without_secrets(query: re.Match[str]) -> str:
    parts = re.split("[&;]", query[2])
    kept = [part for part in parts if not _is_secret(*part.partition("="))]
    return query[0] if len(kept) == len(parts) else query[1] + "?" * bool(kept) + "&".join(kept)


def _is_secret(name: str, equals: str, value: str) -> bool:
    return bool(_SECRET.search(name)) if equals else len(name) >= _NO_WORD


def json_escaped(text: str) -> str:
    r"""JSON whose strings show what they hold: the same document.

    >>> json_escaped('"a\u202eb\U000e0001"')
    '"a\\u202eb\\udb40\\udc01"'
    """
    return text if text.isascii() and _DELETE not in text else _HIDDEN.sub(lambda found: _utf16(found[0]), text)


def markdown(text: str, most: int | None = None) -> str:
    r"""On one line, as markdown that shows just this; in a table's cell too.

    >>> print(markdown("a|b\n<b>*x*`"))
    a\|b \<b\>\*x\*\`
    """
    return _MARKDOWN.sub(r"\\\1", one_line(text, most))


def code(text: str, most: int | None = None) -> str:
    r"""On one line, as markdown code, in a table's cell too.

    >>> print(code("f"), code("a`|\n"))
    `f` `` a`\| ``
    """
    line = one_line(text, most).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if "`" not in line else f"{fence} {line} {fence}"


def told(value: object, most: int = 200) -> str:
    """A value as a message names it: its `repr`, cut; whatever it is.

    >>> told("8XB"), told("x" * 1000, 8)
    ("'8XB'", "'xxxxxx…")
    """
    try:
        text = repr(value[:most]) if isinstance(value, str) and len(value) > most else repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return one_line(text, most)


def our_log(name: str = "starburst") -> logging.Logger:
    """Our logger of that name, whose records are fit to be shown, whoever's handler does that."""
    log = logging.getLogger(name)
    log.addFilter(_fit)  # it is there but once
    return log


def _fit(record: logging.LogRecord) -> bool:
    if not record.args:
        record.msg = _fit_text(str(record.msg))
    elif isinstance(record.args, tuple):
        record.args = tuple(
            _fit_text(str(each)) if isinstance(each, str | BaseException) else each for each in record.args
        )
    if record.exc_info and not record.exc_text:
        record.exc_text = _fit_text("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return True


def _fit_text(text: str) -> str:
    return without_credentials(visible_lines(text))


def _left_out(count: int) -> str:
    return f"\n… {count:,} characters left out …\n"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

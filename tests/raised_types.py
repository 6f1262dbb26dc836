"""Exceptions as users and libraries make them: each with what must be the same of it at home."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any


class KeywordOnly(Exception):
    """Its constructor takes no arguments by their place."""

    def __init__(self, *, code: int, why: str = "") -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


class Reshapes(Exception):
    """Its constructor makes something else of its argument each time."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no {what} here")


class Several(Exception):
    """Hands nothing on."""

    def __init__(self, a: int, b: list[int]) -> None:
        self.a, self.b = a, b

    def __str__(self) -> str:
        return f"{self.a} of {self.b}"


class Slotted(Exception):
    """Keeps its state in slots, one of a private name."""

    __slots__ = ("__hidden", "code")

    def __init__(self, *, code: int) -> None:
        self.code, self.__hidden = code, code + 1

    @property
    def hidden(self) -> int:
        """What it hides."""
        return self.__hidden


@dataclass(frozen=True)
class Frozen(Exception):
    """Lets nobody set anything."""

    code: int
    why: str


class Unparsed(SyntaxError):
    """What its class sets lies beside its arguments, in C."""

    def __init__(self, message: str, file: str, line: int, column: int) -> None:
        super().__init__(message)
        self.code, self.filename, self.lineno, self.offset, self.text = 4, file, line, column, "a b"


class Undecoded(UnicodeDecodeError):
    def __init__(self, data: bytes) -> None:
        super().__init__("utf-8", data, 0, 1, "why")
        self.reason = "another"


class Late(OSError):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno, self.filename = 500, "/tmp/x"


class Disk(OSError):
    """A kind of OSError with a constructor of its own."""

    def __init__(self, place: str) -> None:
        super().__init__(28, "No space left on device", place)
        self.place = place


class Held(Exception):
    """Has what cannot be pickled, and itself, about it."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code, self.lock, self.me = code, threading.Lock(), [self]


class Stays:
    """Cannot be pickled."""

    def __repr__(self) -> str:
        return "<stays>"

    def __reduce__(self) -> Any:
        raise TypeError("it stays")


class Told(Exception):
    """Its text is made of what cannot be pickled."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __str__(self) -> str:
        return f"of {self.what}"


class Attempt(Future[Any]):
    """A future of a kind of its own, as tenacity has it."""

    def __init__(self, number: int, error: Exception) -> None:
        super().__init__()
        self.number = number
        self.set_exception(error)

    def __repr__(self) -> str:
        return f"<attempt {self.number}: {self.exception()!r}>"


class GaveUp(Exception):
    """As tenacity's: made of the last attempt."""

    def __init__(self, last: Attempt) -> None:
        super().__init__(last)
        self.last = last

    @property
    def inner(self) -> Any:
        """What the attempt has raised."""
        return repr(self.last.exception())


class Level(Enum):
    """How bad it is."""

    BAD = 1


class Leveled(ValueError):
    """Has a property and an enum."""

    def __init__(self, level: Level, *more: Any) -> None:
        super().__init__(*more)
        self._level = level

    @property
    def level(self) -> Level:
        """How bad it is."""
        return self._level


class OwnGroup(ExceptionGroup[Exception]):
    """A group with a constructor of its own."""

    def __new__(cls, excs: list[Exception], *, tag: str) -> OwnGroup:
        self = super().__new__(cls, f"tagged {tag}", excs)
        self.tag = tag
        return self

    def __init__(self, excs: list[Exception], *, tag: str) -> None: ...


class Delegates(Exception):
    """Has what it lacks from elsewhere, whatever is asked."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__("no")
        self.answer = answer

    def __getattr__(self, name: str) -> Any:
        return self.answer[name]


class Headers(Mapping[str, str]):
    """A view that cannot be pickled, as aiohttp has it."""

    def __init__(self, of: dict[str, str]) -> None:
        self._of = of

    def __getitem__(self, name: str) -> str:
        return self._of[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __reduce__(self) -> Any:
        raise TypeError("it stays")


class Answer:
    """What an error of a client holds: with a lock, as grpc's."""

    def __init__(self, code: int, **headers: str) -> None:
        self.code, self.headers, self.moved = code, Headers(headers), threading.Condition()

    def __repr__(self) -> str:
        return f"<answer {self.code}>"


class OfAnAnswer(Exception):
    """Its text is made within what cannot be pickled."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def __str__(self) -> str:
        with self.answer.moved:
            return f"{self.answer.code}, try again in {self.answer.headers['after']}"


class ByItsWord(Exception):
    """Says itself how it travels."""

    def __init__(self, *, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __reduce__(self) -> Any:
        return by_its_word, (self.code,)


def by_its_word(code: int) -> ByItsWord:
    """How it is made again."""
    return ByItsWord(code=code)


def caught(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Exception:
    """What a call raises."""
    try:
        call(*args, **kwargs)
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def of_httpx() -> Exception:
    """A status that is an error, with request and response."""
    import httpx

    request = httpx.Request("GET", "https://example.com/x")
    return caught(httpx.Response(404, request=request, text="not here").raise_for_status)


def of_requests() -> Exception:
    """The same of requests."""
    import requests

    response = requests.Response()
    response.status_code, response.url, response.reason, response._content = (
        503,
        "https://example.com",
        "busy",
        b"later",
    )
    response.request = requests.Request("GET", "https://example.com").prepare()
    return caught(response.raise_for_status)


def of_requests_unconnected() -> Exception:
    """Nobody listens: what it came from holds the pool of connections."""
    import requests

    return caught(requests.get, "http://127.0.0.1:1")


def of_botocore() -> Exception:
    """AWS's refusal, as the client of a service raises it: of a class that was made while it ran."""
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": "Throttling", "Message": "slow down"}, "ResponseMetadata": {}}, "PutObject")


def of_botocore_keywords() -> Exception:
    """One of botocore's own, whose text is made of keywords."""
    from botocore.exceptions import ParamValidationError

    return ParamValidationError(report="Bucket is missing")


def of_sqlalchemy() -> Exception:
    """A statement that a database refused."""
    from sqlalchemy import create_engine, text

    with create_engine("sqlite://").connect() as connection:
        return caught(connection.execute, text("select * from nothing where x = :x"), {"x": 1})


def of_pydantic() -> Exception:
    """A model that does not take what it is given."""
    from pydantic import TypeAdapter

    return caught(TypeAdapter(dict[str, int]).validate_python, {"a": "x", "b": []})


def of_pandas() -> Exception:
    """A key that a frame lacks, and a parser's complaint."""
    import io

    import pandas

    return caught(pandas.read_csv, io.StringIO("a,b\n1,2\n1,2,3,4"))


def of_jsonschema() -> Exception:
    """A document that a schema refuses."""
    import jsonschema

    return caught(jsonschema.validate, {"a": "x"}, {"properties": {"a": {"type": "integer"}}})


class OfAClient(Exception):
    """As google-api-core has it: a message, and details by keyword."""

    code = 429

    def __init__(self, message: str, errors: Any = (), *, details: Any = (), response: Any = None) -> None:
        super().__init__(message)
        self.message, self._errors, self._details, self._response = message, errors, details, response

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


#: A name, the exception, and what of it must be the same.
EXCEPTIONS: dict[str, tuple[Callable[[], Exception], tuple[str, ...]]] = {
    "keyword only": (lambda: KeywordOnly(code=7, why="x"), ("code",)),
    "reshapes": (lambda: Reshapes("bread"), ()),
    "several": (lambda: Several(1, [2, 3]), ("a", "b")),
    "slots": (lambda: Slotted(code=4), ("code", "hidden")),
    "a lock": (lambda: Held(code=3), ("code",)),
    "an argument that stays": (lambda: ValueError(1, Stays()), ()),
    "a text of what stays": (lambda: Told(Stays()), ()),
    "a group with what stays": (lambda: ExceptionGroup("g", [Told(Stays()), ValueError(Stays())]), ("message",)),
    "a future": (lambda: GaveUp(Attempt(3, KeyError("k"))), ("inner", "last.number")),
    "frozen dataclass": (lambda: Frozen(3, "cold"), ("code", "why")),
    "its own OSError": (lambda: Disk("/tmp/x"), ("errno", "strerror", "filename", "place")),
    "enum, property": (lambda: Leveled(Level.BAD, "a", 2), ("level",)),
    "own group": (lambda: OwnGroup([KeywordOnly(code=1), ValueError("v")], tag="t"), ("tag", "message")),
    "a client's": (lambda: OfAClient("quota", ("e",), details=[{}]), ("message", "_errors", "_details", "code")),
    "delegates": (lambda: Delegates({"code": 3}), ("code",)),
    "text within what stays": (lambda: OfAnAnswer(Answer(429, after="3")), ("answer.code",)),
    "by its word": (lambda: ByItsWord(code=3), ("code",)),
    "FileNotFoundError": (lambda: caught(open, "/nowhere/at/all"), ("errno", "strerror", "filename")),
    "UnicodeDecodeError": (lambda: caught(b"\xff".decode), ("encoding", "object", "start", "end", "reason")),
    "KeyError": (lambda: caught({}.__getitem__, "k"), ()),
    "StopIteration": (lambda: StopIteration(5), ("value",)),
    "ImportError": (lambda: ImportError("no", name="n", path="/p"), ("name", "path")),
    "SyntaxError": (lambda: caught(compile, "a b", "f.py", "exec"), ("filename", "lineno", "offset", "text", "msg")),
    "its own SyntaxError": (
        lambda: Unparsed("bad", "f.x", 3, 7),
        ("msg", "filename", "lineno", "offset", "text", "code"),
    ),
    "its own UnicodeDecodeError": (lambda: Undecoded(b"\xff"), ("object", "start", "end", "reason")),
    "an OSError set later": (lambda: Late("slow"), ("errno", "filename")),
    "JSONDecodeError": (lambda: caught(json.loads, "{x"), ("doc", "pos", "lineno")),
}

NOTELESS = ("frozen dataclass", "delegates")  #: Python cannot note anything about these

#: The same of libraries.
OF_LIBRARIES: dict[str, tuple[Callable[[], Exception], tuple[str, ...]]] = {
    "httpx": (of_httpx, ("response.status_code", "response.text", "request.url")),
    "requests": (of_requests, ("response.status_code", "response.text", "request.url")),
    "requests, not connected": (of_requests_unconnected, ("request.url", "response")),
    "botocore ClientError": (of_botocore, ("response", "operation_name")),
    "botocore keywords": (of_botocore_keywords, ("kwargs",)),
    "sqlalchemy": (of_sqlalchemy, ("statement", "params", "code")),
    "pydantic": (of_pydantic, ("title",)),
    "pandas": (of_pandas, ()),
    "jsonschema": (of_jsonschema, ("message", "validator", "instance", "schema", "json_path")),
}


def raises(what: str) -> None:
    """Raise it, with a note, from another one and while a third is handled."""
    error = {**EXCEPTIONS, **OF_LIBRARIES}[what][0]()
    if what not in NOTELESS:
        error.add_note(f"of {what}")
    try:
        raise KeyError("handled")
    except KeyError:
        raise error from Reshapes("peace")

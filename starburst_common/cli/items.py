"""A file of items, or stdin, in; items out. A file is read through once before anything is launched, and held never."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from shutil import copyfileobj
from typing import Any

from starburst_common.data.given import FORMATS, SUFFIXES, Rows, objects
from starburst_common.data.pattern import Pattern
from starburst_common.data.separators import SAID, separator
from starburst_common.data.where import S3
from starburst_common.errors import BadInput

STDIN = "-"
_FIELD = 64 << 20  #: characters of a CSV's field; Python's own limit is 131,072
_OBJECT = "object"


def open_items(source: str, kind: str | None, *, whole: bool = False) -> Iterable[Any] | Rows:
    """Items of a file, or of stdin for `-`, as they come (with `whole`, read to its end first).

    `kind` is "jsonl", "csv" or "parquet", or "object" for files as they are; None goes by the suffix. What lies on S3,
    or is named by a pattern, is read by workers. Raises `BadInput` naming file, line and fault.
    """
    if kind is not None and kind not in (*FORMATS, _OBJECT):
        raise BadInput(f'format={kind!r}: use "jsonl", "csv", "parquet" or "object"')
    if kind == _OBJECT:
        return objects(source)
    if source.startswith(S3) or (Pattern.of(source).wild and not Path(source).exists()):
        return Rows(source, kind)
    if source == STDIN:
        if kind == "parquet":
            raise BadInput("Parquet cannot be read from stdin: give a file")
        read = _csv if kind == "csv" else _jsonl
        return _Items(_spooled(0), "stdin", read) if whole else read(_stdin(), "stdin")
    path = Path(source)
    if not path.exists() or path.is_dir():
        raise BadInput(f"{source}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    kind = kind or _by_suffix(path)
    if kind == "parquet":
        return _Parquet(path)
    file = path if path.is_file() else _spooled(source)  # a pipe can be read but once
    return _Items(file, source, _csv if kind == "csv" else _jsonl)


def _by_suffix(path: Path) -> str:
    if path.suffix == ".json":
        raise BadInput(
            f"{path}: a JSON document is not items: write one value a line, as `jq -c '.[]' {path}` does, "
            "or say --format jsonl if it is so already"
        )
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path}: {path.suffix or 'no suffix'} tells no format: say --format jsonl, csv or parquet")
    return SUFFIXES[path.suffix]


_Reader = Callable[[Iterable[bytes], str], Iterator[Any]]


class _Items:
    """Items of a text file, all well-formed, counted and not held."""

    def __init__(self, path: Path, name: str, read: _Reader) -> None:
        self._path, self._name, self._read = path, name, read
        self._count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        try:
            with self._path.open("rb") as lines:
                yield from self._read(lines, self._name)
        except OSError as error:
            raise BadInput(f"{self._name}: {error.strerror}") from None


class _Parquet:
    """Rows of a Parquet file as dicts."""

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise BadInput(f"{path}: reading Parquet needs pyarrow: pip install 'starburst-ecs[parquet]'") from None
        self._path, self._fault = path, ArrowException
        try:
            self._file = ParquetFile(path)
        except (ArrowException, OSError) as error:
            raise BadInput(f"{path}: not Parquet: {error}") from None
        had = sum(batch.num_rows for batch in self._batches())  # to its end, as other files
        if had != len(self):
            raise BadInput(f"{path}: broken Parquet: it says that it has {len(self):,} rows, and has {had:,}")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches():
            yield from batch.to_pylist()

    def _batches(self) -> Iterator[Any]:
        try:
            yield from self._file.iter_batches(batch_size=8192)
        except (self._fault, OSError) as error:
            raise BadInput(f"{self._path}: broken Parquet: {error}") from None


def _jsonl(lines: Iterable[bytes], name: str) -> Iterator[Any]:
    for number, text in _decoded(lines, name):
        if text.strip():
            try:
                yield json.loads(text)
            except json.JSONDecodeError as error:
                shown = text.strip() if len(text) < 60 else f"{text.strip()[:57]}..."
                raise BadInput(
                    f"{name}, line {number}: not JSON: {error.msg} (column {error.colno}): {shown}"
                ) from None
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{name}, line {number}: not JSON that Python can hold: {error}") from None


def _csv(lines: Iterable[bytes], name: str) -> Iterator[dict[str, str]]:
    csv.field_size_limit(_FIELD)  # of this process, which is ours
    texts = (text for _, text in _decoded(lines, name))
    before: list[str] = []
    for text in texts:
        before.append(text)
        if text.strip():
            break
    first = before[-1].strip("\r\n") if before else ""
    said = SAID.fullmatch(first)  # a line that Excel reads, and hides
    between = said[1] if said else separator(first, f"{name}, line {len(before)}")
    rows = csv.reader(chain(before, texts), strict=True, delimiter=between)
    for _ in before if said else ():
        next(rows)
    yield from _rows(rows, name)


def _rows(rows: Any, name: str) -> Iterator[dict[str, str]]:
    header: list[str] = []
    try:
        for row in rows:
            if row and not header:
                header = row
                if twice := [column for column, count in Counter(header).items() if count > 1]:
                    raise BadInput(f"{name}, line {rows.line_num}: two columns are called {min(twice)!r}")
            elif row:
                if len(row) != len(header):
                    had = f"{len(row)} of the header's {len(header)} fields"
                    raise BadInput(f"{name}, line {rows.line_num}: {had}")
                yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise BadInput(f"{name}, line {rows.line_num}: not CSV: {error}") from None


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
                raise BadInput(
                    f"{name} is UTF-16, as Excel's Unicode text is: save it as CSV UTF-8, or "
                    "`iconv -f UTF-16 -t UTF-8` turns it into UTF-8"
                ) from None
            raise BadInput(
                f"{name}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}): save it as UTF-8"
            ) from None


def _stdin() -> Iterator[bytes]:
    """Lines of stdin past Python's own buffer, whose lock a thread that waits here would hold when the process ends."""
    rest = b""
    while block := os.read(0, 1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _spooled(pipe: int | str) -> Path:
    """All of a pipe in a temporary file, which stays until the process ends."""
    import atexit

    with (
        tempfile.NamedTemporaryFile(prefix="starburst-items-", delete=False) as spool,
        open(pipe, "rb", closefd=pipe != 0) as stream,
    ):
        copyfileobj(stream, spool)
    path = Path(spool.name)
    atexit.register(path.unlink, missing_ok=True)
    return path

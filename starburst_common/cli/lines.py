"""Answers in, JSON lines out."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from glob import escape
from pathlib import Path
from secrets import token_hex
from time import time as wall_clock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from starburst_common.data.plain import json_line
from starburst_common.errors import BadInput, Unavailable
from starburst_common.model import Failure
from starburst_common.phrases import json_escaped
from starburst_common.runs.failures import UNANSWERED

if TYPE_CHECKING:
    from starburst_common.runs.run import Run


def json_text(value: Any) -> str:
    """One line of JSON, whatever the value."""
    return json_escaped(json_line(value))


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json_text(value), flush=True)


def failure_fields(failure: Failure) -> dict[str, Any]:
    """A failure as JSON."""
    return {
        "item": failure.index,
        "kind": str(failure.kind),
        "error": failure.error,
        "message": failure.message,
        "traceback": failure.traceback,
        "worker": failure.worker,
    }


class CannotWrite(Unavailable):
    """Where answers are written takes no more of them, and somebody may yet want them."""


def kept(error: CannotWrite, run: Run) -> CannotWrite:
    """The same, with what to do."""
    return CannotWrite(f"{error}: run {run.id} keeps its answers: make room, then `starburst results {run.id}`")


def _sweep(place: Path) -> None:
    """Remove what commands that were killed have left beside it: nobody holds it, and it is no newer than a minute."""
    for left in place.parent.glob(f".{escape(place.name[:100])}.????????.part"):
        with suppress(OSError), left.open("a") as file:
            if wall_clock() - left.stat().st_mtime > 60:
                flock(file, LOCK_EX | LOCK_NB)
                left.unlink()


class Answers:
    """Writes a line an item, to a file or to stdout, and remembers the first failures.

    A file is written beside its place, which it takes once it is whole (`done`).

    A line is the value, or null where there is none, so that line n belongs to item n; with `tagged` it is an object
    that tells item and value, or item and failure.
    """

    def __init__(self, output: Path | None, *, tagged: bool) -> None:
        self.first: list[Failure] = []
        self.failed = self.unanswered = 0
        self._tagged = tagged
        self._name = "standard output" if output is None else f"--output {output}"
        self._file: TextIO | None = None
        self._place: Path | None = None  # what the file is to replace, once it is whole
        self.whole = False
        try:
            if output is not None:
                self._file = self._opened(output)
        except OSError as error:
            raise BadInput(f"--output {output}: {error.strerror}") from None
        # A progress bar takes the place of stdout and stderr: lines on the same terminal go through it, others past it.
        self._piped = None if sys.stdout.isatty() else sys.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            with suppress(OSError) if error is not None else self._writing():
                self._file.close()
            if self._place is not None and not self.whole:
                Path(self._file.name).unlink(missing_ok=True)

    def _opened(self, output: Path) -> TextIO:
        """A pipe or a device as it is; in place of a file one beside it, which replaces it once all is written."""
        there = output.exists()
        if (there and not output.is_file()) or output.is_relative_to("/dev") or output.is_relative_to("/proc"):
            return output.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
        place = output.resolve()
        if there:
            place.open("a").close()  # may it be written at all?
        _sweep(place)
        beside = place.with_name(f".{place.name[:100]}.{token_hex(4)}.part")
        file = beside.open("x", encoding="utf-8", errors="backslashreplace", newline="\n")
        with suppress(OSError):  # where files cannot be locked none is swept
            flock(file, LOCK_EX | LOCK_NB)
        if there:
            beside.chmod(stat.S_IMODE(place.stat().st_mode))
        self._place = place
        return file

    @property
    def unfinished(self) -> str:
        """The file that is left as it was; empty where there is none."""
        return "" if self._place is None or self.whole else str(self._place)

    def done(self) -> None:
        """Every line is written: now the file is in its place. Raises `CannotWrite`."""
        self.whole = True
        if self._place is not None and self._file is not None:
            with self._writing():
                self._file.flush()
                os.fsync(self._file.fileno())
                Path(self._file.name).replace(self._place)

    def write(self, answers: Iterator[tuple[int, Any]]) -> None:
        """Answers in the order of the items. Raises `CannotWrite`, but where nobody reads on (a closed pipe)."""
        self._lines(answers)
        if self._file is not None:
            with self._writing():
                self._file.flush()

    def _lines(self, answers: Iterator[tuple[int, Any]]) -> None:
        following = 0
        for index, answer in answers:
            failure = answer if isinstance(answer, Failure) else None
            if failure is not None:
                self.failed += 1
                self.unanswered += failure.kind in UNANSWERED
                told = len(self.first) < 3 and failure.kind not in UNANSWERED
                self.first += [failure] if told else []
            if self._tagged:
                body = {"value": answer} if failure is None else {"failure": failure_fields(failure)}
                self._line({"item": index, **body})
            else:
                for _ in range(following, index):
                    self._line(None)
                self._line(None if failure is not None else answer)
            following = index + 1

    def _line(self, value: Any) -> None:
        text = json_text(value)
        with self._writing():
            print(text, file=self._file or self._piped or sys.stdout, flush=self._file is None)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CannotWrite(f"{self._name}: {error.strerror}") from None

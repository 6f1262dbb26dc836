"""Values and a pattern such as `out/*.jsonl` in; a file of theirs, and a frame of where each lies in it, out.

A file is written by the slot that has its values, before these are said to be there; so a value is settled as where it
lies, and whoever reads a run's answers reads it there. Files of who came too late are in no manifest.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pickle import loads
from typing import Any

from starburst_common.data.parquet import can_be_had, file_of
from starburst_common.data.plain import json_line, plain
from starburst_common.data.portions import Portion, Stretch
from starburst_common.data.results import PARQUET
from starburst_common.data.where import create
from starburst_common.errors import BadInput
from starburst_common.model import Buffer, Span
from starburst_common.pickling.byvalue import dumps
from starburst_common.wire.stretches import StretchWriter


class ValuesWriter:
    """Values of consecutive items, gathered for a file that is written when the frame of them is asked for."""

    def __init__(self, files: str, first: int) -> None:
        self._files, self._first = files, first
        self._values: list[bytes] = []  # as they were when they came: who made one may alter it
        self._table = files.endswith(PARQUET)
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: Any) -> None:
        """One more. Raises what pickling raises."""
        taken = dumps(value) if self._table else json_line(value).encode(errors="backslashreplace") + b"\n"
        self._values.append(taken)
        self.nbytes += len(taken)

    def parts(self) -> list[Buffer]:
        """Write the file; a frame of where its rows are. Raises `BadInput`, `Denied` and `Unavailable`."""
        span, column = Span(self._first, self._first + len(self)), ""
        types: dict[str, str] = {}
        if self._table:
            body, column, types = _parquet([loads(value) for value in self._values])
        else:
            body = b"".join(self._values)
        lying = create(self._files.replace("*", f"{span}-{secrets.token_hex(4)}"), body, None)
        if self._table:
            portion = Portion(lying, "parquet", 0, 1, len(self), column=column)
        else:
            portion = Portion(lying, "jsonl", 0, lying.nbytes, len(self))
        told: list[Any] = [lying.uri, lying.nbytes, types]
        return StretchWriter(Stretch([(portion, 0, len(self))]), told).parts()


def _parquet(values: Sequence[Any]) -> tuple[bytes, str, dict[str, str]]:
    """A file of values, the column that they are in, if they are no rows, and its columns' types."""
    if why := can_be_had():
        raise BadInput(why)
    rows = all(isinstance(value, Mapping) and all(type(name) is str for name in value) for value in values)
    rows = rows and any(values)  # a file without columns has no rows either
    column = "" if rows else "value"
    table = [value if rows else {column: value} for value in values]
    try:
        body, types = file_of(table)
    except BadInput:  # it has what Parquet lacks, and JSON may say
        body, types = file_of([plain(row) for row in table])
    return body, column, types

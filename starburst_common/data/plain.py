"""A value in; what JSON can say of it out."""

from __future__ import annotations

import dataclasses
import json
import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID


def plain(value: Any) -> Any:
    """A value as JSON can say it.

    numpy scalars and arrays (and all that has `tolist`) become numbers and lists, dataclasses objects, dates and times
    ISO 8601 text, lengths of time seconds, bytes base64, enum members their value, sets sorted lists, decimals, paths
    and UUIDs text; NaN and infinities, which JSON lacks, null; anything else its `repr`.

    >>> plain({"when": date(2027, 1, 2), 3: (Decimal("0.1"), float("nan"), {1}), "f": plain})["when"]
    '2027-01-02'
    >>> plain({3: (Decimal("0.1"), float("nan"), {"b", "a"})})
    {'3': ['0.1', None, ['a', 'b']]}
    """
    for kinds, told in _PLAIN:
        if isinstance(value, kinds):
            return told(value)
    if isinstance(value, type):
        return repr(value)
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return plain(value.tolist()) if callable(getattr(value, "tolist", None)) else repr(value)


def _sorted(values: Iterable[Any]) -> list[Any]:
    """In an order that is the same in every process."""
    return sorted(map(plain, values), key=lambda each: json.dumps(each, sort_keys=True))


#: values as JSON can say them, by their types; the first that fits
_PLAIN: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((Enum,), lambda value: plain(value.value)),
    ((NoneType, bool, int, str), lambda value: value),
    ((float,), lambda value: float(value) if math.isfinite(value) else None),
    ((Mapping,), lambda value: {str(plain(key)): plain(each) for key, each in value.items()}),
    ((set, frozenset), _sorted),
    ((list, tuple), lambda value: [plain(each) for each in value]),
    ((date, time), lambda value: value.isoformat()),
    ((timedelta,), lambda value: value.total_seconds()),
    ((bytes, bytearray, memoryview), lambda value: b64encode(value).decode()),
    ((Decimal, PurePath, UUID), str),
)


def json_line(value: Any) -> str:
    """One line of JSON, whatever the value."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json.dumps(plain(value), ensure_ascii=False)
    except Exception:  # it holds itself, or nothing can be asked of it
        pass
    try:
        return json.dumps(repr(value), ensure_ascii=False)
    except Exception as error:
        return json.dumps(f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>")

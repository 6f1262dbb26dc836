"""An option's value in; whether it has the shape that it should have out. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def is_kinds(value: Any) -> bool:
    """An exception type, or a tuple of them."""
    kinds = value if isinstance(value, tuple) else (value,)
    return bool(kinds) and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


def is_paths(value: Any) -> bool:
    """Paths, or one."""
    named = [value] if isinstance(value, str | Path) else value
    return isinstance(named, list | tuple) and all(isinstance(name, str | Path) and str(name) for name in named)


def is_files(value: Any) -> bool:
    """Files of JSON lines or of Parquet, with one `*` in their name."""
    return (
        isinstance(value, str | Path) and re.fullmatch(r"([^*?]*/)?[^*?/]*\*\.(jsonl|parquet)", str(value)) is not None
    )


def are_arguments(value: Any) -> bool:
    """What a call may be given after its function."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def is_tags(value: Any) -> bool:
    """Texts by text."""
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


def is_place(value: Any) -> bool:
    """A URI, or a path."""
    return isinstance(value, str | Path) and bool(str(value))

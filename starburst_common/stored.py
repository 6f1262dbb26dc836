"""What lies in the store of a run's outcomes, read and checked."""

from __future__ import annotations

from typing import Any

from starburst_common.ports import Backend
from starburst_common.wire import SUMMARY_BYTES, read_summary, summary_nbytes


def stored_summary(backend: Backend, key: str, size: int | None = None) -> dict[str, Any]:
    """What an outcome answers. Where its `size` is known, its values are not read. Raises `NotFound`, `Refused`."""
    if size is None:
        return read_summary(backend.key, key, backend.store.get(key))
    start = backend.store.get_range(key, 0, min(size, SUMMARY_BYTES))
    if len(start) < (wanted := min(size, summary_nbytes(start))):
        start = backend.store.get_range(key, 0, wanted)
    return read_summary(backend.key, key, start)

"""How many results are to be mapped over in; what Airflow will say to that, before anything is run for them, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import conf

from starburst_common import Rows


def too_wide(task: Any, items: Sequence[Any] | Rows) -> str:
    """Why a task that is mapped over so many results of this one would not be, as far as is known here; or nothing.

    The limit that counts is the API server's. How many rows there are is not known yet.
    """
    limit = conf.getint("core", "max_map_length", fallback=1024)
    if isinstance(items, Rows) or len(items) <= limit:
        return ""
    if not task.has_dag() or next(task.iter_mapped_dependants(), None) is None:
        return ""
    return (
        f"{len(items):,} results are to be mapped over, and [core] max_map_length is {limit:,} here: if it is no more "
        "for the API server, this task fails once its run is whole. Raise it there: a retry then runs nothing"
    )

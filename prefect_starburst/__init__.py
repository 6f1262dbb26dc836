"""Prefect tasks in, calls on starburst workers out: `@flow(task_runner=StarburstTaskRunner(workers=50))`.

Importing this package imports nothing of Prefect: workers import it for every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_starburst.runner import StarburstTaskRunner

__all__ = ["StarburstTaskRunner"]


def __getattr__(name: str) -> Any:
    if name != "StarburstTaskRunner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prefect_starburst.runner import StarburstTaskRunner

    return StarburstTaskRunner

"""Prefect tasks in, calls on starburst workers out: `@flow(task_runner=StarburstTaskRunner(workers=50))`.

Importing this package imports nothing of Prefect: workers import it for every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_starburst.home.block import StarburstSite
    from prefect_starburst.home.bursts import burst
    from prefect_starburst.home.runner import StarburstTaskRunner

_HOMES = {"StarburstSite": "home.block", "StarburstTaskRunner": "home.runner", "burst": "home.bursts"}

__all__ = ["StarburstSite", "StarburstTaskRunner", "burst"]


if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

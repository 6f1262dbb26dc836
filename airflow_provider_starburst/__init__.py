"""Airflow tasks in, runs on starburst workers out: `StarburstMapOperator` and `@task.starburst_map`.

Importing this package imports nothing of Airflow: workers import it for every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_starburst.decorators.starburst import starburst_map_task
    from airflow_provider_starburst.hooks.starburst import StarburstHook
    from airflow_provider_starburst.operators.starburst import StarburstMapOperator
    from airflow_provider_starburst.results import StarburstResults
    from airflow_provider_starburst.sensors.starburst import StarburstRunSensor

_HOMES = {
    "StarburstHook": "hooks.starburst",
    "StarburstMapOperator": "operators.starburst",
    "StarburstResults": "results",
    "StarburstRunSensor": "sensors.starburst",
    "starburst_map_task": "decorators.starburst",
}

__all__ = ["StarburstHook", "StarburstMapOperator", "StarburstResults", "StarburstRunSensor", "starburst_map_task"]


if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""starburst: map a Python function over many inputs on as many workers as there may be.

The public names; everything else is inside. Modules are loaded when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starburst_common import checkpoint
    from starburst_common.cluster import Cluster, starburst_map
    from starburst_common.code.shared import Shared, share
    from starburst_common.data.given import Object, Rows, objects
    from starburst_common.errors import (
        BadInput,
        CannotBuild,
        Denied,
        EnvironmentMismatch,
        InputLost,
        ItemFailed,
        ItemTimeout,
        NotFound,
        NotPicklable,
        OutOfMemory,
        Refused,
        RunCancelled,
        RunStopped,
        StarburstError,
        Unavailable,
        UnknownOption,
        UnpicklableResult,
        WorkerLost,
    )
    from starburst_common.executor import StarburstExecutor
    from starburst_common.fleets.waves import Plan
    from starburst_common.model import Failure, FailureKind, RunState, RunStatus
    from starburst_common.pickling.within import item_seed
    from starburst_common.resources import Resources
    from starburst_common.runs.costs import Cost, costs
    from starburst_common.runs.events import EventKind, RunEvent
    from starburst_common.runs.find import attach, list_runs
    from starburst_common.runs.run import Run

_HOMES = {
    "checkpoint": ("checkpoint",),  # the module itself
    "cluster": ("Cluster", "starburst_map"),
    "errors": (
        "BadInput",
        "CannotBuild",
        "Denied",
        "EnvironmentMismatch",
        "InputLost",
        "ItemFailed",
        "ItemTimeout",
        "NotFound",
        "NotPicklable",
        "OutOfMemory",
        "Refused",
        "RunCancelled",
        "RunStopped",
        "StarburstError",
        "Unavailable",
        "UnknownOption",
        "UnpicklableResult",
        "WorkerLost",
    ),
    "executor": ("StarburstExecutor",),
    "fleets.waves": ("Plan",),
    "model": ("Failure", "FailureKind", "RunState", "RunStatus"),
    "resources": ("Resources",),
    "runs.costs": ("Cost", "costs"),
    "runs.events": ("EventKind", "RunEvent"),
    "runs.find": ("attach", "list_runs"),
    "runs.run": ("Run",),
    "data.given": ("Object", "Rows", "objects"),
    "code.shared": ("Shared", "share"),
    "pickling.within": ("item_seed",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "BadInput",
    "CannotBuild",
    "Cluster",
    "Cost",
    "Denied",
    "EnvironmentMismatch",
    "EventKind",
    "Failure",
    "FailureKind",
    "InputLost",
    "ItemFailed",
    "ItemTimeout",
    "NotFound",
    "NotPicklable",
    "Object",
    "OutOfMemory",
    "Plan",
    "Refused",
    "Resources",
    "Rows",
    "Run",
    "RunCancelled",
    "RunEvent",
    "RunState",
    "RunStatus",
    "RunStopped",
    "Shared",
    "StarburstError",
    "StarburstExecutor",
    "Unavailable",
    "UnknownOption",
    "UnpicklableResult",
    "WorkerLost",
    "attach",
    "checkpoint",
    "costs",
    "item_seed",
    "list_runs",
    "objects",
    "share",
    "starburst_map",
]


if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = import_module(f"{__name__}.{_WHERE[name]}")
        return home if name == _WHERE[name] else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)

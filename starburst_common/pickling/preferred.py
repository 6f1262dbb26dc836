"""The user's own in a process of ours: a folder of modules, found before all others, and a main program."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType


class Script(ModuleType):
    """What stands for the user's main program in a slot: there libraries look for what annotations name."""


def stand_in() -> None:
    """Let this process's main module be such a one, which tells the same of itself and has nothing else."""
    script = Script("__main__")
    vars(script).update({key: value for key, value in vars(sys.modules["__main__"]).items() if key.startswith("__")})
    sys.modules["__main__"] = script


def prefer(folder: str, loaded: Mapping[str, ModuleType]) -> None:
    """Put a folder first on the path, and forget those of the loaded modules that have the name of one in it.

    So a user's `statistics.py` is imported, as at home, though this process began with the standard library's. Whoever
    holds a module that is forgotten goes on with it.
    """
    sys.path.insert(0, folder)
    names = {place.name.partition(".")[0] for place in Path(folder).iterdir()}
    for name, module in loaded.items():
        if name.partition(".")[0] in names and sys.modules.get(name) is module:
            del sys.modules[name]

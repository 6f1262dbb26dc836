"""A folder of modules in; from then on imports find those, whatever else has their names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType


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

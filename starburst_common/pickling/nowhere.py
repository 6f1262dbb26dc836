"""A module's name in; whether no other process could import it, so that what it defines goes by value, out."""

from __future__ import annotations

import os
import sys
from types import ModuleType

OURS = frozenset({"starburst_common", "starburst_worker", "prefect_starburst", "airflow_provider_starburst"})
_INSTALLED = ("site-packages", "dist-packages")
#: Modules that were found to be so, which is for good: what they define is known by what it is here.
SENT: set[str] = set()


def lies_nowhere(name: str) -> bool:
    """Whether this process alone has a module: it made that itself, or its file is gone, in a zip, or has no source.

    >>> sys.modules["made_here"] = ModuleType("made_here")
    >>> lies_nowhere("made_here"), lies_nowhere("sys"), lies_nowhere("json.decoder"), lies_nowhere("not_imported")
    (True, False, False, False)
    >>> del sys.modules["made_here"]
    """
    module, top = sys.modules.get(name), name.partition(".")[0]
    if module is None or top in sys.stdlib_module_names or top in OURS or top[:2] == "__":
        return False
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return not any(each in file for each in _INSTALLED) and (file[-4:] == ".pyc" or not os.path.exists(file))  # noqa: PTH110 - asked for each class that is pickled
    return _is_made_up(module) and (name == top or lies_nowhere(top))  # else who imports the package makes it anew


def _is_made_up(module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    return type(module) is ModuleType and not hasattr(module, "__path__") and (spec is None or spec.origin is None)


def names_sent(pickled: bytes) -> bool:
    """Whether a pickle names a module that was found to be so."""
    return any(name.encode() in pickled for name in SENT)

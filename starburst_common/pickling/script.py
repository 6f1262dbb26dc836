"""A class of the user's script in; the name by which workers have it that run the script, and whether they can, out.

So travels what cannot go by value: classes that were registered somewhere as they were made, such as SQLAlchemy's
models, or that are made in C.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pickle import PicklingError
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from starburst_common.pickling.bound import Stays
from starburst_common.pickling.preferred import Script
from starburst_common.pickling.setup import in_module

_by_running: WeakKeyDictionary[type, bool] = WeakKeyDictionary()  # of classes that were tried
RUN = "__mp_main__"  #: what the script is called where it is run for its classes, as in the standard library's pools


def _script() -> ModuleType | None:
    """The user's program here: on a worker what was run of it, if it was."""
    main = sys.modules.get("__main__")
    return sys.modules.get(RUN) if isinstance(main, Script) else main


def name_by_running(cls: type, try_it: Callable[[type], None] | None) -> str | None:
    """The name in the script of a class that only running the script gives; None for one that goes by value.

    `try_it` raises where it cannot; once a class is enough, and without it only those count that were tried. Raises
    `Stays` where the script cannot be run for it.
    """
    script = _script()
    if script is None or type(cls).__hash__ is None or (name := _name_in(script, cls)) is None:
        return None
    if script is not sys.modules.get("__main__"):  # it was run here, for the same reason
        return name if in_module(RUN, name) is cls else None
    if cls not in _by_running and try_it is not None:
        try:
            if any(name_by_running(base, try_it) for base in cls.__bases__):
                raise PicklingError("a class that it derives from cannot")
            try_it(cls)
        except Stays:
            raise
        except Exception as error:
            if why := _why_not(name):
                raise Stays(
                    f"the class {name} cannot go by value ({error}), and workers cannot run the script to have it, "
                    f"since {why}: put it into a module beside the script, which workers import"
                ) from error
            _by_running[cls] = True
        else:
            _by_running[cls] = False
    return name if _by_running.get(cls) else None


def _name_in(script: ModuleType, cls: type) -> str | None:
    """The name under which the script has a class, or says that it has one of its own."""
    own: bool = cls.__module__ == script.__name__
    if own and in_module(script.__name__, cls.__qualname__) is cls:
        return str(cls.__qualname__)
    found = (name for name, value in [*vars(script).items()] if value is cls)
    return next(found, cls.__qualname__ if own else None)


def of_script(name: str) -> Any:
    """What the script has under a name: at home as it is, on a worker once the script was run there."""
    if not isinstance(sys.modules.get("__main__"), Script) and (found := in_module("__main__", name)) is not None:
        return found
    __import__(RUN)
    if (found := in_module(RUN, name)) is None:
        raise AttributeError(f"the script does not make {name!r} where it is not the main program")
    return found


def script_file() -> Path | None:
    """Where the script lies, if it does."""
    file = getattr(_script(), "__file__", None)
    return Path(file) if isinstance(file, str) and file.endswith(".py") and Path(file).is_file() else None


def _why_not(name: str) -> str:
    """Why workers cannot run the script to have a class of this name; empty where they can."""
    file = script_file()
    if file is None:
        return "it lies in no file"
    if getattr(_script(), "__package__", ""):
        return "it is a module of a package (python -m)"
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return "it cannot be read"
    if not any(map(_is_guard, body)):
        return 'it has no `if __name__ == "__main__":` around what is to be run here alone'
    return "" if name.partition(".")[0] in _made(body) else f"it does not make {name} wherever it is run"


def _is_guard(statement: ast.stmt) -> bool:
    """Whether what is below it is run in the main program alone."""
    test = ast.walk(statement.test) if isinstance(statement, ast.If) else ()
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in test)


def _made(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that a module makes itself, but where it is the main program.

    >>> sorted(_made(ast.parse("class A: pass\\nB = C = f()\\nif __name__ == '__main__':\\n    class D: pass").body))
    ['A', 'B', 'C']
    """
    for statement in statements:
        if isinstance(statement, ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_guard(statement):
            for field in ("body", "orelse", "finalbody"):
                yield from _made(getattr(statement, field, ()))
            for handler in getattr(statement, "handlers", ()):
                yield from _made(handler.body)

"""`module:function` in, the function out, or one sentence about why there is none."""

from __future__ import annotations

import builtins
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from starburst_common.errors import BadInput


def find_function(name: str) -> Callable[..., Any]:
    """The function; the current folder comes first on `sys.path`. Raises `BadInput`."""
    look_here()
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        module_name = Path(module_name).stem if module_name.endswith(".py") else module_name or "module"
        raise BadInput(f"{name!r} is no function: write module:function, such as {module_name}:{path or 'main'}")
    found: Any = _module(module_name)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise BadInput(_not_there(name, found, attribute))
        found = getattr(found, attribute)
    if not callable(found):
        raise BadInput(f"{name} is not a function but a value of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def find_exception(name: str) -> type[BaseException]:
    """An exception type, of a module or built in. Raises `BadInput`.

    >>> find_exception("OSError"), find_exception("json:JSONDecodeError").__name__
    (<class 'OSError'>, 'JSONDecodeError')
    """
    if ":" not in name and not hasattr(builtins, name):
        known = [key for key, value in vars(builtins).items() if isinstance(value, type)]
        raise BadInput(f"Python has no exception {name!r}: {_near(name, known) or 'write module:Exception'}")
    found = find_function(name if ":" in name else f"builtins:{name}")
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise BadInput(f"{name} is not an exception: write one such as OSError, or module:Exception")
    return found


def look_here() -> None:
    """Find modules in the current folder, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _module(name: str) -> ModuleType:
    if name.endswith(".py") and Path(name).is_file():
        raise BadInput(f"name the module, not its file: {'.'.join(Path(name).with_suffix('').parts)!r}")
    try:
        with redirect_stdout(sys.stderr):  # what a module prints is not a result
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise BadInput(_broken(name, error)) from error
        here = [module.name for module in pkgutil.iter_modules([str(Path.cwd())])]
        hint = _near(error.name, here) or f"{Path.cwd()} and the installed packages have none"
        raise BadInput(f"no module {error.name!r}: {hint}") from None
    except (Exception, SystemExit) as error:
        raise BadInput(_broken(name, error)) from error


def _broken(name: str, error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"importing {name} failed: {type(error).__name__}: {error}{where}"


def _not_there(name: str, found: Any, attribute: str) -> str:
    functions = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
    hint = _near(attribute, functions) or (f"it has {', '.join(functions[:8])}" if functions else "it has none")
    what = f"module {found.__name__!r}" if isinstance(found, ModuleType) else repr(name.rpartition(".")[0])
    return f"{what} has no function {attribute!r}: {hint}"


def _near(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""

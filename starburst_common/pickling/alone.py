"""A module, or code, in; out the module whole where this program alone has it, and which modules the code imports."""

from __future__ import annotations

import dis
import sys
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any

from starburst_common.pickling.identity import made_once, token_of
from starburst_common.pickling.nowhere import SENT
from starburst_common.pickling.places import sent_by_value

_OF_IMPORT = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__"})  #: in a module, of who imported it


def module_by_value(module: ModuleType) -> Any:
    """What makes a module in another process, where that cannot import it; `NotImplemented` where it can."""
    name = module.__name__
    if sys.modules.get(name) is not module or not sent_by_value(name) or name not in SENT:
        return NotImplemented
    state = {key: value for key, value in vars(module).items() if key not in _OF_IMPORT}
    return made_once, (token_of(module), _make_module, (name,)), state, None, None, _fill_module


def _make_module(name: str) -> ModuleType:
    return sys.modules.setdefault(name, ModuleType(name))


def _fill_module(module: ModuleType, state: dict[str, Any]) -> None:
    vars(module).update(state)


def imported_alone(code: CodeType) -> list[ModuleType]:
    """The modules that code imports when it runs and that this program has alone: they go along."""
    tops = _imports_within(code)
    return [sys.modules[top] for top in sorted(tops) if top in sys.modules and sent_by_value(top) and top in SENT]


@lru_cache(maxsize=4096)
def _imports_within(code: CodeType) -> frozenset[str]:
    inner = [_imports_within(each) for each in code.co_consts if isinstance(each, CodeType)]
    return imports_of_code(code).union(*inner)


@lru_cache(maxsize=4096)
def imports_of_code(code: CodeType) -> frozenset[str]:
    """Top-level modules that code imports, by a statement or by a call with a text.

    >>> sorted(imports_of_code((lambda: (__import__("shop.orders"), __import__("till"))).__code__))
    ['shop', 'till']
    """
    names = [each.argval for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME"]
    if {"import_module", "__import__"} & set(code.co_names):
        names += [each for each in code.co_consts if isinstance(each, str)]
    return frozenset(top for name in names if (top := name.partition(".")[0]).isidentifier())

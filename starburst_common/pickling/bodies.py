"""A function's code in; what the bodies of classes within it name among its globals out."""

from __future__ import annotations

import dis
import inspect
from functools import lru_cache
from types import CodeType

_LOADS = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


@lru_cache(maxsize=4096)
def names_in_classes(code: CodeType) -> tuple[str, ...]:
    r"""Globals that the bodies of classes within a function may name: they look for them as for what they define.

    >>> names_in_classes(compile("def f():\n class A:\n  b = c = LIMIT\n  d = b", "", "exec").co_consts[0])
    ('LIMIT',)
    """
    found: dict[str, None] = {}
    for inner in (const for const in code.co_consts if isinstance(const, CodeType)):
        found.update(dict.fromkeys(names_in_classes(inner)))
        if inner.co_flags & inspect.CO_OPTIMIZED:  # a function's
            continue
        defined = {"__name__"}
        for each in dis.get_instructions(inner):
            if each.opname in _LOADS and each.argval not in defined:
                found[each.argval] = None
            elif each.opname == "STORE_NAME":
                defined.add(each.argval)
    return tuple(found)

"""Annotations in; the names in their texts, which go along for whoever reads them in another process, out."""

from __future__ import annotations

import ast
import sys
import typing
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ForwardRef, Literal

import cloudpickle

from starburst_common.pickling.preferred import Script


def texts(hint: Any) -> Iterator[str]:
    if isinstance(hint, str):
        yield hint
    elif isinstance(hint, ForwardRef):
        yield hint.__forward_arg__
    elif not isinstance(hint, type) and typing.get_origin(hint) is not Literal:
        arguments = getattr(hint, "__args__", None)
        for each in arguments if isinstance(arguments, tuple) else ():
            yield from texts(each)


@lru_cache(maxsize=4096)
def names(text: str) -> tuple[str, ...]:
    """Names in an annotation, also in texts within it.

    >>> names("dict[str, 'Point | None'] | Literal['x']")
    ('dict', 'str', 'Point', 'Literal')
    """
    try:
        return tuple(dict.fromkeys(_names_below(ast.parse(text.strip(), mode="eval"))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


def _names_below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from names(node.value)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "Literal":
        yield from _names_below(node.value)
    else:
        for each in ast.iter_child_nodes(node):
            yield from _names_below(each)


def fill_hinted(cls: type, state: Any) -> None:
    (fill, rest), module, names = state
    fill(cls, rest)
    if isinstance(sys.modules.get("__main__"), Script):
        if module not in sys.modules:
            sys.modules[module] = Script(module)
            cloudpickle.register_pickle_by_value(sys.modules[module])
        vars(sys.modules[module]).update(names)

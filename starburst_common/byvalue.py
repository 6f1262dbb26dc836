"""A value in, its pickle out: by value what workers cannot import, with the names of the files that code is from."""

from __future__ import annotations

import dis
import io
import sys
from collections.abc import Callable, Iterator
from pickle import PickleBuffer
from types import CodeType
from typing import Any

import cloudpickle

#: What cloudpickle 3.1.3 writes for the name: it hides from a traceback where it was, and which line it was.
_HIDDEN = "<dynamic-code>"


def dumps(
    value: Any,
    *,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
    imports: set[str] | None = None,
    codes: list[CodeType] | None = None,
) -> bytes:
    """`cloudpickle.dumps`, but code keeps the name of its file.

    `imports` is given the top-level modules that code imports when it runs, `codes` all code that goes by value.

    >>> import pickle
    >>> code = compile("def double(x): return 2 * x", "/home/me/mine.py", "exec")
    >>> pickle.loads(dumps(code)).co_filename
    '/home/me/mine.py'
    """
    if (main := sys.modules.get("__mp_main__")) is not None:  # what multiprocessing calls the script in a spawned child
        cloudpickle.register_pickle_by_value(main)
    out = io.BytesIO()
    pickler = Pickler(out, 5, buffer_callback=buffer_callback)
    pickler.imports = imports
    pickler.codes = codes
    pickler.dump(value)
    return out.getvalue()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with that difference."""

    imports: set[str] | None = None
    codes: list[CodeType] | None = None

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not CodeType:
            return super().reducer_override(obj)
        if self.imports is not None:
            self.imports.update(_imports(obj))
        if self.codes is not None:
            self.codes.append(obj)
        make, arguments = self.dispatch_table[CodeType](obj)
        return make, tuple(obj.co_filename if isinstance(told, str) and told == _HIDDEN else told for told in arguments)


def _imports(code: CodeType) -> Iterator[str]:
    """Top-level modules that code imports, by a statement or by a call with a text.

    >>> sorted(_imports((lambda: (__import__("shop.orders"), __import__("till"))).__code__))
    ['shop', 'till']
    """
    names = [each.argval for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME"]
    if {"import_module", "__import__"} & set(code.co_names):
        names += [each for each in code.co_consts if isinstance(each, str)]
    for name in names:
        if (top := name.partition(".")[0]).isidentifier():
            yield top

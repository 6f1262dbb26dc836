"""A function, a call of `burst`, an item in; a name out that is the same from one attempt at a flow run to the next."""

from __future__ import annotations

import hashlib
import inspect
import io
import pickle
import threading
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext

from prefect_starburst.internals import hash_objects
from starburst_common.spi import MAINS, names_of

_lock = threading.Lock()
#: Globals of these types are part of what a function is: another value, another answer.
_DATA = frozenset({bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None)})


def code_of(fn: Any) -> str | None:
    """Names a function's text, or its code where there is none, and what it closes over or is bound to."""
    if isinstance(fn, partial | MethodType):
        code = code_of(fn.func if isinstance(fn, partial) else fn.__func__)
        bound = (fn.args, fn.keywords) if isinstance(fn, partial) else fn.__self__
        return code and hash_objects(code, bound)
    if not isinstance(fn, FunctionType):
        return hash_objects("object", fn)
    try:
        source = inspect.getsource(fn)
    except (OSError, TypeError):
        source = fn.__code__.co_code.hex() + repr(fn.__code__.co_consts)
    try:
        closed_over = [cell.cell_contents for cell in fn.__closure__ or ()]
    except ValueError:  # a cell is still empty
        return None
    named = {name: fn.__globals__[name] for name in names_of(fn.__code__) if name in fn.__globals__}
    data = {name: value for name, value in named.items() if type(value) in _DATA}
    return hash_objects(fn.__qualname__, source, fn.__defaults__, fn.__kwdefaults__, closed_over, data)


def name_of_call(fn: Callable[[Any], Any], flow: FlowRunContext | None, within: TaskRunContext) -> str | None:
    """Names this call of `burst` in its flow run; None if the function's code has no name."""
    code, task_key = code_of(fn), within.task.task_key
    if flow is None or flow.flow_run is None or code is None:
        return None
    kind = hash_objects(task_key, code, within.parameters) or hash_objects(task_key, code)
    turns = flow.task_run_dynamic_keys  # counted by Prefect, too: new for each attempt, shared by the tasks' threads
    of_kind = f"starburst burst {flow.flow_run.run_count} {kind}"
    of_task_run = f"{of_kind} {within.task_run.id}"
    of_attempt = f"{of_task_run} {within.task_run.run_count}"
    with _lock:
        if of_task_run not in turns:
            turns[of_kind] = int(turns.get(of_kind, -1)) + 1
            turns[of_task_run] = turns[of_kind]
        turns[of_attempt] = int(turns.get(of_attempt, -1)) + 1
        return hash_objects(kind, turns[of_task_run], turns[of_attempt])


def name_of_item(item: Any) -> bytes | None:
    """Names an item by its pickle; None if it has none."""
    written = io.BytesIO()
    try:
        _Identifier(written, 5).dump(item)
    except Exception:
        return None
    return hashlib.blake2b(written.getbuffer(), digest_size=16).digest()


class _Identifier(pickle.Pickler):
    """Pickles classes of the main script by name: they travel by value, and come back as others of that name."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) and value.__module__ in MAINS:
            return str, (value.__qualname__,)
        return NotImplemented

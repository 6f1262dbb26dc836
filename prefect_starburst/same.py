"""A call of `burst`, or an item, in; a name by which the next attempt of the flow run knows it again, out."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext

from prefect_starburst.calls import code_of
from prefect_starburst.internals import hash_objects
from starburst_common.pickling.byvalue import MAINS

_lock = threading.Lock()


def call_of(fn: Callable[[Any], Any], flow: FlowRunContext | None, within: TaskRunContext) -> str | None:
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


def identity_of(item: Any) -> bytes | None:
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

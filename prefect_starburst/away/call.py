"""A function, parameters and the facts of a run in; its value, or a `Reply`, out. Runs on the worker.

Prefect takes seconds to import, so a worker imports it only for a call that needs it: one whose function's module did,
one with a timeout or `log_prints`, an async one, or one that imports it while it runs. What else takes long to import
(asyncio, importlib.abc) waits for its first use, too: every slot imports this module before its first call.
"""

from __future__ import annotations

import inspect
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from prefect_starburst.between import logs
from prefect_starburst.between.reply import Reply
from starburst_common import UnpicklableResult
from starburst_common.spi import explain, named, packed, printed

if TYPE_CHECKING:
    from importlib.abc import Loader

    from prefect.tasks import Task

    from prefect_starburst.away.contexts import Worked


class RemoteCall:
    """A task's function as the executor knows it: one object per task, called once per task run.

    `facts` is the pickled slim task (without its function) and what it may ask about its flow run.
    """

    def __init__(self, fn: Callable[..., Any], facts: bytes, levels: logs.Levels, *, needs_prefect: bool) -> None:
        self.fn, self.facts, self.levels, self.needs_prefect = fn, facts, levels, needs_prefect
        self.held: dict[str, bytes] = {}
        self.modules: list[str] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        """On a worker: what we import of Prefect is no item's time."""
        vars(self).update(state)
        if self.needs_prefect or "prefect" in sys.modules:
            from prefect_starburst.away.contexts import load_contexts

            load_contexts()

    def holding(self, held: dict[str, bytes], modules: list[str]) -> RemoteCall:
        """The same with pickled parameters that all its calls have, and what they name: modules that must travel."""
        call = RemoteCall(self.fn, self.facts, self.levels, needs_prefect=self.needs_prefect)
        call.held, call.modules = held, modules
        return call

    def __call__(self, parameters: dict[str, Any], run: bytes) -> Any:
        """The function's value, or a `Reply` where there is more to tell; `run` is the pickled facts of the run."""

        worked: list[Worked] = []  # of which there is one once Prefect has been imported

        def enter() -> Task[Any, Any]:
            from prefect_starburst.away.contexts import run_context

            task: Task[Any, Any]
            task, flow = pickle.loads(self.facts)
            task.fn = self.fn
            worked.append(stack.enter_context(run_context(task, flow, parameters, pickle.loads(run))))
            stack.enter_context(logs.recorded(self.levels, records))  # importing Prefect has set up its loggers anew
            return task

        process = os.getpid()
        with logs.recorded(self.levels) as records, ExitStack() as stack:
            try:
                parameters = {**{name: pickle.loads(held) for name, held in self.held.items()}, **parameters}
                if self.needs_prefect or "prefect" in sys.modules:
                    value = _within_prefect(enter(), parameters)
                else:
                    stack.enter_context(_when_prefect_is_imported(enter))
                    value = call_with(self.fn, parameters)
            except BaseException as exc:
                if os.getpid() != process:  # the function forked, and ends its child
                    raise
                explain(exc)
                text = printed(exc)
                for each in worked:
                    exc = each.failed(exc)
                how = {"error": _portable(exc)} if isinstance(exc, Exception) else {"left": named(exc)}
                return Reply(**how, traceback=text, records=records, **_told(worked))
            told = _told(worked)
        if records or any(told.values()) or isinstance(value, Reply):
            return Reply(value=value, records=records, **told)
        return value


def call_with(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Call a function with its parameters by name, `*args` a tuple and `**kwargs` a dictionary among them.

    >>> call_with(lambda a, /, *more, b, **rest: (a, more, b, rest), {"a": 1, "more": (2,), "b": 3, "rest": {"c": 4}})
    (1, (2,), 3, {'c': 4})
    """
    bound = inspect.BoundArguments(inspect.signature(fn), OrderedDict(parameters))
    return fn(*bound.args, **bound.kwargs)


def _told(worked: list[Worked]) -> dict[str, Any]:
    return worked[0].told() if worked else {}


def _within_prefect(task: Any, parameters: dict[str, Any]) -> Any:
    """Call the task's function, within its timeout as Prefect counts it: from the moment it starts."""
    import asyncio

    from prefect_starburst.internals import TaskRunTimeoutError, timeout, timeout_async

    async def awaited() -> Any:
        with timeout_async(task.timeout_seconds, TaskRunTimeoutError):
            return await call_with(task.fn, parameters)

    if task.isasync:
        return asyncio.run(awaited())
    with timeout(task.timeout_seconds, TaskRunTimeoutError):
        return call_with(task.fn, parameters)


@contextmanager
def _when_prefect_is_imported(then: Callable[[], object]) -> Iterator[None]:
    """While the context lasts, the first import of Prefect is followed by `then`, before the importer goes on."""
    finder = _Watch(then)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


class _Watch:
    """A finder for `sys.meta_path`."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "prefect":
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loaded(spec.loader, self._then))
        return spec


class _Loaded:
    """A loader that calls `then` once its module is there."""

    def __init__(self, loader: Loader, then: Callable[[], object]) -> None:
        self._loader, self._then = loader, then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._then()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _portable(exc: Exception) -> bytes:
    """The exception pickled, or one of ours that names it where it would not survive the way home."""
    return packed(exc) or pickle.dumps(
        UnpicklableResult(
            f"the task raised {type(exc).__module__}.{named(exc)}; that exception cannot be sent back: "
            "give it picklable arguments, or raise another one from it"
        )
    )

"""One slot: chunks come in on a socket, values and failures go out; the user's function runs here and nothing else.

The slot holds no key and no connection to store or queue. It dies with its supervisor.
"""

from __future__ import annotations

import heapq
import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from traceback import walk_tb
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from starburst_common.latest import let_go
from starburst_common.phrases import shortened
from starburst_common.pickling.preferred import prefer
from starburst_common.pickling.raised import named, note, packed, printed, text_of
from starburst_common.pickling.setup import SetUp, Setup
from starburst_common.pickling.sources import lay_out
from starburst_common.pickling.within import awaited, explain, make_ready, sow
from starburst_worker.board import DRAIN, GO, SETTING_UP, SlotBoard
from starburst_worker.capture import Capture
from starburst_worker.modules import fit
from starburst_worker.said import say
from starburst_worker.stand import Stand

_FLUSH_S = 0.05
_FLUSH_BYTES = 8 << 20
FUNCTIONS_BYTES = 64 << 20  #: of functions are kept, the latest, here as in the supervisor
_MESSAGE, _TRACEBACK, _NAME = 10_000, 20_000, 200  #: characters at most of what is told of a failure


class Policy(NamedTuple):
    """How failing items are treated."""

    retries: int
    retry_delay_s: float
    retry_on: tuple[type[BaseException], ...]
    seed: int | None = None
    numbers: Mapping[int, int] = MappingProxyType({})  #: by which items have their seeds, where not by their own


class Out:
    """What goes back to the supervisor: values batched, failures one by one."""

    def __init__(self, pipe: Connection, board: SlotBoard, capture: Capture) -> None:
        from starburst_common.wire.frames import FrameWriter

        self._board, self._capture = board, capture
        self._pipe, self._writer = pipe, partial(FrameWriter, checked=True)
        self._lock = threading.Lock()
        self._frame, self._first = self._writer(), 0
        self._logs: dict[int, str] = {}
        self._fresh: list[tuple[int, int, str, bool]] = []  # for who follows
        self._followed = False
        self._before: dict[int, int] = {}  # how much items have printed that are to be tried again
        self._since = time.perf_counter()
        self.left = False

    def value(self, index: int, value: Any) -> None:
        """Pickle a value now, send it soon. Raises what pickling raises, and `Unreadable`."""
        with self._lock:
            if len(self._frame) and index != self._first + len(self._frame):
                self._send()
            if not len(self._frame):
                self._first = index
            self._frame.add(value)
            if self._frame.nbytes > _FLUSH_BYTES or time.perf_counter() - self._since > _FLUSH_S:
                self._send()

    def failure(self, fields: dict[str, Any], exception: bytes | None) -> None:
        """Send a failure."""
        with self._lock:
            self._send()
            say(self._pipe.fileno(), {"failure": fields, "pickled": exception is not None}, exception or b"")

    def printed(self, index: int, *, again: bool) -> None:
        """Take what an item has printed, which is to be tried `again` or not."""
        if self._capture.dirty or index in self._before:
            with self._lock:
                self._follow(index, ended=not again)
                count, text = self._capture.take()
                self._logs[index] = self._logs.get(index, "") + text
                count += self._before.pop(index, 0)
                if again:
                    self._before[index] = count

    def _follow(self, index: int, *, ended: bool) -> None:
        """Take what an item has printed since, if somebody wants to see it at once."""
        before, self._followed = self._followed, self._board.followed
        if not self._followed:
            return
        if not before:
            self._capture.follow()
        at, text = self._capture.fresh()
        if text or ended:
            self._fresh.append((index, self._before.get(index, 0) + at, text, ended))

    def leave(self) -> None:
        """This process is a fork of the slot: it has no part in this."""
        self._pipe.close()
        self.left = True

    def done(self, seconds: float) -> None:
        """Everything that was asked for and allowed has been answered."""
        with self._lock:
            self._send()
            say(self._pipe.fileno(), {"done": seconds})

    def flush(self) -> None:
        """Send what has waited long enough."""
        with self._lock:
            if (index := self._board.current) >= 0 and self._capture.dirty:
                self._follow(index, ended=False)
            if (len(self._frame) or self._logs or self._fresh) and time.perf_counter() - self._since > _FLUSH_S:
                self._send()

    def _send(self) -> None:
        if len(self._frame) or self._logs or self._fresh:
            count = len(self._frame)
            values = b"".join(self._frame.parts()) if count else b""
            told = {"first": self._first, "values": count, "logs": self._logs, "fresh": self._fresh}
            say(self._pipe.fileno(), told, values)
            self._frame, self._logs, self._fresh = self._writer(), {}, []
        self._since = time.perf_counter()


def run_chunk(
    spans: list[tuple[int, int]],
    item: Callable[[int], Any],
    call: Callable[[Any], Any],
    policy: Policy,
    board: SlotBoard,
    out: Out,
    stand: Stand,
) -> None:
    """Run every item of the spans, then the retries that are due, while the supervisor lets us."""
    waiting: list[tuple[float, int, int]] = []  # when, which item, how many tries it had

    def attempt(index: int, tries: int) -> None:
        stand.take()
        sow(policy.seed, policy.numbers.get(index, index))
        board.current = index
        board.steps = step = (board.steps | 1) + 2
        again = False
        try:
            argument = item(index)
            board.steps = step + 1
            value = awaited(call(argument))
        except BaseException as error:
            if out.left:
                raise
            kind = kind_of(error, unpickling=board.steps == step)
            board.steps = step + 3  # what we load to tell of it is not the item's time
            explain(error)
            again = tries < policy.retries and isinstance(error, policy.retry_on) and kind != "import"
            if again:
                heapq.heappush(waiting, (time.monotonic() + policy.retry_delay_s, index, tries + 1))
            else:
                out.failure(*failure_of(index, error, kind=kind))
        else:
            if out.left:  # the function forked, and both returned
                sys.exit()
            try:
                out.value(index, value)
            except BaseException as error:  # of the user's own code, which may well raise SystemExit
                out.failure(*_unpicklable(index, value, error))
        board.current = -1
        out.printed(index, again=again)

    for index in _each(spans):
        before, board.reached = board.reached, index
        if board.ask != GO:  # the supervisor sets `ask`, waits, then reads `reached`: one of us sees the other
            board.reached = before
            break
        attempt(index, 0)
    while waiting and board.ask != DRAIN:
        due, index, tries = waiting[0]
        if (pause := due - time.monotonic()) > 0:
            time.sleep(min(pause, 0.05))
        else:
            heapq.heappop(waiting)
            attempt(index, tries)


_LACKING = (
    "the worker lacks it: name the package in your project's requirements (`starburst env show` tells which file is "
    "read); for a module of your own, start the run where you can import it"
)


def kind_of(error: BaseException, *, unpickling: bool) -> str:
    """Whose fault it is: memory's, the environment's, which lacks what a pickle names, or the user's own code's."""
    if isinstance(error, MemoryError):
        return "oom"
    if not unpickling or not isinstance(error, ImportError | AttributeError):
        return "user"
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    own = frames and frames[-1].partition(".")[0] not in ("starburst_common", "starburst_worker", "cloudpickle")
    return "user" if own and isinstance(error, AttributeError) else "import"


def failure_of(index: int, error: BaseException, *, kind: str) -> tuple[dict[str, Any], bytes | None]:
    """An exception as a failure's fields, and itself pickled where that works both ways."""
    lacking = isinstance(error, ImportError | AttributeError)
    if isinstance(error, ModuleNotFoundError) and _LACKING not in getattr(error, "__notes__", ()):
        note(error, _LACKING)
    message = shortened(text_of(error), _MESSAGE)
    fields = {
        "index": index,
        "kind": kind,
        "error": shortened(type(error).__name__, _NAME),
        "message": f"{message}: {_LACKING}" if kind == "import" and lacking else message,
        "traceback": shortened(printed(error), _TRACEBACK),
    }
    return fields, packed(error.with_traceback(None))


def _unpicklable(index: int, value: Any, error: BaseException) -> tuple[dict[str, Any], None]:
    from starburst_common.wire.frames import Unreadable

    kind = shortened(f"{type(value).__module__}.{type(value).__qualname__}", _NAME)
    message = f"the result, a {kind}, cannot be pickled: {shortened(named(error), _MESSAGE)}: "
    if isinstance(error, Unreadable) and error.__cause__ is not None:
        error = error.__cause__
        message = f"the result, a {kind}, is pickled, but does not unpickle: {shortened(named(error), _MESSAGE)}: "
    return {
        "index": index,
        "kind": "user",
        "error": "UnpicklableResult",
        "message": f"{message}return plain data, or a name for it",
        "traceback": shortened(printed(error), _TRACEBACK),
    }, None


class Loaded(NamedTuple):
    """A user's function, what to retry on, what to call before, and how many bytes all had."""

    function: Callable[..., Any]
    retry_on: tuple[type[BaseException], ...]
    setup: Setup | None
    nbytes: int


def load_function(
    blob: bytes, bundle: str | None, began_with: Mapping[str, ModuleType], buffers: Sequence[str] = ()
) -> Loaded:
    """The user's function, with the user's modules importable, also those named like ones that this process has."""
    from starburst_common.wire.functions import inflated

    if bundle is not None and bundle not in sys.path:
        prefer(bundle, began_with)
    pickled, sources = inflated(blob)
    lay_out(sources, bundle)
    by_value = sys.modules.get("starburst_common.pickling.byvalue")  # else nothing has come by value yet
    with by_value.renewing() if by_value is not None else nullcontext():
        if buffers:
            from starburst_common.code.shared import loads_with

            (function, retry_on, setup), nbytes = loads_with(pickled, buffers)
        else:
            (function, retry_on, setup), nbytes = pickle.loads(pickled), len(pickled)
    return Loaded(function, retry_on, setup, nbytes)


def caller(function: Callable[..., Any], style: str) -> Callable[[Any], Any]:
    """How an item becomes arguments: "one" argument, "star" for several, "call" for (args, kwargs)."""
    if style == "star":
        return lambda item: function(*item)
    if style == "call":
        return lambda item: function(*item[0], **item[1])
    return function


def _each(spans: list[tuple[int, int]]) -> Iterator[int]:
    return (index for lo, hi in spans for index in range(lo, hi))


def _chunks(pipe: Connection) -> Iterator[dict[str, Any]]:
    while True:
        try:
            yield json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return


def _companion(out: Out, guard: int) -> None:
    """Send results of a slow chunk while the next item runs; end the slot when its guard is gone."""
    while True:
        time.sleep(_FLUSH_S * 2)
        if os.getppid() != guard:
            os._exit(1)
        try:
            out.flush()
        except OSError:
            os._exit(1)


def main(handle: int, board_file: str) -> None:
    """Serve chunks until the socket closes."""
    from starburst_common.wire.items import Frames

    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # short of memory, the kernel kills a slot, not its worker
    pipe = Connection(handle)
    board = SlotBoard(Path(board_file))
    capture, stand = Capture(), Stand(Path(board_file).with_suffix(""))
    out = Out(pipe, board, capture)
    capture.install()
    threading.Thread(target=_companion, args=(out, os.getppid()), daemon=True).start()
    ready = SetUp()
    functions: dict[str, Loaded] = {}  # in the order of their last use
    bundles: set[str] = set()
    began_with = dict(sys.modules)
    os.register_at_fork(after_in_child=out.leave)
    say(handle, {"ready": os.getpid()})
    for order in _chunks(pipe):
        blob = pipe.recv_bytes() if order["with_function"] else b""
        frames = pipe.recv_bytes()
        began = time.perf_counter()
        name = order["function"]
        try:
            if (bundle := order["bundle"]) and bundle not in bundles and not fit([*bundles, bundle], began_with):
                say(handle, {"crowded": True})
                out.done(time.perf_counter() - began)
                continue
            bundles |= {bundle} if bundle else set()
            stand.move(order["folder"], order["files"], order["argv"])
            if order["shared"]:
                from starburst_common.code.shared import lies

                lies({digest: Path(file) for digest, file in order["shared"].items()})
            functions[name] = load_function(blob, bundle, began_with, order["buffers"]) if blob else functions.pop(name)
            make_ready(functions[name].function)
        except BaseException as error:
            fields, _ = failure_of(order["spans"][0][0], error, kind=kind_of(error, unpickling=True))
            say(handle, {"unfit": fields})
            out.done(time.perf_counter() - began)
            continue
        if (setup := functions[name].setup) is not None:
            board.steps, board.current = (board.steps | 1) + 3, SETTING_UP
            try:
                ready.once(setup, fresh=bool(blob))
            except BaseException as error:
                explain(error)
                fields, _ = failure_of(order["spans"][0][0], error, kind="user")
                fields["message"] = f"in the initializer {setup.name}: {fields['message']}"
                del functions[name]
                say(handle, {"unfit": fields})
                out.done(time.perf_counter() - began)
                continue
            finally:
                board.current = -1
        if gone := let_go(functions, FUNCTIONS_BYTES):
            say(handle, {"forgot": gone})
        del blob
        function, retry_on, *_ = functions[name]
        numbers = dict(zip(_each(sorted(order["spans"])), _each(order["numbers"]), strict=False))
        policy = Policy(order["retries"], order["retry_delay_s"], retry_on, order["seed"], numbers)
        items = Frames(frames)
        run_chunk(order["spans"], items.__getitem__, caller(function, order["style"]), policy, board, out, stand)
        del function, frames, items
        out.done(time.perf_counter() - began)

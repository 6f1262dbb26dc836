"""One slot: chunks come in on a socket, values and failures go out; the user's function runs here and nothing else.

The slot holds no key and no connection to store or queue. It dies with its supervisor.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from starburst_common.latest import let_go
from starburst_common.mapped import mapped
from starburst_common.model import FailureKind
from starburst_common.pickling.preferred import stand_in
from starburst_common.pickling.setup import SetUp
from starburst_common.pickling.within import around, explain, make_ready
from starburst_worker.batches import run_batches
from starburst_worker.board import SETTING_UP, SlotBoard
from starburst_worker.checkpoints import SlotCheckpoints
from starburst_worker.failed import failure_of, kind_of
from starburst_worker.gpus import see_own
from starburst_worker.loaded import Loaded, caller, load_function, where_unfit
from starburst_worker.modules import fit
from starburst_worker.order import FUNCTIONS_BYTES, Order
from starburst_worker.out import FLUSH_S, Out
from starburst_worker.said import say
from starburst_worker.stand import Stand
from starburst_worker.transcript import Transcript
from starburst_worker.tries import Manner, each, run_chunk


class Slot:
    """This process, which serves one chunk after another."""

    def __init__(self, handle: int, board_file: Path) -> None:
        self._handle, self._pipe = handle, Connection(handle)
        self._board = SlotBoard(board_file)
        transcript = Transcript()
        self._stand = Stand(board_file.with_suffix(""))
        self._out = Out(self._pipe, self._board, transcript)
        transcript.install()
        threading.Thread(target=_companion, args=(self._out, os.getppid()), daemon=True).start()
        around.checkpoints = SlotCheckpoints(self._pipe, self._board)
        self._ready = SetUp()
        self._functions: dict[str, Loaded] = {}  # in the order of their last use
        self._bundles: set[str] = set()
        self._began_with = dict(sys.modules)
        os.register_at_fork(after_in_child=self._out.leave)
        with suppress(BrokenPipeError):  # its worker has ended meanwhile, and closed the socket
            say(handle, {"ready": os.getpid()})

    def serve(self) -> None:
        """Until the socket closes."""
        for order in self._orders():
            blob = self._pipe.recv_bytes() if order.with_function else b""
            frames = [] if order.lies is not None else [self._pipe.recv_bytes()]
            began = time.perf_counter()
            if self._load(order, blob) and self._set_up(order, fresh=bool(blob)):
                if gone := let_go(self._functions, FUNCTIONS_BYTES):
                    say(self._handle, {"forgot": gone})
                del blob
                self._run(order, frames.pop() if frames else b"")
            self._out.done(time.perf_counter() - began)

    def _orders(self) -> Iterator[Order]:
        while True:
            try:
                text = self._pipe.recv_bytes()
            except (EOFError, OSError):
                return
            yield Order.read(text)

    def _load(self, order: Order, blob: bytes) -> bool:
        """Have the function, where its items stand, and what they refer to; False if it said why that cannot be."""
        bundles = {order.bundle} if order.bundle else set()
        try:
            if not bundles <= self._bundles and not fit([*self._bundles, *bundles], self._began_with):
                say(self._handle, {"crowded": True})
                return False
            self._bundles |= bundles
            self._stand.move(order.folder, order.files, order.argv)
            if order.shared:
                from starburst_common.code.shared import lies

                lies({digest: Path(file) for digest, file in order.shared.items()})
            if blob:
                loaded = load_function(blob, order.bundle, self._began_with, order.buffers)
            else:
                loaded = self._functions.pop(order.function)
            self._functions[order.function] = loaded
            make_ready(loaded.function)
        except BaseException as error:
            where = where_unfit(blob) if blob else ""
            self._say_unfit(order, error, kind_of(error, unpickling=True), where)
            return False
        return True

    def _set_up(self, order: Order, *, fresh: bool) -> bool:
        """Call the function's initializer, if it has one that was not called; False if it said why that cannot be."""
        if (setup := self._functions[order.function].setup) is None:
            return True
        self._board.steps, self._board.current = (self._board.steps | 1) + 3, SETTING_UP
        try:
            self._ready.once(setup, fresh=fresh)
        except BaseException as error:
            explain(error)
            del self._functions[order.function]
            self._say_unfit(order, error, FailureKind.USER, f"in the initializer {setup.name}: ")
            return False
        finally:
            self._board.current = -1
        return True

    def _say_unfit(self, order: Order, error: BaseException, kind: FailureKind, where: str = "") -> None:
        """No item of the chunk can be run."""
        fields, _ = failure_of(order.spans[0][0], error, kind=kind)
        say(self._handle, {"unfit": {**fields, "message": where + fields["message"]}})

    def _run(self, order: Order, frames: bytes) -> None:
        from starburst_common.wire.items import Frames

        loaded = self._functions[order.function]
        manner = Manner(
            call=caller(loaded.function, order.style),
            retries=order.retries,
            retry_delay_s=order.retry_delay_s,
            retry_on=loaded.retry_on,
            seed=order.seed,
            numbers=dict(zip(each(sorted(order.spans)), each(order.numbers), strict=False)),
            batch=order.batch,
        )
        if order.lies is None:
            items = Frames(frames)
        else:
            file, lo, nbytes = order.lies
            again = order.retries > 0  # what a call did to an array must not be there for the next try
            items = Frames(mapped(Path(file), ours=not again)[lo : lo + nbytes], sealed=True)
        self._out.begin(order.results_to, order.results_s)
        run = run_chunk if order.batch is None else run_batches
        run(order.spans, items, manner, self._board, self._out, self._stand)


def _companion(out: Out, guard: int) -> None:
    """Send results of a slow chunk while the next item runs; end the slot when its guard is gone."""
    while True:
        time.sleep(FLUSH_S * 2)
        if os.getppid() != guard:
            os._exit(1)
        try:
            out.flush()
        except OSError:
            os._exit(1)


def main(handle: int, board_file: str) -> None:
    """Serve chunks until the socket closes."""
    stand_in()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # short of memory, the kernel kills a slot, not its worker
    see_own(Path(board_file))
    Slot(handle, Path(board_file)).serve()

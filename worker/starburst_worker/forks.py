"""What workers of this machine are forked from: it imports what they need, and has no thread and no key."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import starburst_common.local  # noqa: F401  which workers import
from starburst_common.local.compute import note_end
from starburst_common.trust import owner_only
from starburst_worker.guard import QUIET
from starburst_worker.slot import main as slot
from starburst_worker.start import work

_ASKER = 0  #: whoever launches workers has the other end of standard input
_IDLE_S = 20.0  #: without a worker it ends, though nobody has hung up


class Forks:
    """This process, which forks a worker for each line, and writes down how those end that cannot say so."""

    def __init__(self) -> None:
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._before = [signal.signal(number, lambda *_: None) for number in QUIET]
        self._workers: dict[int, Path] = {}  # by process id: where they stand

    def serve(self) -> None:
        """Until nobody can ask any more, or has for a while, and all workers have ended."""
        gc.freeze()  # what is here now is looked at, and thereby copied, in no worker
        asker, idle_at = [_ASKER], time.monotonic() + _IDLE_S
        while asker or self._workers:
            left_s = None if self._workers else max(idle_at - time.monotonic(), 0.0)
            ready, _, _ = select.select([*asker, self._woken], [], [], left_s)
            if not ready:
                return
            if self._woken in ready:
                os.read(self._woken, 512)
                self._bury()
                idle_at = time.monotonic() + _IDLE_S
            if _ASKER in ready:
                asked = _line()
                if not asked:
                    asker = []
                    continue
                self._fork(**json.loads(asked))

    def _fork(self, orders: str, scratch: str, log: str) -> None:
        """Answers once the worker is there, with its own session, folder and log."""
        pid, (stands, standing) = -1, os.pipe()
        open_to = signal.pthread_sigmask(signal.SIG_BLOCK, QUIET)  # a worker may be told to go before it can hear
        try:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number, handler in zip(QUIET, self._before, strict=True):
                    signal.signal(number, handler)
        except OSError as error:
            os.close(stands)
            _answer({"errno": error.errno})
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, open_to)
            os.close(stands if pid == 0 else standing)
        if pid == 0:
            self._be_a_worker(orders, scratch, log, standing)
        self._workers[pid] = Path(scratch)
        os.read(stands, 1)  # ends as the worker closes the other end, or ends
        os.close(stands)
        _answer({"pid": pid})

    def _be_a_worker(self, orders: str, scratch: str, log: str, standing: int) -> NoReturn:
        os.setsid()
        os.chdir(scratch)
        nothing, prints = os.open(os.devnull, os.O_RDONLY), owner_only(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for handle, place in (nothing, 0), (prints, 1), (prints, 2):
            os.dup2(handle, place)
        for handle in nothing, prints, self._woken, self._waker, standing:
            os.close(handle)
        work(orders, slot)

    def _bury(self) -> None:
        """Ended workers; each is gone for others only once it can be read how it ended."""
        for pid, scratch in list(self._workers.items()):
            if (code := _ended(pid)) is not None:
                if not scratch.with_suffix(".end").exists():  # it was killed
                    note_end(scratch, code)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
                del self._workers[pid]


def _ended(pid: int) -> int | None:
    """How a child ended, if it has; it is there for others still, where the system can do that."""
    if not hasattr(os, "waitid"):
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _line() -> str:
    """What is asked, whole: whoever asks waits for an answer before the next. Empty where nobody can ask any more."""
    text = b""
    while not text.endswith(b"\n"):
        more = os.read(_ASKER, 65536)
        if not more:
            return ""
        text += more
    return text.decode()


def _answer(fields: dict[str, Any]) -> None:
    with suppress(OSError):  # whoever asked is gone
        os.write(_ASKER, json.dumps(fields).encode() + b"\n")

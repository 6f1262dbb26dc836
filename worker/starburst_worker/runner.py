"""Leased chunks in, settled answers out: one thread that keeps one slot process busy and watches over it."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from starburst_common.errors import Refused
from starburst_common.model import Batch, Failure, FailureKind, RunId, Span, spans_of, without
from starburst_common.runs.failures import WITHDRAWN
from starburst_common.runs.outcomes import Printed, read_printed
from starburst_common.wire.fields import Fields
from starburst_common.wire.frames import Frame
from starburst_worker.board import DRAIN, GO, NO_NEW, SETTING_UP, Board
from starburst_worker.guard import Guards
from starburst_worker.memory import oom_kills, resident_mib
from starburst_worker.parts import Part, pieces
from starburst_worker.said import Ear, Said
from starburst_worker.work import Settle, Work

_log = logging.getLogger("starburst.worker")

_TICK_S = 0.05  #: between two looks at a slot that says nothing
_DRAIN_S = 0.25  #: what a running item may still take when the worker must go
_CUT = "the file it shares with its worker was cut"
_CRASHES = 2  #: an item that ends its slot so often is answered with a failure
_FALSE_STARTS = 3  #: a slot that ends before it is ready, so often, will never be
_ENDING_S = 1.0  #: for a slot that was dismissed
_MOST_PIECES = 20
_MOST_PARTS = 100  #: a chunk with more gaps in its answers, as where many items wait to be tried again, stays whole

_numbers = itertools.count(1)


class Ended(StrEnum):
    """How a slot's turn at a chunk ended."""

    DONE = "done"  #: it answered all it was asked and allowed to
    DIED = "died"  #: its process is gone
    DRAINED = "drained"  #: the worker must go
    DROPPED = "dropped"  #: nobody wants the answers any more
    CROWDED = "crowded"  #: it has loaded other versions of the user's modules


@dataclass(slots=True, kw_only=True)
class Turn:
    """A chunk being run: its parts, and what the watch has seen."""

    work: Work
    settle: Settle
    parts: list[Part]
    splittable: bool
    number: int = 0  #: of the slots' turns at chunks
    began: float = field(default_factory=time.monotonic)
    first_at: float | None = None  #: when its first item began; before that the slot loads what items need
    crashes: dict[int, int] = field(default_factory=dict)
    timeouts: dict[int, int] = field(default_factory=dict)
    killed: FailureKind | None = None  #: why we killed the slot, if we did
    killed_why: str = ""
    ask: int = GO
    asked_at: float = 0.0
    withdraws: bool = False  #: that was asked for the sake of items that are withdrawn
    watched: tuple[int, float] = (-1, 0.0)  #: the attempt that is running and since when
    false_starts: int = 0
    settled: int = 0  #: items in front of the part that were settled before it, since they were large

    def part_of(self, index: int) -> Part | None:
        """The part an item belongs to; None if it is no longer ours."""
        return next((part for part in self.parts if part.chunk.span.lo <= index < part.chunk.span.hi), None)

    def open(self) -> list[Span]:
        """Items without an answer."""
        return [span for part in self.parts for span in part.open()]


class Slot:
    """A slot process and the ways to talk to it."""

    def __init__(self, number: int, scratch: Path, guards: Guards) -> None:
        self._guards = guards
        board_file = scratch / f"slot-{number}-{time.monotonic_ns()}.board"
        self.board = Board(board_file)
        ours, theirs = socket.socketpair()
        env = {name: value for name, value in os.environ.items() if name != "STARBURST_WORKER"}
        env.setdefault("PYTHONHASHSEED", "0")  # or a set has another order on each worker
        with theirs:
            self._process = guards.start(
                [
                    *(sys.executable, "-P", "-m", "starburst_worker", "slot"),
                    *(str(theirs.fileno()), str(board_file)),
                ],
                pass_fds=(theirs.fileno(),),
                env=env,
            )
        self.pid = self._process.pid  #: its guard's, until it has told its own
        self.pipe = Connection(os.dup(ours.fileno()))
        self._socket = ours
        self.ear = Ear(ours)
        self.ready = False
        self.functions: set[str] = set()
        self.crowded = False
        self.ooms = 0  #: the kernel's count of memory kills when the slot got its chunk

    @property
    def ended(self) -> bool:
        """Whether its process is gone. Its socket does not tell: what it forked may hold that."""
        return self._process.poll() is not None

    def dismiss(self) -> None:
        """Let it end by itself: what it has opened is closed, and its functions at exit are called."""
        self._hang_up()

    def close_soon(self) -> None:
        """Close it, once it has had a moment to end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)
        self.close()

    def end(self) -> int:
        """End it with whatever it started, if they have not ended, and give its exit code."""
        return self._guards.end(self._process)

    def close(self) -> int:
        """End it, and what there is of it here; its exit code."""
        code = self.end()
        self._hang_up()
        self.board.close()
        return code

    def _hang_up(self) -> None:
        self.pipe.close()
        self._socket.close()

    @property
    def rss_mib(self) -> float:
        """Resident memory now, but for mapped files, which slots have in common; 0 where /proc does not tell."""
        return resident_mib(self.pid)


class Runner:
    """Serves one chunk after another on one slot.

    `draining` says that the worker must go, `held_up` that so much waits to be stored that no slot is to be heard. More
    answers than `part_bytes` are settled before the others are there. `tell` takes what items print, for who follows.
    """

    def __init__(
        self,
        number: int,
        scratch: Path,
        *,
        guards: Guards,
        worker: str,
        chunk_s: float,
        too_big: Callable[[Slot], str],
        draining: Callable[[], bool],
        part_bytes: int,
        held_up: Callable[[], bool],
        tell: Callable[[RunId, list[Printed]], None],
    ) -> None:
        self._number, self._scratch, self._guards, self._worker = number, scratch, guards, worker
        self._chunk_s, self._too_big, self._draining = chunk_s, too_big, draining
        self._part_bytes, self._held_up, self._tell = part_bytes, held_up, tell
        self.slot: Slot | None = Slot(number, scratch, guards)
        self._turn: Turn | None = None
        self._deadly: dict[str, int] = {}  # functions, and how many slots in a row each has ended as it was loaded

    def dismiss(self) -> None:
        """Tell the slot, which has nothing to do, to end."""
        if self.slot is not None:
            self.slot.dismiss()

    def close(self) -> None:
        """End the slot, which was dismissed."""
        if self.slot is not None:
            self.slot.close_soon()
            self.slot = None

    def remaining_s(self) -> float:
        """About how long the current chunk will still take; 0 when there is none."""
        turn, slot = self._turn, self.slot
        if turn is None or slot is None:
            return 0.0
        elapsed, span = time.monotonic() - turn.began, turn.work.chunk.span
        ran = max(slot.board.reached - span.lo, 0)
        if ran == 0:  # nothing is known; after a moment, expect a long item
            return 0.0 if elapsed < _TICK_S else math.inf
        return elapsed / ran * (span.hi - span.lo - ran)

    def current(self) -> tuple[RunId, bool] | None:
        """Whose chunk is being run, and whether it is an executor's."""
        turn = self._turn
        return None if turn is None else (turn.work.run, turn.work.calls)

    def serve(self, work: Work, settle: Settle) -> None:
        """Run a chunk to its end. `settle` is called once for each part, with the chunks that are to be sent for its

        open items, and the chunks for open items that stay here.
        """
        turn = Turn(
            work=work,
            settle=settle,
            parts=[Part(chunk=work.chunk)],
            splittable=not work.known.spec.terms.chunk_size,
        )
        self._turn = turn
        try:
            self._withdraw(turn)
            while turn.open():
                ended = self._attempt(turn, settle)
                if ended is Ended.DROPPED:
                    return
                if ended is Ended.DRAINED:
                    break
                self._withdraw(turn)
            for part in turn.parts:
                rest = [work.chunk.narrowed(span, deaths=work.chunk.deaths) for span in part.open()]
                part.seconds += time.monotonic() - turn.began if part is turn.parts[0] else 0.0
                settle(part, rest, [])
        finally:
            self._turn = None

    def _attempt(self, turn: Turn, settle: Settle) -> Ended:
        slot = self.slot = self.slot or Slot(self._number, self._scratch, self._guards)
        slot.board.begin()
        turn.number = next(_numbers)
        turn.ask, turn.killed, turn.watched, turn.withdraws = GO, None, (-1, 0.0), False
        terms, place = turn.work.known.spec.terms, turn.work.known.spec.place
        suspects = set(turn.crashes) | set(turn.timeouts)
        todo = turn.open()
        # items that ended a slot run last, each after the others are safe
        safe = [part for span in todo for part in without(span, spans_of(sorted(suspects)))]
        last = [Span(i, i + 1) for i in sorted(suspects) if any(span.lo <= i < span.hi for span in todo)]
        function, numbers = turn.work.function, turn.work.known.numbers
        order = {
            "spans": [*safe, *last],
            "function": function.key,
            "style": function.style,
            "bundle": function.bundle,
            "with_function": function.key not in slot.functions,
            "retries": terms.retries,
            "retry_delay_s": terms.retry_delay_s,
            "seed": terms.seed,
            "numbers": [] if numbers is None else [span for each in sorted(todo) for span in numbers.spans_of(each)],
            "folder": place.folder,
            "files": str(turn.work.files or ""),
            "argv": place.argv,
            "shared": turn.work.shared,
            "buffers": function.buffers,
        }
        slot.ooms = oom_kills()
        try:
            slot.pipe.send_bytes(json.dumps(order).encode())
            if order["with_function"]:
                slot.pipe.send_bytes(function.blob)
            slot.pipe.send_bytes(b"".join(turn.work.frames))
            slot.functions.add(function.key)
            while True:
                gone = slot.ended  # asked first: then all that it has said is there to be heard
                if self._held_up():  # the slot waits as well, once its socket is full
                    time.sleep(_TICK_S)
                    turn.watched = (slot.board.attempt, time.monotonic())
                elif (said := slot.ear.hear(_TICK_S)) is not None:
                    if self._hear(turn, slot, said):
                        return self._done(turn, slot, settle)
                elif gone:
                    return self._died(turn, slot)
                if (ended := self._watch(turn, slot, settle)) is not None:
                    return ended
        except (EOFError, OSError):
            return self._died(turn, slot)
        except (Refused, ValueError) as error:  # written into its socket by who knows whom
            turn.killed, turn.killed_why = FailureKind.LOST, f"its slot said what is no answer ({error!r:.200})"
            return self._died(turn, slot)

    def _hear(self, turn: Turn, slot: Slot, said: Said) -> bool:
        """Take in what the slot says; True when it is done. Raises `Refused` for what is not as we write it."""
        message = said.fields
        if message.given("ready"):
            slot.ready, slot.pid = True, message.whole("ready", least=1)
        elif message.given("values"):
            self._take(turn, message, said.blob)
        elif message.given("failure"):
            self._settle_large(turn)
            failure = message.fields("failure")
            exception = said.blob if message.flag("pickled") else None
            self._fail(turn, index=failure.whole("index"), exception=exception, **_told(failure))
        elif message.given("crowded"):
            slot.crowded = True
        elif message.given("forgot"):
            slot.functions.difference_update(map(str, message.many("forgot")))
        elif message.given("unfit"):
            fields = _told(message.fields("unfit"))
            for span in turn.open():
                for index in range(span.lo, span.hi):
                    self._fail(turn, index=index, **fields)
            slot.functions.discard(turn.work.function.key)
        else:
            message.number("done")
            return True
        return False

    def _take(self, turn: Turn, message: Fields, frame: bytes) -> None:
        """Values of consecutive items, and what items printed until then."""
        first, count = message.whole("first"), message.whole("values")
        for name, text in message.texts("logs").items():
            index = int(name) if name.isdecimal() and len(name) < 20 else -1
            if (owner := turn.part_of(index)) is not None:
                owner.log(index, text)
        if message.given("fresh"):
            fresh = [each if isinstance(each, list) else [each] for each in message.many("fresh")]
            told = [read_printed("what an item printed", [*each[:1], turn.number, *each[1:]]) for each in fresh]
            if turn.work.known.followed:
                self._tell(turn.work.run, [each for each in told if turn.part_of(each.item) is not None])
        self._settle_large(turn)  # what was answered before has its logs now
        if count and (part := turn.part_of(first)) is not None:
            if first + count > part.chunk.span.hi:
                raise Refused(f"values of the items {first} to {first + count - 1}, of {part.chunk.span}")
            Frame(frame, count)
            part.add(Batch(span=Span(first, first + count), frame=memoryview(frame)))

    def _done(self, turn: Turn, slot: Slot, settle: Settle) -> Ended:
        if turn.ask == DRAIN:
            return Ended.DRAINED
        if slot.crowded:
            slot.dismiss()
            slot.close_soon()
            self.slot = None
            return Ended.CROWDED
        self._deadly.pop(turn.work.function.key, None)
        if turn.ask == NO_NEW and turn.splittable and turn.open():
            self._split(turn, settle)
        return Ended.DONE

    def _watch(self, turn: Turn, slot: Slot, settle: Settle) -> Ended | None:
        """Look after a slot that is at work."""
        now = time.monotonic()
        if slot.board.cut:
            return self._kill(turn, slot, FailureKind.LOST, _CUT)
        if slot.board.attempt != turn.watched[0]:
            turn.watched = (slot.board.attempt, now)
        if turn.first_at is None and slot.board.reached >= 0:
            turn.first_at = now
        items_s = 0.0 if turn.first_at is None else now - turn.first_at
        slot.board.follow(turn.work.known.followed)
        limit = turn.work.known.spec.terms.timeout_s
        if limit is not None and (current := slot.board.current) != -1 and now - turn.watched[1] > limit:
            who = "the initializer " if current == SETTING_UP else ""
            return self._kill(turn, slot, FailureKind.TIMEOUT, f"{who}ran longer than {limit:g} s and was stopped")
        if why := self._too_big(slot):
            return self._kill(turn, slot, FailureKind.OOM, why)
        if turn.work.known.over:
            slot.close()
            self.slot = None
            return Ended.DROPPED
        if self._draining():
            if turn.ask != DRAIN:
                turn.ask = DRAIN
                slot.board.ask(DRAIN)
                turn.asked_at = now
            elif now - turn.asked_at > _DRAIN_S:
                slot.close()
                self.slot = None
                return Ended.DRAINED
        elif turn.ask == GO and self._withdrawable(turn, slot):
            turn.ask, turn.withdraws = NO_NEW, True
            slot.board.ask(NO_NEW)
            turn.asked_at = now
        elif turn.withdraws:
            if now - turn.asked_at > 2 * _TICK_S:
                turn.withdraws = False
                self._withdraw(turn, slot.board.reached)
        elif turn.splittable and turn.ask == GO and items_s > self._chunk_s and self._unstarted(turn, slot):
            turn.ask = NO_NEW
            slot.board.ask(NO_NEW)
            turn.asked_at = now
        elif turn.ask == NO_NEW and turn.splittable and now - turn.asked_at > 2 * _TICK_S:
            self._split(turn, settle, reached=slot.board.reached)
        return None

    def _withdrawable(self, turn: Turn, slot: Slot) -> bool:
        """Whether items are withdrawn that the slot has not begun, and would."""
        return not (turn.crashes or turn.timeouts) and bool(_withdrawn(turn, slot.board.reached))

    def _withdraw(self, turn: Turn, reached: int = -1) -> None:
        """Answer what is withdrawn and has not begun; with `reached`, the slot begins nothing beyond that."""
        for failure in WITHDRAWN.of_all(_withdrawn(turn, reached), worker=self._worker):
            part = turn.part_of(failure.index)
            assert part is not None
            part.fail(failure)
        if reached >= 0:
            self._settle_parts(turn, [part for part in turn.parts if part.failures])

    def _unstarted(self, turn: Turn, slot: Slot) -> bool:
        return not turn.crashes and not turn.timeouts and slot.board.reached + 1 < turn.work.chunk.span.hi

    def _split(self, turn: Turn, settle: Settle, reached: int | None = None) -> None:
        """Settle what is answered; items that were not started go back to the queue; ours to run stay as new parts.

        With `reached` the slot is still busy with an item; without, it has stopped.
        """
        (part,) = turn.parts
        reached = self._reached(part) if reached is None else min(reached, part.chunk.span.hi - 1)
        mine = [span for span in (Span(s.lo, min(s.hi, reached + 1)) for s in part.open()) if span.size > 0]
        far = without(Span(max(reached + 1, part.chunk.span.lo), part.chunk.span.hi), ())
        now = time.monotonic()
        ran = max(reached + 1 - part.chunk.span.lo + turn.settled, 1)
        each_s = (now - (turn.first_at or turn.began)) / ran
        fits = max(int(self._chunk_s / max(each_s, 1e-9)), 1)
        given = [
            piece
            for span in far
            if span.size > 0
            for piece in pieces(part.chunk, span, size=max(fits, -(-span.size // _MOST_PIECES)), deaths=0)
        ]
        part.seconds = now - turn.began
        kept = [part.chunk.narrowed(span, deaths=part.chunk.deaths) for span in mine]
        settle(part, given, kept)
        turn.parts = [Part(chunk=chunk) for chunk in kept]
        turn.began, turn.splittable = time.monotonic(), False

    def _settle_large(self, turn: Turn) -> None:
        """Settle what is answered where that is much; the slot goes on with the others, as parts of their own."""
        self._settle_parts(turn, [part for part in turn.parts if part.nbytes >= self._part_bytes])

    @staticmethod
    def _settle_parts(turn: Turn, parts: list[Part]) -> None:
        """Settle what is answered of these; the slot goes on with the others, as parts of their own."""
        for part in parts:
            left = part.open()
            if not left or len(left) > _MOST_PARTS:
                continue
            now = time.monotonic()
            part.seconds, turn.began = now - turn.began, now
            turn.settled += left[0].lo - part.chunk.span.lo
            kept = [part.chunk.narrowed(span, deaths=part.chunk.deaths) for span in left]
            turn.settle(part, [], kept)
            turn.parts = [other for other in turn.parts if other is not part] + [Part(chunk=chunk) for chunk in kept]
            turn.splittable = turn.splittable and len(turn.parts) == 1

    @staticmethod
    def _reached(part: Part) -> int:
        open_spans = part.open()
        return open_spans[0].lo - 1 if open_spans else part.chunk.span.hi - 1

    def _kill(self, turn: Turn, slot: Slot, kind: FailureKind, why: str) -> Ended:
        turn.killed, turn.killed_why = kind, why
        slot.end()
        with suppress(EOFError, OSError, Refused, ValueError):
            while (said := slot.ear.hear(0.0)) is not None:  # what it had sent before counts
                self._hear(turn, slot, said)
        return self._died(turn, slot)

    def _died(self, turn: Turn, slot: Slot) -> Ended:
        current, ready = slot.board.current, slot.ready
        code = slot.close()
        if slot.board.cut and turn.killed is None:  # it ended by that before we saw it
            turn.killed, turn.killed_why = FailureKind.LOST, _CUT
        self.slot = None
        turn.splittable = False
        if self._draining():
            return Ended.DRAINED
        if not ready:
            turn.false_starts += 1
            if turn.false_starts >= _FALSE_STARTS:
                for index in (index for span in turn.open() for index in range(span.lo, span.hi)):
                    message = f"the slot process cannot start: exit code {code}; the worker's log says why"
                    self._fail(turn, index=index, kind="lost", error="WorkerLost", message=message)
            return Ended.DIED
        if current < 0 and slot.board.reached < 0 and not slot.board.cut:
            return self._died_loading(turn, slot, code)
        where = turn.part_of(current)
        if current < 0 or where is None or not any(s.lo <= current < s.hi for s in where.open()):
            current = turn.open()[0].lo if turn.open() else -1
            if current < 0:
                return Ended.DIED
        if turn.killed is FailureKind.TIMEOUT:
            turn.timeouts[current] = turn.timeouts.get(current, 0) + 1
            tries = turn.work.known.spec.terms.retries if turn.work.function.retry_timeouts else 0
            if turn.timeouts[current] > tries:
                self._fail(turn, index=current, kind="timeout", error="ItemTimeout", message=turn.killed_why)
            return Ended.DIED
        turn.crashes[current] = turn.crashes.get(current, 0) + 1
        if turn.crashes[current] >= _CRASHES:
            loading = "while the item was unpickled" if slot.board.steps % 2 else ""
            self._fail(turn, index=current, **self._how_died(turn, slot, code, loading=loading))
        return Ended.DIED

    def _died_loading(self, turn: Turn, slot: Slot, code: int) -> Ended:
        """Before its first item: what the function imports or holds has ended it, so none of its items can run."""
        function = turn.work.function.key
        self._deadly[function] = self._deadly.get(function, 0) + 1
        timeout = turn.killed is FailureKind.TIMEOUT
        if timeout or self._deadly[function] >= _CRASHES:
            what = "the initializer ran" if slot.board.current == SETTING_UP else "the function was loaded"
            fields = self._how_died(turn, slot, code, loading=f"while {what}, with what it imports")
            if timeout:
                fields = {"kind": "timeout", "error": "ItemTimeout", "message": turn.killed_why}
            for index in (index for span in turn.open() for index in range(span.lo, span.hi)):
                self._fail(turn, index=index, **fields)
        return Ended.DIED

    @staticmethod
    def _how_died(turn: Turn, slot: Slot, code: int, *, loading: str) -> dict[str, str]:
        """A failure's fields for a slot that has died so often."""
        if turn.killed is FailureKind.OOM:
            return {"kind": "oom", "error": "OutOfMemory", "message": turn.killed_why}
        if code == -9 and oom_kills() > slot.ooms:
            why = "killed by the kernel for memory: give more memory, or fewer slots"
            return {"kind": "oom", "error": "OutOfMemory", "message": why}
        how = f"its process {f'was killed by signal {-code}' if code < 0 else f'exited with code {code}'}"
        if turn.killed is FailureKind.LOST:
            how, loading = turn.killed_why, ""
        if loading:
            return {"kind": "import", "error": "EnvironmentMismatch", "message": f"{how} {loading}, {_CRASHES} times"}
        return {"kind": "lost", "error": "WorkerLost", "message": f"{how}, {_CRASHES} times"}

    def _fail(self, turn: Turn, *, index: int, kind: str, error: str, message: str, **more: Any) -> None:
        part = turn.part_of(index)
        if part is not None:
            part.fail(
                Failure(index=index, kind=FailureKind(kind), error=error, message=message, worker=self._worker, **more)
            )


def _withdrawn(turn: Turn, reached: int) -> list[Span]:
    """Items without an answer behind one that are not to begin any more."""
    return [
        Span(max(span.lo, gone.lo, reached + 1), min(span.hi, gone.hi))
        for gone in turn.work.known.withdrawn
        for span in turn.open()
        if max(span.lo, gone.lo, reached + 1) < min(span.hi, gone.hi)
    ]


def _told(failure: Fields) -> dict[str, str]:
    """A failure's fields as a slot tells them. Raises `Refused`."""
    if failure.text("kind") not in [*FailureKind]:
        raise Refused(f"a failure of kind {failure.text('kind')!r:.40}")
    return {name: failure.text(name) for name in ("kind", "error", "message", "traceback")}

"""A chunk in a slot's hands: what the slot says is taken in, and what it does is watched, until it is done or gone."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from enum import StrEnum

from starburst_common.data.results import Results
from starburst_common.errors import Refused
from starburst_common.model import Batch, FailureKind, Span
from starburst_common.runs.failures import Reason
from starburst_common.runs.outcomes import read_printed
from starburst_common.wire.fields import Fields
from starburst_common.wire.items import read_frame
from starburst_worker.board import DRAIN, GO, NO_NEW, SETTING_UP
from starburst_worker.checkpoints import NONE
from starburst_worker.deaths import CRASHES, CUT, Death
from starburst_worker.order import Order
from starburst_worker.said import Said
from starburst_worker.seat import Seat
from starburst_worker.serving import Serving
from starburst_worker.ties import Ties

TICK_S = 0.05  #: between two looks at a slot that says nothing
_DRAIN_S = 0.25  #: what a running item may still take when the worker must go
_SAVE_S = 90.0  #: the same of one that saves what it has done; of 120 s that Spot and ECS give, the rest is ours
_FALSE_STARTS = 3  #: a slot that ends before it is ready, so often, will never be


class Ended(StrEnum):
    """How a slot's attempt at a chunk ended."""

    DONE = "done"  #: it answered all it was asked and allowed to
    DIED = "died"  #: its process is gone
    DRAINED = "drained"  #: the worker must go, or its run stops
    DROPPED = "dropped"  #: nobody wants the answers any more
    CROWDED = "crowded"  #: it has loaded other versions of the user's modules


class Attempt:
    """Of one slot, at what is open of a chunk; `number` is another one for each of a worker, and grows.

    `deadly` counts how many slots in a row each function has ended as it was loaded.
    """

    def __init__(self, serving: Serving, seat: Seat, ties: Ties, deadly: Counter[str], number: int) -> None:
        self._serving, self._seat, self._ties = serving, seat, ties
        self._deadly, self._number = deadly, number
        self._asked, self._asked_at = GO, 0.0
        self._withdraws = False  # that was asked for the sake of items that are withdrawn
        self._watched = (-1, 0.0)  # the try at an item that is under way, and since when
        self._saves = self._saved_last = False  # its items do, what they have done; since the worker must go
        self._killed: Reason | None = None  # why we ended the slot, if we did

    def run(self) -> Ended:
        """Have the slot run it, to its end."""
        seat, serving = self._seat, self._serving
        seat.board.begin()
        try:
            seat.ask(self._order(), serving.work.function.stored.blob, serving.work.frames)
            while True:
                gone = seat.ended  # asked first: then all that it has said is there to be heard
                if self._ties.held_up():  # the slot waits as well, once its socket is full
                    time.sleep(TICK_S)
                    self._watched = (seat.board.tries, time.monotonic())
                elif (said := seat.ear.hear(TICK_S)) is not None:
                    if self.hear(said):
                        return self._done()
                elif gone:
                    return self._died()
                if (ended := self._watch()) is not None:
                    return ended
        except (EOFError, OSError):
            return self._died()
        except (Refused, ValueError) as error:  # written into its socket by who knows whom
            self._killed = Reason.ours(FailureKind.LOST, f"its slot said what is no answer ({error!r:.200})")
            return self._died()

    def _order(self) -> Order:
        work = self._serving.work
        function, numbers = work.function, work.known.numbers
        terms, place = work.known.spec.terms, work.known.spec.place
        todo = sorted(self._serving.open())
        return Order(
            spans=self._serving.in_turn(),
            function=function.key,
            with_function=function.key not in self._seat.functions,
            style=function.stored.style,
            bundle=function.modules,
            buffers=function.stored.buffers,
            lies=work.lies,
            shared=work.shared,
            retries=terms.retries,
            retry_delay_s=terms.retry_delay_s,
            seed=terms.seed,
            batch=terms.batch,
            results_to=Results(terms.results_to, work.run).files if terms.results_to else "",
            results_s=self._ties.pace.chunk_s,
            numbers=[] if numbers is None else [span for each in todo for span in numbers.spans_of(each)],
            folder=place.folder,
            files=str(work.files or ""),
            argv=place.argv,
        )

    # --- what it says -------------------------------------------------------------------------------------------------

    def hear(self, said: Said) -> bool:
        """Take in what the slot says; True when it is done. Raises `Refused` for what is not as we write it."""
        seat, message = self._seat, said.fields
        if message.given("ready"):
            seat.ready, seat.pid = True, message.whole("ready", least=1)
        elif message.given("values"):
            self._take(message, said.blob)
            return message.given("done") and message.number("done") >= 0  # these are the last
        elif message.given("failure"):
            self._serving.settle_large()
            failure = message.fields("failure")
            exception = bytes(said.blob) if message.flag("pickled") else None
            self._serving.fail(failure.whole("index"), _told(failure), exception)
        elif message.given("crowded"):
            seat.crowded = True
        elif message.given("forgot"):
            seat.functions.difference_update(map(str, message.many("forgot")))
        elif message.given("load"):
            self._save(message.whole("load"), None)
        elif message.given("save"):
            self._save(message.whole("save"), bytes(said.blob))
        elif message.given("unfit"):
            self._serving.fail_open(_told(message.fields("unfit")))
            seat.functions.discard(self._serving.work.function.key)
        else:
            message.number("done")
            return True
        return False

    def _take(self, message: Fields, frame: memoryview) -> None:
        """Values of consecutive items, and what items printed until then."""
        serving = self._serving
        first, count = message.whole("first"), message.whole("values")
        serving.log_bytes += message.whole("logged")
        for name, text in message.texts("logs").items():
            index = int(name) if name.isdecimal() and len(name) < 20 else -1
            if (owner := serving.part_of(index)) is not None:
                owner.log(index, text)
        if message.given("fresh"):
            self._tell(message)
        serving.settle_large()  # what was answered before has its logs now
        if count and (part := serving.part_of(first)) is not None:
            if first + count > part.chunk.span.hi:
                raise Refused(f"values of the items {first} to {first + count - 1}, of {part.chunk.span}")
            read_frame(frame, count)
            part.add(Batch(span=Span(first, first + count), frame=frame))

    def _tell(self, message: Fields) -> None:
        """What items print, to who follows."""
        work = self._serving.work
        fresh = [each if isinstance(each, list) else [each] for each in message.many("fresh")]
        told = [read_printed("what an item printed", [*each[:1], self._number, *each[1:]]) for each in fresh]
        if work.known.followed:
            self._ties.tell(work.run, [each for each in told if self._serving.part_of(each.item) is not None])

    def _save(self, index: int, state: bytes | None) -> None:
        """An item saves what it has done, or goes on from there; it waits for the answer, for good where it must go."""
        if self._serving.part_of(index) is None:
            raise Refused(f"a checkpoint of item {index}, which is not of its chunk")
        self._saves = True
        answer = self._ties.saved.answer(self._serving.work.run, index, state)
        self._saved_last = self._asked == DRAIN and state is not None and answer == NONE
        if not self._saved_last:
            self._seat.answer(answer)

    # --- what it does -------------------------------------------------------------------------------------------------

    def _watch(self) -> Ended | None:
        """Look after a slot that is at work."""
        serving, board, now = self._serving, self._seat.board, time.monotonic()
        known = serving.work.known
        if board.cut:
            return self._kill(CUT)
        if board.tries != self._watched[0]:
            self._watched = (board.tries, now)
        if serving.first_at is None and board.reached >= 0:
            serving.first_at = now
        elif serving.first_at is not None:
            known.item_s = (now - serving.first_at) / max(board.reached + 1 - serving.work.chunk.span.lo, 1)
        board.follow(known.followed)
        if (why := self._excess(now)) is not None:
            return self._kill(why)
        if known.over:
            self._seat.close()
            return Ended.DROPPED
        if not self._leaving():
            self._share(now)
        elif self._asked != DRAIN:
            self._ask(DRAIN, now)
        elif self._saved_last or now - self._asked_at > (_SAVE_S if self._saves else _DRAIN_S):
            self._seat.close()
            return Ended.DRAINED
        return None

    def _leaving(self) -> bool:
        """Whether what is answered is to be settled, and the rest given back."""
        return self._ties.draining() or self._serving.work.known.lost

    def _excess(self, now: float) -> Reason | None:
        """Why it must end: an item, or what is called before, takes too much time or memory."""
        limit = self._serving.work.known.spec.terms.timeout_s
        if limit is not None and (current := self._seat.board.current) != -1 and now - self._watched[1] > limit:
            who = "the initializer " if current == SETTING_UP else ""
            return Reason.ours(FailureKind.TIMEOUT, f"{who}ran longer than {limit:g} s and was stopped")
        why = self._ties.too_big(self._seat)
        return Reason.ours(FailureKind.OOM, why) if why else None

    def _share(self, now: float) -> None:
        """Have it begin nothing that is withdrawn, nor, after a while, what others may run; then see how far it is."""
        serving, board = self._serving, self._seat.board
        fresh = not (serving.crashes or serving.timeouts)
        if self._asked == GO and fresh and serving.withdrawn(board.reached):
            self._withdraws = True
            self._ask(NO_NEW, now)
        elif self._withdraws:
            if now - self._asked_at > 2 * TICK_S:
                self._withdraws = False
                serving.withdraw(board.reached)
        elif serving.splittable and self._asked == GO:
            if fresh and serving.is_long(now, board.reached):
                self._ask(NO_NEW, now)
        elif serving.splittable and self._asked == NO_NEW and now - self._asked_at > 2 * TICK_S:
            serving.split(board.reached)

    def _ask(self, what: int, now: float) -> None:
        self._asked, self._asked_at = what, now
        self._seat.board.ask(what)

    # --- how it ends --------------------------------------------------------------------------------------------------

    def _done(self) -> Ended:
        seat, serving = self._seat, self._serving
        serving.memory_mib = seat.peak_mib
        if self._asked == DRAIN:
            return Ended.DRAINED
        if seat.crowded:
            seat.dismiss()
            seat.close_soon()
            return Ended.CROWDED
        self._deadly.pop(serving.work.function.key, None)
        if self._asked == NO_NEW and serving.splittable and serving.open():
            serving.split()
        return Ended.DONE

    def _kill(self, why: Reason) -> Ended:
        self._killed = why
        self._seat.end()
        with suppress(EOFError, OSError, Refused, ValueError):
            while (said := self._seat.ear.hear(0.0)) is not None:  # what it had sent before counts
                self.hear(said)
        return self._died()

    def _died(self) -> Ended:
        """Whoever is to blame for it, item or function, fails at last."""
        serving, seat = self._serving, self._seat
        current, code = seat.board.current, seat.close()
        if seat.board.cut and self._killed is None:  # it ended by that before we saw it
            self._killed = CUT
        serving.splittable = False
        if self._leaving():
            return Ended.DRAINED
        death = Death(
            code=code,
            ended=self._killed,
            out_of_memory=code == -9 and seat.out_of_memory,
            ready=seat.ready,
            current=current,
            last=seat.board.last,
            reached=seat.board.reached,
            steps=seat.board.steps,
        )
        if not death.ready:
            serving.false_starts += 1
            if serving.false_starts >= _FALSE_STARTS:
                serving.fail_open(death.why)
        elif death.before_items:
            function = serving.work.function.key
            self._deadly[function] += 1
            if death.timed_out or self._deadly[function] >= CRASHES:
                serving.fail_open(death.why)
        else:
            serving.blame(death)
        return Ended.DIED


def _told(failure: Fields) -> Reason:
    """Why an item fails, as a slot tells it. Raises `Refused`."""
    if (kind := failure.text("kind")) not in [*FailureKind]:
        raise Refused(f"a failure of kind {kind!r:.40}")
    return Reason(FailureKind(kind), *(failure.text(name) for name in ("error", "message", "traceback")))

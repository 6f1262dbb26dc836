"""Calls that wait in; chunks of a run's items out, a little ahead of the workers."""

from __future__ import annotations

from starburst_common.errors import BadInput, RunCancelled, RunStopped
from starburst_common.futures.functions import Functions
from starburst_common.futures.owed import Owed, WaitingCall
from starburst_common.futures.withdraw import Withdrawal
from starburst_common.runs.drive import Driver
from starburst_common.runs.feed import Feed

_AHEAD_CHUNKS = 3  #: chunks a slot sent ahead; calls beyond wait, and can be cancelled
_MOST_CALLS = 256  #: calls in a chunk
_CHUNKS_AT_ONCE = 10  #: that are sent together: as many messages as a queue takes in a batch
_WORTH = 1 / 40  #: of the work a chunk should hold: less costs more to send than it spreads over slots


class Sender:
    """One executor's: sends what waits, and has withdrawn what nobody wants any more. For a thread of its own."""

    def __init__(
        self, owed: Owed, functions: Functions, feed: Feed, driver: Driver, *, slots: int, chunk_size: int | None
    ) -> None:
        self._owed, self._functions, self._feed, self._driver = owed, functions, feed, driver
        self._slots, self._chunk_size = slots, chunk_size
        self._books = driver.books
        self._withdrawal = Withdrawal(owed, driver, self._waits)

    def send(self) -> None:
        """Until no more calls come, or nobody takes any; what is unwanted, until all are answered."""
        books, self._feed.waits = self._books, self._waits
        try:
            while self._await_calls() and not self._in_vain():
                if room := self._await_room():
                    self._send_some(min(room, _CHUNKS_AT_ONCE))
            if not self._in_vain():
                self._feed.end()
                books.input_ended(self._feed.fed)
        except (RunCancelled, RunStopped):
            books.over_elsewhere()
        except BaseException as error:
            books.input_failed(error)
        self._feed.stop(books.input_lost)
        self._functions.forget(after_s=0.0)
        while self._await_unwanted():
            self._withdrawal.tell()

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _await_calls(self) -> bool:
        """Wait for calls; False where no more come, or it is broken. Meanwhile say what is unwanted, and forget."""
        owed = self._owed
        while True:
            self._withdrawal.tell()
            self._functions.forget()
            with owed.moved:
                moved = owed.moved.wait_for(
                    lambda: owed.waiting or owed.shut or owed.broken or owed.unwanted, self._functions.look_after_s
                )
                if owed.broken or (moved and not owed.unwanted):
                    return bool(owed.waiting) and not owed.broken

    def _await_room(self) -> int:
        """Wait for room; how many chunks may be sent: none where something else is to be seen to."""
        with self._books.changed:
            self._books.changed.wait_for(
                lambda: self._room > 0 or self._in_vain() or self._owed.unwanted, self._functions.look_after_s
            )
            return 0 if self._in_vain() or self._owed.unwanted else max(self._room, 0)

    def _await_unwanted(self) -> bool:
        """Wait for calls that nobody wants any more; False once all are answered."""
        owed = self._owed
        with owed.moved:
            owed.moved.wait_for(lambda: owed.unwanted or owed.over)
            return not owed.over

    @property
    def _room(self) -> int:
        """How many chunks may be sent ahead of those that are owed."""
        return _AHEAD_CHUNKS * self._slots + 2 - len(self._books.tally.owed)

    def _in_vain(self) -> bool:
        """Whether nobody takes more calls."""
        return bool(self._owed.broken) or self._books.state.over or self._books.closed

    def _waits(self, error: OSError | None) -> None:
        """An outage is waited for as long as there is somebody to send to."""
        if error is not None and self._owed.broken:
            raise RunStopped(self._owed.broken)
        self._books.input_waits(error)

    # --- sending ------------------------------------------------------------------------------------------------------

    def _send_some(self, chunks: int) -> None:
        """Send calls that wait, in so many chunks at most, which cost one write and one batch of messages."""
        for _ in range(chunks):
            count = self._calls_together()
            taken = self._owed.take(min(count, self._chunk_size or count))
            try:
                while taken:
                    call = taken.popleft()
                    if call.future.begins():
                        self._send_one(call)
            finally:
                self._owed.give_back(taken)  # what cannot be sent any more is told so with all that wait
            self._feed.close_chunk()
        self._feed.flush()

    def _calls_together(self) -> int:
        tally = self._books.tally
        return calls_together(
            len(self._owed.waiting),
            slots=self._slots,
            answered=tally.answered,
            slot_seconds=tally.slot_seconds,
            worth_s=self._driver.backend.pace.chunk_s * _WORTH,
        )

    def _send_one(self, call: WaitingCall) -> None:
        """A call that cannot be sent is its future's failure; that nothing can be sent is the run's."""
        function, index = call.function, self._feed.fed
        try:
            packed = self._functions.to_store(function, call.arguments)
        except BaseException as error:  # pickling calls the user's own code, which may well raise SystemExit
            call.future.fail(error)
            return
        self._owed.sent[index] = call.future
        if packed is not None:
            function.key, function.packed = self._feed.function(packed), None
        try:
            self._feed.add(function.key, call.arguments)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, BadInput):
                raise
            del self._owed.sent[index]
            call.future.fail(error)


def calls_together(waiting: int, *, slots: int, answered: int, slot_seconds: float, worth_s: float) -> int:
    """How many of the calls that wait go in one chunk: a fair share, or as many as are worth a message.

    How long a call takes is guessed from those that were answered. Before there are any each goes alone: the answers of
    a chunk come together, and nobody knows how soon.

    >>> calls_together(100, slots=2, answered=0, slot_seconds=0.0, worth_s=0.05)
    1
    >>> calls_together(100, slots=2, answered=10, slot_seconds=0.02, worth_s=0.05)
    25
    >>> calls_together(100, slots=2, answered=10, slot_seconds=20.0, worth_s=0.05)
    13
    """
    if not answered:
        return 1
    share = -(-waiting // (4 * slots))
    worth = int(worth_s * answered / slot_seconds) if slot_seconds > 0 else 0
    return min(max(share, worth, 1), _MOST_CALLS)

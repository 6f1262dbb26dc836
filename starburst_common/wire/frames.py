"""Many values, each pickled by itself at once, but numbers and short texts together; large buffers out of band."""

from __future__ import annotations

import pickle
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from starburst_common.model import Buffer
from starburst_common.pickling.bound import SIGN
from starburst_common.pickling.nowhere import SENT, names_sent
from starburst_common.wire.documents import document, read_document
from starburst_common.wire.fields import malformed

NUMBERS = frozenset({int, float, complex, bool, type(None)})
_TEXTS = frozenset({str, bytes})
_TOGETHER = 256  #: so many values that nobody can alter, numbers and short texts, are one pickle
_SHORT = 1024  #: a text's length at most, that it is pickled with others
_COPIED_BYTES = 1 << 20
_CHECKED_BYTES = 16 << 20  #: of a pickle, at most: a larger one would be held twice
#: a byte, as which it is found soonest: is in a pickle that names what is to be imported, and in others by chance
_REFERS = pickle.STACK_GLOBAL[0]


class Unreadable(Exception):
    """What was pickled does not unpickle; from the exception that says why."""


class FrameWriter:
    """Collects values, each pickled by itself at once: one that cannot be sent, or changes later, harms no other.

    Consecutive ones that nobody can alter, and that refer to nothing, are pickled together, a little later.
    With `checked` each is unpickled as well, but plain data and large ones: one that nobody could read harms no other.
    `look` is shown each pickle that refers to classes or functions, with the modules that code in it imports, before
    the value is taken; what it raises, `add` raises. It tells whether the value is to be pickled anew, since it was
    found that what it refers to goes by value.
    """

    def __init__(self, *, checked: bool = False, look: Callable[[bytes, set[str]], bool] | None = None) -> None:
        self._checked, self._look = checked, look
        self._plain: list[Any] = []  # that are to be pickled together
        self._pickles: list[bytes] = []
        self._together = array("Q")  # how many values each pickle has, from the first one on that has several
        self._counts = array("Q")  # of buffers, from the first pickle on that has one
        self._buffers: list[Buffer] = []
        self._pickled = 0  # values
        self.nbytes = 0  #: without those to come together

    def __len__(self) -> int:
        return self._pickled + len(self._plain)

    def add(self, value: Any) -> None:
        """Pickle a value; its large buffers (numpy, pandas, Arrow) stay out of band. Raises what pickling raises.

        Raises `Unreadable` from what unpickling raises. What plain pickle cannot send, or would send as a name in
        `__main__`, goes by value through cloudpickle, which also refuses what is bound to this process.
        """
        kind = type(value)
        if kind in NUMBERS or (kind in _TEXTS and len(value) <= _SHORT):
            self._plain.append(value)
            if len(self._plain) >= _TOGETHER:
                self._pickle_plain()
            return None
        if kind in _TEXTS:
            return self.add_pickled(pickle.dumps(value, 5), ())
        buffers: list[pickle.PickleBuffer] = []
        imports: set[str] | None = None
        try:
            data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        except Exception:
            data = b"__main__"
        if b"_main__" in data or (_REFERS in data and (SIGN in data or (SENT and names_sent(data)))):
            from starburst_common.pickling import byvalue

            buffers.clear()
            imports = set()
            data = byvalue.dumps(value, buffer_callback=buffers.append, imports=imports)
        # whoever made the value may fill the same memory with the next one
        copies = [buffer.raw().tobytes() for buffer in buffers]
        if _REFERS in data:
            if self._look is not None and self._look(data, imports or set()):
                return self.add(value)
            if self._checked and len(data) <= _CHECKED_BYTES:
                try:
                    pickle.loads(data, buffers=buffers)
                except BaseException as error:
                    raise Unreadable(type(error).__name__) from error
        return self.add_pickled(data, copies)

    def add_numbers(self, values: Sequence[Any]) -> None:
        """Take values that are all `NUMBERS`."""
        self._plain += values
        if len(self._plain) >= _TOGETHER:
            self._pickle_plain()

    def _pickle_plain(self) -> None:
        for at in range(0, len(self._plain), _TOGETHER):
            some = self._plain[at : at + _TOGETHER]
            if len(some) > 1:
                self._together.extend([1] * (len(self._pickles) - len(self._together)))
                self._together.append(len(some))
            self._put(pickle.dumps(some if len(some) > 1 else some[0], 5), len(some))
        self._plain = []

    def add_pickled(self, data: bytes, copies: Sequence[Buffer]) -> None:
        """Take a value that is pickled already, as `Frame.pickled` gives it."""
        if self._plain:
            self._pickle_plain()
        if copies:
            self._counts.extend([0] * (len(self._pickles) - len(self._counts)))
            self._counts.append(len(copies))
            self._buffers += copies
            self.nbytes += sum(map(len, copies))
        self._put(data, 1)

    def _put(self, data: bytes, values: int) -> None:
        self._pickles.append(data)
        self._pickled += values
        self.nbytes += len(data)

    def parts(self) -> list[Buffer]:
        """The frame, as parts to be joined or sealed."""
        self._pickle_plain()
        for marks, nothing in (self._together, 1), (self._counts, 0):
            if marks:
                marks.extend([nothing] * (len(self._pickles) - len(marks)))
        sizes = array("Q", map(len, self._pickles))
        marked = [sizes.tobytes(), self._together.tobytes(), self._counts.tobytes()]
        return document({}, [*marked, b"".join(self._pickles), *self._buffers])


class Frame:
    """The values of a frame, unpickled when asked for.

    Arrays are writable: they lie in a copy made then, or in the frame's own bytes where these are writable. So of such
    a frame each value is asked for once.
    """

    def __init__(self, body: Buffer, count: int | None = None) -> None:
        """Raises `Refused`, also where it does not hold as many values as it should."""
        _, blobs = read_document(body, "a frame")
        if len(blobs) < 4 or len(blobs[0]) % 8 or any(len(each) not in (0, len(blobs[0])) for each in blobs[1:3]):
            raise malformed("a frame", "its sizes are not there")
        sizes, together, counts, stream, *self._buffers = blobs
        self.stream: Buffer = stream  #: its pickles
        if len(stream) <= _COPIED_BYTES:  # cuts of bytes are had sooner than of views
            self.stream = bytes(stream)
        self._ends = _ends(sizes)  # of the pickles
        self._marks = _ends(counts) if len(counts) else None
        self._firsts = _ends(together) if len(together) else None  # the values that pickles begin with
        self._near: tuple[int, int, list[Any]] = (0, 0, [])  # values that were unpickled together: from, to
        if self._ends[-1] != len(self.stream) or (self._marks or [0])[-1] != len(self._buffers):
            raise malformed("a frame", "its sizes are not those of what it holds")
        if count is not None and count != len(self):
            raise malformed("a frame", f"it holds {len(self)} values, not {count}")

    def __len__(self) -> int:
        return len(self._ends) - 1 if self._firsts is None else self._firsts[-1]

    def after(self, first: int) -> Iterator[list[Any]]:
        """Its values from there on, those that are unpickled together as one list; over at one that cannot be."""
        while first < len(self):
            found, at = self.near(first)
            yield found[at:] if at else found
            first += len(found) - at

    def __getitem__(self, at: int) -> Any:
        found, place = self.near(at)
        return found[place]

    def near(self, at: int) -> tuple[list[Any], int]:
        """A value with those that are unpickled with it, and where among them it is."""
        lo, hi, found = self._near
        if lo <= at < hi:
            return found, at - lo
        if not 0 <= at < len(self):
            raise IndexError(at)
        if self._firsts is None:
            return [self._one(at)], 0
        pickle_at = bisect_right(self._firsts, at) - 1
        lo, hi = self._firsts[pickle_at : pickle_at + 2]
        if hi - lo == 1:
            return [self._one(pickle_at)], 0
        found = pickle.loads(self.stream[self._ends[pickle_at] : self._ends[pickle_at + 1]])
        if type(found) is not list or len(found) != hi - lo:
            raise malformed("a frame", f"{hi - lo} values that were pickled together are not there")
        self._near = lo, hi, found
        return found, at - lo

    def _one(self, pickle_at: int) -> Any:
        data, buffers = self._raw(pickle_at)
        return pickle.loads(data, buffers=[bytearray(each) if each.readonly else each for each in buffers])

    def _raw(self, pickle_at: int) -> tuple[Buffer, list[memoryview]]:
        buffers = [] if self._marks is None else self._buffers[self._marks[pickle_at] : self._marks[pickle_at + 1]]
        return self.stream[self._ends[pickle_at] : self._ends[pickle_at + 1]], buffers

    def pickled(self, at: int) -> tuple[bytes, list[bytes]]:
        """A value still pickled, and its buffers."""
        if self._firsts is not None:
            pickle_at = bisect_right(self._firsts, at) - 1
            if self._firsts[pickle_at + 1] - self._firsts[pickle_at] > 1:
                return pickle.dumps(self[at], 5), []
            at = pickle_at
        data, buffers = self._raw(at)
        return bytes(data), [bytes(buffer) for buffer in buffers]


def _ends(sizes: Buffer) -> list[int]:
    """Where each of so many ends, after 0."""
    return list(accumulate(array("Q", bytes(sizes)), initial=0))

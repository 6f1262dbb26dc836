"""Many values, each pickled by itself at once, with their large buffers out of band; unpickled one by one."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any

from starburst_common.model import Buffer
from starburst_common.pickling.bound import SIGN
from starburst_common.pickling.nowhere import SENT, names_sent
from starburst_common.wire.documents import document, read_document
from starburst_common.wire.fields import malformed

NUMBERS = frozenset({int, float, complex, bool, type(None)})
_PLAIN = NUMBERS | {str, bytes}  #: refer to nothing
_COPIED_BYTES = 1 << 20
_CHECKED_BYTES = 16 << 20  #: of a pickle, at most: a larger one would be held twice
#: a byte, as which it is found soonest: is in a pickle that names what is to be imported, and in others by chance
_REFERS = pickle.STACK_GLOBAL[0]


class Unreadable(Exception):
    """What was pickled does not unpickle; from the exception that says why."""


class FrameWriter:
    """Collects values, each pickled by itself at once: one that cannot be sent, or changes later, harms no other.

    With `checked` each is unpickled as well, but plain data and large ones: one that nobody could read harms no other.
    `look` is shown each pickle that refers to classes or functions, with the modules that code in it imports, before
    the value is taken; what it raises, `add` raises. It tells whether the value is to be pickled anew, since it was
    found that what it refers to goes by value.
    """

    def __init__(self, *, checked: bool = False, look: Callable[[bytes, set[str]], bool] | None = None) -> None:
        self._checked, self._look = checked, look
        self._pickles: list[bytes] = []
        self._counts = array("Q")  # of buffers, from the first value on that has one
        self._buffers: list[Buffer] = []
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._pickles)

    def add(self, value: Any) -> None:
        """Pickle a value; its large buffers (numpy, pandas, Arrow) stay out of band. Raises what pickling raises.

        Raises `Unreadable` from what unpickling raises. What plain pickle cannot send, or would send as a name in
        `__main__`, goes by value through cloudpickle, which also refuses what is bound to this process.
        """
        if type(value) in _PLAIN:
            data = pickle.dumps(value, 5)
            self._pickles.append(data)
            self.nbytes += len(data)
            return None
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

    def add_numbers(self, values: Iterable[Any]) -> None:
        """Take values that are all `NUMBERS`."""
        pickles = [pickle.dumps(value, 5) for value in values]
        self._pickles += pickles
        self.nbytes += sum(map(len, pickles))

    def add_pickled(self, data: bytes, copies: Sequence[Buffer]) -> None:
        """Take a value that is pickled already, as `Frame.pickled` gives it."""
        if copies:
            self._counts.extend([0] * (len(self._pickles) - len(self._counts)))
            self._counts.append(len(copies))
            self._buffers += copies
            self.nbytes += sum(map(len, copies))
        self._pickles.append(data)
        self.nbytes += len(data)

    def parts(self) -> list[Buffer]:
        """The frame, as parts to be joined or sealed."""
        stream = b"".join(self._pickles)
        if self._counts:
            self._counts.extend([0] * (len(self._pickles) - len(self._counts)))
        sizes = array("Q", map(len, self._pickles))
        return document({}, [sizes.tobytes(), self._counts.tobytes(), stream, *self._buffers])


class Frame:
    """The values of a frame, unpickled one by one when asked for. Arrays are writable: they lie in a copy made then."""

    def __init__(self, body: Buffer, count: int | None = None) -> None:
        """Raises `Refused`, also where it does not hold as many values as it should."""
        _, blobs = read_document(body, "a frame")
        if len(blobs) < 3 or len(blobs[0]) % 8 or (len(blobs[1]) and len(blobs[1]) != len(blobs[0])):
            raise malformed("a frame", "its sizes are not there")
        sizes, counts, stream, *self._buffers = blobs
        self._stream: Buffer = stream
        if len(self._stream) <= _COPIED_BYTES:  # cuts of bytes are had sooner than of views
            self._stream = bytes(self._stream)
        self._ends = list(accumulate(array("Q", bytes(sizes)), initial=0))
        self._marks = list(accumulate(array("Q", bytes(counts)), initial=0)) if len(counts) else None
        if self._ends[-1] != len(self._stream) or (self._marks or [0])[-1] != len(self._buffers):
            raise malformed("a frame", "its sizes are not those of what it holds")
        if count is not None and count != len(self):
            raise malformed("a frame", f"it holds {len(self)} values, not {count}")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def after(self, first: int) -> Iterator[Any]:
        """Its values from there on; over at the first that does not unpickle."""
        if self._marks is not None:
            return (self[at] for at in range(first, len(self)))
        stream, loads = self._stream, pickle.loads
        return (loads(stream[lo:hi]) for lo, hi in pairwise(islice(self._ends, first, None)))

    def __getitem__(self, at: int) -> Any:
        if self._marks is None:
            return pickle.loads(self._stream[self._ends[at] : self._ends[at + 1]])
        data, buffers = self._pickled(at)
        return pickle.loads(data, buffers=[bytearray(buffer) for buffer in buffers])

    def _pickled(self, at: int) -> tuple[Buffer, list[memoryview]]:
        buffers = [] if self._marks is None else self._buffers[self._marks[at] : self._marks[at + 1]]
        return self._stream[self._ends[at] : self._ends[at + 1]], buffers

    def pickled(self, at: int) -> tuple[bytes, list[bytes]]:
        """A value still pickled, and its buffers."""
        data, buffers = self._pickled(at)
        return bytes(data), [bytes(buffer) for buffer in buffers]

"""A function at each of its calls in; it as it is at that call, pickled once a state, out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from starburst_common.code.pack import PackedFunction, Pickled, pack_function, pickled_function
from starburst_common.latest import let_go
from starburst_common.options import Options
from starburst_common.pickling.state import State

_HELD_BYTES = 64 << 20  #: of functions whose stored form is remembered
_FUNCTION_BYTES = 256 << 10  #: counted for each beside its pickle
_HELD_S = 1.0  #: a function is held after its last use: whoever has let go of it should see it go


@dataclass(slots=True, eq=False)
class Snapshot:
    """A function as it was when a call of it was submitted."""

    fn: Callable[..., Any]  # held, so that its id stays its own
    state: State | None
    digest: bytes  #: of its pickle
    packed: PackedFunction | None
    size: int = 0  #: of its pickle
    key: str = ""  #: once it is stored, in place of what was packed
    waiting: int = 0  #: calls of it that are to be sent
    used: float = 0.0  #: when it was last submitted (monotonic)

    @property
    def nbytes(self) -> int:
        """What it takes here."""
        return self.size + _FUNCTION_BYTES


class Functions:
    """Those of one executor; several threads submit at once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._changing = Lock()
        self.held: dict[int, Snapshot] = {}  #: by id, in the order in which they were packed

    def as_it_is(self, fn: Callable[..., Any], call: Any, *, later: bool = False) -> Snapshot:
        """In its present state, which is pickled now if it is another one than at its last call; else `later`."""
        state, known = State.of(fn), self.held.get(id(fn))
        if known is not None and state is not None and known.state == state:
            known.used = time.monotonic()
            return known
        if later:
            return Snapshot(fn, None, b"", None)
        pickled = self._pickled(fn)
        digest = pickled.digest()
        if known is not None and known.digest == digest:
            known.state, known.used = state, time.monotonic()
            return known
        packed = self._packed(fn, call, pickled)
        known = Snapshot(fn, state, digest, packed, pickled.nbytes, used=time.monotonic())
        with self._changing:
            self.held.pop(id(fn), None)
            let_go(self.held, _HELD_BYTES - known.nbytes)
            self.held[id(fn)] = known
        return known

    def to_store(self, function: Snapshot, call: Any) -> PackedFunction | None:
        """What is to be stored before a call of it can be sent; None once that is done."""
        if function.key or function.packed is not None:
            return function.packed
        return self._packed(function.fn, call, self._pickled(function.fn))

    @property
    def look_after_s(self) -> float | None:
        """How long to wait before some are forgotten again, if there are any."""
        return _HELD_S if self.held else None

    def forget(self, *, after_s: float = _HELD_S) -> None:
        """Let go of those, and of what they close over, that are sent and were not submitted for so long."""
        with self._changing:
            old = time.monotonic() - after_s
            for key, known in list(self.held.items()):
                if not known.waiting and known.used <= old:
                    del self.held[key]

    def _pickled(self, fn: Callable[..., Any]) -> Pickled:
        options = self._options
        return pickled_function(fn, options.retry_on, options.initializer, options.initargs, later=True)

    def _packed(self, fn: Callable[..., Any], call: Any, pickled: Pickled) -> PackedFunction:
        return pack_function(fn, style="call", retry_on=self._options.retry_on, samples=[call], known=pickled)

"""Items in; packs, plan and chunk messages out, in that order, so that a crash in between loses nothing.

Each step may be done twice: what an outage has left undone is done when it is tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starburst_common.code.bundle import Bundle
from starburst_common.code.modules import imported, names_in
from starburst_common.code.pack import PackedFunction, names_of_shared
from starburst_common.code.shared import Shared, referred
from starburst_common.errors import BadInput, Exists, NotFound, NotPicklable, RunStopped
from starburst_common.model import Buffer, Chunk, FleetId, PackRef, RunId, Span
from starburst_common.names import RunNames, code_key, work_queue
from starburst_common.pickling.bound import Stays
from starburst_common.ports import Backend
from starburst_common.runs.inputs import Function, Input, PlannedChunks
from starburst_common.runs.messages import chunk_message
from starburst_common.runs.needs import Needs
from starburst_common.runs.patience import Waits, create_ours, patiently, raised
from starburst_common.runs.sharing import period_now, store_shared
from starburst_common.runs.sign import SignOfLife
from starburst_common.runs.stored import store_bundle
from starburst_common.wire.frames import FrameWriter
from starburst_common.wire.items import item_parts
from starburst_common.wire.seals import nbytes_of
from starburst_common.wire.stretches import StretchWriter

CHUNK_BYTES = 8 << 20  #: a chunk's items are not gathered beyond so many bytes
PACK_BYTES = 16 << 20


@dataclass(slots=True)
class _Frame:
    span: Span
    function: str
    parts: list[Buffer]
    nbytes: int


class Feed:
    """Takes items in order and sends them off. One thread at a time."""

    def __init__(
        self,
        backend: Backend,
        run: RunId,
        fleet: FleetId,
        planned: Callable[[Sequence[Chunk]], None],
        *,
        sign: SignOfLife | None = None,
        waits: Waits = raised,
    ) -> None:
        self.run = run
        self.waits = waits  #: how outages are waited for
        self._backend, self._fleet, self._sign = backend, fleet, sign
        self._names = RunNames(run)
        self._planned = planned
        self._stored: set[str] = set()
        self._codes: dict[str, Needs] = {}  # of functions, by the keys that they were given
        self._writer = FrameWriter(look=self._look)
        self._shared: dict[str, Shared[Any]] = {}  # that were met, those before that are stored
        self._sharing: dict[str, Shared[Any]] = {}  # and these are to be
        self.period = ""  #: whose shared values it refers to, if to any
        self._function = ""
        self._frames: list[_Frame] = []
        self._frame_bytes = 0
        self._parcel: list[_Frame] = []  # what is being sent, which does not grow when it is tried again
        self.fed = 0  #: items taken so far
        self._first = 0

    def move(self, fleet: FleetId) -> None:
        """The run goes on with another fleet; what is planned is sent there by whoever drives it."""
        self._fleet = fleet

    def function(self, packed: PackedFunction) -> str:
        """Store a function, once; its key. Raises as `flush`."""
        key = self._names.function(packed.digest)
        if key not in self._codes:
            self._meet(packed.shared)
            self._store_shared()
            function = Function(
                blob=packed.blob,
                style=packed.style,
                retry_timeouts=packed.retry_timeouts,
                shared=tuple(sorted(each.digest for each in packed.shared)),
                buffers=packed.buffers,
            )
            self._store(key, function, packed.bundle)
            self._codes[key] = Needs.of(key, packed)
        return key

    def _store(self, key: str, function: Function, bundle: Bundle | None) -> None:
        store, secret = self._backend.store, self._backend.key
        if bundle is not None and (place := code_key(key, bundle.digest)) not in self._stored:
            store_bundle(self._backend, place, bundle, self.waits)
            self._stored.add(place)
        body = replace(function, bundle=bundle.digest if bundle else None).sealed(secret, key)
        with suppress(Exists):
            patiently(lambda: store.create(key, body), self.waits)

    def add(self, function: str, item: Any) -> None:
        """Take one item. Raises `NotPicklable` if it cannot be pickled, and is not taken; else as `flush`."""
        self._turn_to(function)
        try:
            self._writer.add(item)
        except BadInput:
            raise
        except Stays as error:
            raise NotPicklable(f"item {self.fed} ({type(item).__name__}) cannot be pickled: {error}") from error
        except Exception as error:
            raise NotPicklable(
                f"item {self.fed} ({type(item).__name__}) cannot be pickled: {error}: "
                "send what describes it (a path, a key, plain data) and open it in the function"
            ) from error
        self._taken()

    def add_numbers(self, function: str, numbers: list[Any]) -> None:
        """Take items that are all `NUMBERS`. Raises as `flush`."""
        self._turn_to(function)
        self._writer.add_numbers(numbers)
        self.fed += len(numbers)

    def add_pickled(self, function: str, data: bytes, buffers: Sequence[bytes]) -> None:
        """Take an item that was pickled for another run, whose shared values are there. Raises as `flush`."""
        self._turn_to(function)
        self._writer.add_pickled(data, buffers)
        self._taken()

    def add_stretch(self, function: str, items: Sequence[Any]) -> None:
        """Take all items of a sequence that says where they lie, as a chunk. Raises as `flush`."""
        self._turn_to(function)
        self.close_chunk()
        self.fed += len(items)
        self._close(StretchWriter(items))
        self._flush_if_full()

    def _turn_to(self, function: str) -> None:
        """A chunk's items are one function's."""
        if function != self._function:
            self.close_chunk()
            self._function = function

    def _taken(self) -> None:
        self.fed += 1
        if self._writer.nbytes >= CHUNK_BYTES:
            self.close_chunk()

    @property
    def doing(self) -> str:
        """What is being stored, for whoever waits; asked from any thread."""
        if sharing := [*self._sharing.values()]:
            of, left = (sum(each.nbytes for each in some) for some in ([*self._shared.values()], sharing))
            return f"storing large values: {(of - left) / 1e6:,.0f} of {of / 1e6:,.0f} MB"
        return f"storing items: {self.fed:,} stored" if self._codes else "storing the function and its modules"

    @property
    def open_items(self) -> int:
        """Items in the chunk that is not closed yet."""
        return len(self._writer)

    def close_chunk(self) -> None:
        """The items since the last chunk are one."""
        if len(self._writer):
            self._close(self._writer)
            self._writer = FrameWriter(look=self._look)
            self._flush_if_full()

    def _close(self, writer: FrameWriter | StretchWriter) -> None:
        parts = item_parts(self._backend.key, self.run, self._first, writer)
        frame = _Frame(Span(self._first, self.fed), self._with_modules(), parts, nbytes_of(parts))
        self._frames.append(frame)
        self._frame_bytes += frame.nbytes
        self._first = self.fed

    def _flush_if_full(self) -> None:
        if self._frame_bytes >= PACK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Store what is gathered and send its chunks.

        Raises what ends the waiting for an outage, or `RunCancelled` or `RunStopped` where somebody has ended the run.
        After any of them it may be called again, and goes on where it was.
        """
        self.close_chunk()
        while self._parcel or self._frames:
            if not self._parcel:
                self._parcel, self._frames, self._frame_bytes = self._frames, [], 0
            if self._sign is not None:
                self._sign.check()
            self._send(self._parcel)
            self._parcel = []

    def end(self) -> None:
        """The input is whole: say how many items there are, before `stop`. Raises as `flush`."""
        self.flush()
        key = self._names.input
        body = Input(items=self.fed).sealed(self._backend.key, key)
        patiently(lambda: create_ours(self._backend.store, key, body), self.waits)

    def stop(self, why: str = "") -> None:
        """No more items come, and nobody need wait for any: the input is whole, or it is not, for this reason."""
        if self._sign is not None:
            self._sign.stop(why)

    def _look(self, pickled: bytes, imports: set[str]) -> bool:
        """See to it that the user's modules that an item refers to travel, whichever item is the first; whether that is
        by value. Raises `BadInput` where they cannot."""
        code, named = self._codes[self._function], names_in(pickled)
        if code.meet(named):
            return True
        referred_to = referred(pickled)
        for each in referred_to.values():
            if each.digest not in self._shared and each.content is None:
                raise BadInput(f"the value of {each!r} is another process's: share it here again, or send it itself")
        tops = (imported(named) | imports).union(*map(names_of_shared, self._meet(referred_to.values())))
        code.take(tops, named)
        return False

    def _meet(self, shared: Iterable[Shared[Any]]) -> list[Shared[Any]]:
        """Shared values that something refers to, with those that they do; those that are new here."""
        new: dict[str, Shared[Any]] = {}
        waiting = [*shared]
        while waiting:
            each = waiting.pop()
            if each.digest not in self._shared and each.digest not in new:
                new[each.digest] = each
                if (content := each.content) is not None:
                    waiting += referred(content.pickled).values()
        self._shared.update(new)
        self._sharing.update(new)
        return [*new.values()]

    def _store_shared(self) -> None:
        """Raises as `flush`, and `BadInput` for what cannot be shared."""
        if self._sharing and not self.period:
            self.period = patiently(lambda: period_now(self._backend, self.run), self.waits)
        while self._sharing:
            digest, each = next(iter(self._sharing.items()))
            patiently(partial(store_shared, self._backend, self.period, each), self.waits)
            self._shared[digest] = Shared(digest, each.nbytes)  # its content need not be held any more
            del self._sharing[digest]

    def _with_modules(self) -> str:
        """The key of the function as stored with all modules that its items refer to so far. Raises as `flush`."""
        self._store_shared()
        code = self._codes[self._function]
        if code.grown is not None:
            old = code.key
            stored = patiently(lambda: self._backend.store.get(old), self.waits)
            digest = hashlib.sha256(f"{old} {code.grown.digest}".encode()).hexdigest()[:32]
            key = self._names.function(digest)
            self._store(key, Function.read(self._backend.key, old, stored), code.grown)
            code.key, code.grown = key, None
        return code.key

    def _send(self, frames: Sequence[_Frame]) -> None:
        store, secret, first = self._backend.store, self._backend.key, frames[0].span.lo
        pack, chunks, offset = self._names.pack(first), [], 0
        for frame in frames:
            ref = PackRef(pack, offset, frame.nbytes)
            chunks.append(Chunk(span=frame.span, function=frame.function, ref=ref))
            offset += frame.nbytes
        plan = self._names.plan(first)
        sealed = PlannedChunks(chunks=tuple(chunks)).sealed(secret, plan)
        small = self._backend.pace.inline_bytes
        inline = [b"".join(frame.parts) if frame.nbytes <= small else None for frame in frames]
        patiently(lambda: create_ours(store, pack, [part for frame in frames for part in frame.parts]), self.waits)
        patiently(lambda: create_ours(store, plan, sealed), self.waits)
        self._planned(chunks)
        fleet = self._fleet
        messages = [chunk_message(secret, fleet, self.run, *each) for each in zip(chunks, inline, strict=True)]
        try:
            patiently(lambda: self._backend.queue.send(work_queue(fleet), messages, group=self.run), self.waits)
        except NotFound:  # whoever ended the run was the last to need its fleet
            if self._sign is not None:
                self._sign.look()
            if self._fleet == fleet:
                raise RunStopped(f"run {self.run} takes no more input: its work queue is gone") from None

"""What a slot writes into its socket, as far as its supervisor hears it."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace

from starburst_common.errors import Refused
from starburst_common.model import Chunk, Outcome, PackRef, Span
from starburst_common.runs.outcomes import outcome_parts, read_outcome
from starburst_common.wire.frames import FrameWriter
from starburst_worker.attempt import Attempt
from starburst_worker.parts import Part
from starburst_worker.prints import Prints
from starburst_worker.said import _HEAD, _SIGN, Ear, say
from starburst_worker.serving import Serving
from tests.fuzz.hunt import Target
from tests.fuzz.mutations import Kind
from tests.fuzz.tripwire import Wire

SPAN = Span(4, 10)
_MOST_BYTES = 60_000  #: what a socket takes while nobody reads


def targets() -> list[Target]:
    """All of them."""
    writer = FrameWriter()
    for _ in range(2):
        writer.add(Wire())
    frame = b"".join(writer.parts())
    failure = {"index": 5, "kind": "user", "error": "E", "message": "m", "traceback": "t"}
    unfit = {**failure, "kind": "import"}
    sayings = [
        _said({"ready": 4711}),
        _said({"first": 4, "values": 2, "logs": {"4": "x", "5": "é"}, "logged": 3}, frame),
        _said({"first": 4, "values": 2, "logs": {}, "logged": 0, "done": 0.5}, frame),
        _said({"first": 4, "values": 0, "logs": {}, "fresh": [[5, 7, "é\n", False], [9, 0, "", True]], "logged": 7}),
        _said({"failure": failure, "pickled": True}, b"pickled"),
        _said({"unfit": unfit}),
        _said({"forgot": ["f"]}),
        _said({"crowded": True}),
        _said({"done": 0.5}),
    ]
    texts = [said[16 : len(said) - len(frame) if b'"values": 2' in said else len(said)] for said in sayings]

    def fields(blob: bytes) -> None:
        _heard(_framed(blob, frame))

    return [
        Target(name="a slot's socket", kind=Kind.BYTES, samples=[*sayings, b"".join(sayings)], feed=_heard,
               allowed=ALLOWED),
        Target(name="a slot's messages", kind=Kind.JSON, samples=texts, feed=fields, allowed=ALLOWED),
    ]  # fmt: skip


#: What ends a slot, and not its worker: see `Attempt`.
ALLOWED = (ValueError, Refused)


def _said(message: dict[str, object], blob: bytes = b"") -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        say(ours.fileno(), message, blob)
        ours.close()
        return theirs.recv(1 << 20)


def _framed(text: bytes, blob: bytes) -> bytes:
    return _HEAD.pack(_SIGN, len(text), len(blob)) + text + blob


def _heard(said: bytes) -> None:
    """All of it, and what became of the chunk can be written down and read."""
    chunk = Chunk(span=SPAN, function="f", ref=PackRef("p", 0, 1))
    prints = Prints(None, "w", 1, lambda run: True)  # type: ignore[arg-type]  # nothing is written
    known = SimpleNamespace(followed=True)
    work = SimpleNamespace(run="run-1", known=known, chunk=chunk, function=SimpleNamespace(key="f"))
    part = Part(chunk=chunk)
    ties = SimpleNamespace(worker="w", part_bytes=1 << 20, tell=prints.tell)
    serving = Serving(work=work, settle=_settle, ties=ties, parts=[part], splittable=False)  # type: ignore[arg-type]
    seat = SimpleNamespace(ready=False, pid=0, crowded=False, functions={"f"})
    attempt = Attempt(serving, seat, ties, Counter(), 0)  # type: ignore[arg-type]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with suppress(BlockingIOError):
            ours.sendall(said[:_MOST_BYTES])
        ours.close()
        ear = Ear(theirs)
        try:
            with suppress(EOFError):
                while (message := ear.hear(0.0)) is not None:
                    attempt.hear(message)
        finally:
            try:
                _settle(part, [], [])
            except Refused as error:
                raise AssertionError("an outcome that nobody can read") from error


def _settle(part: Part, rest: list[Chunk], kept: list[Chunk]) -> None:
    left = [part.chunk.narrowed(span, deaths=0) for span in part.open()]
    outcome = Outcome(
        span=SPAN, worker="w", seconds=0.0, batches=tuple(sorted(part.batches, key=lambda batch: batch.span)),
        failures=tuple(sorted(part.failures, key=lambda failure: failure.index)), rest=tuple(left), logs=part.logs,
    )  # fmt: skip
    key = "runs/run-1/outcomes/x"
    read_outcome(b"k" * 32, key, b"".join(outcome_parts(b"k" * 32, key, outcome)))

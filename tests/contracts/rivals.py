"""What other processes do in the contract tests. Light to import, since each of them imports it anew."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from itertools import count
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from starburst_common.errors import Exists
from starburst_common.local.store import FolderObjects
from starburst_common.ports import Backend, ObjectStore, WorkerSpec, WorkQueue

_FRESH = multiprocessing.get_context("spawn")  # a fork would share open connections
_BUSY_S = 60.0


def local_store(folder: Path) -> ObjectStore:
    """The store in a folder."""
    return FolderObjects(folder, folder.with_name(f"{folder.name}-clock"))


def at_once(body: Callable[..., Any], *given: Sequence[Any]) -> list[Any]:
    """Run `body(barrier, *arguments)` in one process for each tuple of arguments; what they return."""
    barrier, results = _FRESH.Barrier(len(given)), _FRESH.SimpleQueue()
    rivals = [
        _FRESH.Process(target=_run, args=(body, barrier, results, number, arguments))
        for number, arguments in enumerate(given)
    ]
    for rival in rivals:
        rival.start()
    told = dict(results.get() for _ in rivals)
    for rival in rivals:
        rival.join(_BUSY_S)
    return [told[number] for number in range(len(given))]


def _run(body: Callable[..., Any], barrier: Barrier, results: Any, number: int, given: Sequence[Any]) -> None:
    told = None
    try:
        told = body(barrier, *given)
    finally:
        results.put((number, told))


def killed_after(seconds: float, body: Callable[..., None], *given: Any) -> list[str]:
    """Run `body(say, *given)` in a process, kill it (signal 9) so long after its first words; all it said."""
    ours, theirs = _FRESH.Pipe(duplex=False)
    process = _FRESH.Process(target=_talk, args=(theirs, body, given))
    process.start()
    theirs.close()
    assert ours.poll(_BUSY_S)
    time.sleep(seconds)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    said = []
    try:
        while True:
            said.append(ours.recv())
    except EOFError:
        pass
    ours.close()
    return said


def _talk(pipe: Any, body: Callable[..., None], given: Sequence[Any]) -> None:
    body(pipe.send, *given)


# --- queues -----------------------------------------------------------------------------------------------------------


def lease_all(barrier: Barrier, opener: Callable[[], WorkQueue], queue: str, wall_clock_ahead_s: float) -> list[str]:
    """Lease until nothing comes any more and keep every lease; the bodies. The rivals meet twice on the way."""
    time.time = _ahead(wall_clock_ahead_s)
    opened = opener()
    bodies: list[str] = []
    for limit in (1, 3):
        barrier.wait(_BUSY_S)
        while leased := opened.receive(queue, limit=limit, lease_s=300, wait_s=0.3):
            bodies += [message.body for message in leased]
            if limit == 1 and len(bodies) == 100:
                break
    return bodies


def _ahead(seconds: float) -> Callable[[], float]:
    right = time.time
    return lambda: right() + seconds


def send_for_ever(say: Callable[[str], None], opener: Callable[[], WorkQueue], queue: str) -> None:
    """Send batches, and say the name of each when it is sent."""
    opened = opener()
    for number in count():
        opened.send(queue, [f"{number}/{place}" for place in range(200)], group="g")
        say(str(number))


def lease_and_delete_for_ever(say: Callable[[str], None], opener: Callable[[], WorkQueue], queue: str) -> None:
    """Lease and delete, and say which bodies are about to be deleted, then that they are."""
    opened = opener()
    while True:
        leased = opened.receive(queue, limit=10, lease_s=0.5, wait_s=0.5)
        for message in leased:
            say(f"deleting {message.body}")
        opened.delete(queue, [message.receipt for message in leased])
        for message in leased:
            say(f"deleted {message.body}")


# --- stores -----------------------------------------------------------------------------------------------------------


def signed(text: str, size: int) -> bytes:
    """A body of about `size` bytes that tells whether it is whole."""
    body = text.encode().ljust(size, b".")
    return hashlib.sha256(body).digest() + body


def is_whole(body: bytes) -> bool:
    """Whether a signed body is as it was written."""
    return hashlib.sha256(body[32:]).digest() == body[:32]


def create_keys(barrier: Barrier, opener: Callable[[], ObjectStore], who: str, keys: Sequence[str]) -> list[str]:
    """Try to create every key; which ones are won."""
    store = opener()
    barrier.wait(_BUSY_S)
    won = []
    for key in keys:
        try:
            store.create(key, who.encode())
        except Exists:
            continue
        won.append(key)
    return won


def write_for_ever(say: Callable[[str], None], opener: Callable[[], ObjectStore], size: int) -> None:
    """Create one large object after another and replace another, and say what is written."""
    store = opener()
    for number in count():
        store.create(f"torn/{number:06d}", signed(str(number), size))
        store.put("torn/latest", signed(str(number), size))
        say(str(number))


# --- compute ----------------------------------------------------------------------------------------------------------


def launch(barrier: Barrier, opener: Callable[[], Backend], spec: WorkerSpec, ordinals: Sequence[int]) -> None:
    """Launch workers."""
    backend = opener()
    barrier.wait(_BUSY_S)
    backend.compute.launch(spec, ordinals)
    backend.close()

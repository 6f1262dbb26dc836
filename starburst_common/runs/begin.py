"""A fleet and what was asked in, a run that can be fed out; or nothing, if a step fails or its process dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from starburst_common.code.bundle import Bundle, tell_unfit
from starburst_common.errors import StarburstError
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import Chunk
from starburst_common.names import RunNames, work_queue
from starburst_common.runs.feed import Feed
from starburst_common.runs.patience import bounded, create_ours, patiently
from starburst_common.runs.records import Spec
from starburst_common.runs.sign import SignOfLife
from starburst_common.runs.spec import write_spec
from starburst_common.wire.seals import seal


def begin(
    fleet: Fleet,
    spec: Spec,
    *,
    planned: Callable[[Sequence[Chunk]], None],
    over: Callable[[], None],
    files: Bundle | None = None,
    note: Callable[[], None] = lambda: None,
) -> Feed:
    """Begin a run: what takes its items, which tells `planned` of chunks, and `over` if somebody else ends the run.

    `files` are those that its place names; `note` writes what else belongs to it.

    The feeder's sign comes first and the spec last. So whatever a crash leaves lies in the run's folder: without a
    spec it is no run, and with one there are a holder and queues, and a sign that goes stale. An outage is waited for,
    as long as `Backend.patience_s`.
    """
    backend, run = fleet.backend, spec.run
    waits = bounded(f"run {run}", backend.patience_s)
    sign = SignOfLife(backend, run, over)
    feed = Feed(backend, run, fleet.id, planned, sign=sign, waits=waits)
    try:
        sign.start(waits)
        patiently(lambda: fleet.hold(run), waits)
        patiently(lambda: backend.queue.ensure(RunNames(run).notices), waits)
        if files is not None:
            tell_unfit(files.native, backend.machine)
            key = RunNames(run).files(files.digest)
            body = seal(backend.key, key, [files.archive])
            patiently(lambda: create_ours(backend.store, key, body), waits)
        patiently(note, waits)
        patiently(lambda: write_spec(backend, spec), waits)
    except BaseException:
        undo(fleet, feed)
        raise
    return feed


def undo(fleet: Fleet, feed: Feed) -> None:
    """No worker was launched for this run: leave nothing of it, as far as the outage lets us that may be the reason."""
    backend, names = fleet.backend, RunNames(feed.run)
    feed.stop()
    for step in (
        lambda: backend.queue.drop_group(work_queue(fleet.id), feed.run),
        lambda: backend.queue.drop(names.notices),
        lambda: backend.store.delete_folder(names.folder),
        lambda: fleet.release(feed.run),
    ):
        with suppress(StarburstError, OSError):
            step()

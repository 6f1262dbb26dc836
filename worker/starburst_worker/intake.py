"""A leased message in; whose chunk it is, what is known of it, and the work that it is, out."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from starburst_common.code.shared import digests_in
from starburst_common.errors import NotFound, Refused
from starburst_common.model import Buffer, Chunk, FailureKind, RunId, WorkerId
from starburst_common.names import RunNames
from starburst_common.ports import SMALL_BYTES, Backend, Leased
from starburst_common.runs.failures import Reason
from starburst_common.runs.marks import Suspect
from starburst_common.runs.messages import read_chunk_message
from starburst_common.wire.items import checked_frames, items_of
from starburst_worker.duty import Duty
from starburst_worker.fetched import Fetched
from starburst_worker.known import KnownRun, KnownRuns
from starburst_worker.settle import Settler
from starburst_worker.verdict import Case, accused
from starburst_worker.work import Work

_LARGE_BYTES = 1 << 20  #: of items are not handed to a slot, where it can map them
_log = logging.getLogger("starburst.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A chunk as its message brought it."""

    run: RunId
    receipt: str
    case: Case
    work: Work | None = None  #: unless its run is over, or it cannot be run here


class Intake:
    """Of one worker. What costs a request is looked at only where it counts."""

    def __init__(self, backend: Backend, duty: Duty, runs: KnownRuns, fetched: Fetched, settler: Settler) -> None:
        self._backend, self._duty, self._runs, self._fetched, self._settler = backend, duty, runs, fetched, settler

    def take(self, message: Leased) -> Taken:
        """Read a message, and fetch what its chunk needs. Raises `Refused` for one that is not ours to read."""
        name, chunk, inline, again = read_chunk_message(self._backend.key, self._duty.fleet, message.body)
        run = RunId(name)
        known = self._runs.run(run)
        # whoever gets it from us knows how many workers it has cost
        case = Case(chunk=chunk.narrowed(chunk.span, deaths=chunk.deaths + message.receives - 1))
        taken = Taken(run=run, receipt=message.receipt, case=case)
        if known is None or known.over:
            return replace(taken, case=replace(case, over=True))
        if (again or message.receives > 1) and self._has_outcome(run, chunk):
            return replace(taken, case=replace(case, settled=True))
        if known.leaving:
            return replace(taken, case=replace(case, undriven=True))
        try:
            work = self._work(taken, known, inline)
        except (Refused, NotFound) as error:
            if self._runs.over(run):  # so it may have been removed
                return replace(taken, case=replace(case, over=True))
            _log.error("cannot run items %s of %s: %s", chunk.span, run, error)
            unfit = Reason(FailureKind.IMPORT, type(error).__name__, str(error))
            return replace(taken, case=replace(case, unfit=unfit))
        return replace(taken, case=self._case(case, work), work=work)

    def _work(self, taken: Taken, known: KnownRun, inline: bytes | None) -> Work:
        run, chunk = taken.run, taken.case.chunk
        function = self._fetched.function(chunk.function)
        raw: Buffer = inline if inline is not None else self._backend.store.get_range(*chunk.ref)
        frames, pickles = checked_frames(self._backend.key, run, raw, chunk.span)
        lies = self._backend.store.file(chunk.ref.key) if len(raw) >= _LARGE_BYTES else None
        return Work(
            run=run,
            known=known,
            chunk=chunk,
            function=function,
            files=self._fetched.files(run, known.spec.place.files),
            frames=frames,
            planned=items_of(frames[0]) == chunk.span,
            lies=None if lies is None else (str(lies), chunk.ref.offset, chunk.ref.length),
            shared=self._fetched.shared(run, {*function.stored.shared}.union(*map(digests_in, pickles))),
            receipt=taken.receipt,
        )

    def _case(self, case: Case, work: Work) -> Case:
        known = work.known
        if work.withdrawable:
            self._runs.look_withdrawn(work.run, known)
        unfit = Reason.ours(FailureKind.IMPORT, known.unfit) if known.unfit else None
        case = replace(case, withdrawn=known.withdrawn, unfit=unfit)
        if accused(case.chunk) and (last := self._last_alone(work.run, case.chunk)):
            state = self._backend.compute.ended(self._duty.fleet, last)
            case = replace(case, alone=True, end=None if state is None else state.end)
        return case

    def _has_outcome(self, run: RunId, chunk: Chunk) -> bool:
        try:
            return self._settler.adopt(run, chunk) is not None
        except Refused as error:  # its run's driver meets it as well, and says so
            _log.error("refused an outcome: %s", error)
            return True

    def _last_alone(self, run: RunId, chunk: Chunk) -> WorkerId | None:
        """The last worker that ran this item alone, for which it is to blame if it died; None if none has."""
        with suppress(NotFound, Refused):
            key = RunNames(run).suspect(chunk.span.lo)
            return Suspect.read(self._backend.store.get(key, SMALL_BYTES)).worker
        return None

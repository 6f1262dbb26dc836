"""A run that ends in; the manifest of the files that its values were written to out, if they were to any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from starburst_common.data.results import Results, Written
from starburst_common.errors import BadInput, Denied, NotFound, Refused, RunCancelled, RunStopped
from starburst_common.model import Failure, RunId, RunState, RunStatus, Span, spans_of
from starburst_common.phrases import our_log
from starburst_common.ports import Backend
from starburst_common.runs.answers import exception_of
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec
from starburst_common.runs.renumbered import numbers_of
from starburst_common.runs.spec import find_spec
from starburst_common.runs.stored import find_outcome
from starburst_common.wire.fields import malformed
from starburst_common.wire.items import read_frame
from starburst_common.wire.stretches import StretchFrame

_log = our_log()


def write_manifest(
    backend: Backend, results: Results, end: End, settled: Iterable[Span], cost: Callable[[], Mapping[str, Any]]
) -> None:
    """From the outcomes that hold: files that they do not name were written by who came too late, and are removed.

    `cost` tells what the run cost, and was to; of a run over another one's items nobody asks.
    """
    files: list[Written] = []
    failed: list[int] = []
    for span in settled:
        try:
            outcome, _ = find_outcome(backend, RunId(results.run), span)
        except (NotFound, Refused) as error:  # whoever reads the run's answers is told
            _log.warning("run %s: its manifest lacks items of %s: %s", results.run, span, error)
            continue
        failed += [failure.index for failure in outcome.failures]
        for batch in outcome.batches:
            frame = read_frame(batch.frame, batch.span.size)
            if isinstance(frame, StretchFrame):
                files.append(_written(frame, batch.span))
    try:
        if results.first:
            numbers = numbers_of(backend, RunId(results.run))
            theirs = [written._replace(spans=numbers.spans_of(*written.spans)) for written in files]
            results.finish_again(theirs, str(end.state), [numbers.of(index) for index in failed])
            return
        results.finish(
            sorted(files, key=lambda written: written.spans),
            state=str(end.state),
            items=end.items,
            values=end.answered - end.failed - end.withdrawn,
            failed=[[lo, hi] for lo, hi in spans_of(sorted(failed))],
            format=results.pattern.rpartition(".")[2],
            cost=cost(),
        )
    except (Denied, NotFound) as error:
        _log.warning("run %s: its manifest is not complete: %s", results.run, error)


def results_to(backend: Backend, spec: Spec) -> Results | None:
    """Where a run's values are written, if they are to files."""
    pattern = spec.terms.results_to
    return Results(pattern, spec.run, spec.parent or "", backend.buckets) if pattern else None


def written_to(backend: Backend, run: RunId) -> str:
    """The pattern of the files that a run's values are written to; empty where they are not. Raises `NotFound`."""
    return find_spec(backend, run).terms.results_to


def results_of(backend: Backend, spec: Spec) -> Results:
    """The same. Raises `BadInput` where they are not."""
    if (found := results_to(backend, spec)) is None:
        raise BadInput(f"run {spec.run} was not given results_to: results() has its values")
    return found


def files_of(results: Results, ended: RunStatus, failures: Sequence[Failure], *, mended: bool) -> list[str]:
    """The files of a run that has ended so. Raises the first of these, or, unless it is mended, why it ended early."""
    if failures:
        raise exception_of(failures[0], ended.id)
    kind = {RunState.STOPPED: RunStopped, RunState.CANCELLED: RunCancelled}.get(ended.state)
    if kind is not None and not mended:
        raise kind(f"run {ended.id}: {ended.reason}; {ended.answered} items were answered")
    return results.uris()


def _written(frame: StretchFrame, span: Span) -> Written:
    if [*map(type, frame.told)] != [str, int, dict]:
        raise malformed("a frame", f"{frame.told!r:.80} is no file of values")
    uri, nbytes, types = frame.told
    return Written(uri, nbytes, (span,), {str(name): str(kind) for name, kind in types.items()})

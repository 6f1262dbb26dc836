"""A run under way in; what Prefect's UI shows of it out: progress, a summary, a table of failures, labels."""

from __future__ import annotations

import atexit
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext
from prefect.settings import PREFECT_API_URL

from prefect_starburst.internals import retries
from starburst_common import Failure, Run, RunState, RunStatus
from starburst_common.cli.show import duration, elapsed_s, estimate
from starburst_common.progress import rate_and_eta

_log = logging.getLogger("prefect.task_runner.starburst")

_EVERY_S = 5.0  #: between two updates of a progress artifact
_TIMEOUT_S = 20.0  #: of one request
_PATIENCE_S = 10.0  #: to wait at the interpreter's end for what Prefect has not been told yet
_ROWS = 100  #: of a failure table
_MESSAGE = 200  #: characters of a failure in it

#: Labels of a flow run: its starburst runs, separated by commas, and what they would cost on Fargate together.
RUNS_LABEL, COST_LABEL = "starburst.run", "starburst.cost-usd"
_labels = threading.Lock()
_telling: set[Report] = set()  #: whose run is over, and Prefect does not know all of it yet


class Report:
    """Keeps Prefect informed of a run, for the flow run and task run in whose context it is made.

    A thread of its own does it. Whatever fails there is logged once, as a warning, and harms nobody.

    Args:
        run: what to tell of; `finish` is called when it is over, while its backend is still open.
        backend_name: where it runs.
        what: it in words, such as "burst of score"; markdown.
        submitted: how many items there are so far, for a run that does not know before its end.
    """

    def __init__(self, run: Run, backend_name: str, *, what: str, submitted: Callable[[], int] | None = None) -> None:
        flow, task = FlowRunContext.get(), TaskRunContext.get()
        self._task_run: UUID | None = task.task_run.id if task else None
        self._flow_run: UUID | None = flow.flow_run.id if flow and flow.flow_run else None
        self._run, self._backend, self._what, self._submitted = run, backend_name, what, submitted
        self._began, self._before = time.monotonic(), run.status().answered
        self._artifact: UUID | None = None
        self._shown: tuple[float, str] | None = None
        self._ended = threading.Event()
        self._reading = threading.Lock()  # the backend is open while a run is read: not after `finish`
        self._ending: _Ending | None = None
        self._thread: threading.Thread | None = None
        self._warned = False

    def start(self) -> None:
        """Show the progress from now on; nothing outside of a flow or task."""
        if self._thread is None and (self._flow_run or self._task_run):
            self._thread = threading.Thread(
                target=copy_context().run, args=(self._keep,), name=f"starburst-report-{self._run.id}", daemon=True
            )
            self._thread.start()

    def finish(self) -> None:
        """Read how the run ended, and have that told while the flow goes on; `wait_until_told` waits for it."""
        with self._reading:
            if self._thread is not None and not self._ended.is_set():
                try:
                    self._ending = self._read_ending()
                except Exception as error:
                    self._warn(f"{type(error).__name__}: {error}")
                _telling.add(self)
                self._ended.set()
        atexit.unregister(wait_until_told)
        atexit.register(wait_until_told)  # after what stops an ephemeral server, so that it is called before that

    def wait(self, deadline: float) -> None:
        """Until all is told, or `time.monotonic` is at the deadline."""
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                self._warn(f"Prefect's API took longer than {_PATIENCE_S:.0f} s")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """With one client for all: to make one costs as much as ten task runs."""
        try:
            with (
                retries(at_most=3),
                get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT_S, **_tls()}) as client,
            ):
                self._attempt(self._label_run, client)
                self._attempt(self._show_progress, client)
                while not self._ended.wait(_EVERY_S):
                    self._attempt(self._show_progress, client)
                if self._ending is not None:
                    self._attempt(self._show_end, client, self._ending)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")
        finally:
            _telling.discard(self)

    def _attempt(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("run %s goes on, but Prefect does not show all of it: %s", self._run.id, why)

    def _create(self, client: SyncPrefectClient, kind: str, name: str, description: str | None, data: Any) -> UUID:
        artifact = ArtifactCreate(
            key=f"starburst-{name}-{self._run.id}",
            type=kind,
            description=description,
            data=data,
            flow_run_id=self._flow_run,
            task_run_id=self._task_run,
        )
        return client.create_artifact(artifact).id

    def _show_progress(self, client: SyncPrefectClient) -> None:
        with self._reading:
            if self._ended.is_set():
                return
            shown = self._progress(self._run.status())
        self._show(client, shown)

    def _progress(self, status: RunStatus) -> tuple[float, str]:
        expected = self._submitted() if self._submitted is not None and status.items is None else status.items
        text = progress_text(status, expected, self._what, time.monotonic() - self._began, self._before)
        return percent(status, expected), text

    def _show(self, client: SyncPrefectClient, shown: tuple[float, str]) -> None:
        if self._artifact is None:
            self._artifact = self._create(client, "progress", "progress", shown[1], shown[0])
        elif shown != self._shown:
            client.update_artifact(self._artifact, ArtifactUpdate(data=shown[0], description=shown[1]))
        self._shown = shown

    def _read_ending(self) -> _Ending:
        status = self._run.status()
        failures = self._run.failures() if status.failed else []
        rows = failure_rows(failures[:_ROWS])
        more = (
            ""
            if len(rows) == len(failures)
            else f" (the first {len(rows)}; all: `starburst failures {self._run.id} -n 0`)"
        )
        return _Ending(
            progress=self._progress(status),
            failures=f"**{self._what}**: {len(failures):,} failed items{more}",
            rows=rows,
            summary=summary_text(self._run, status, self._backend, self._what, failures[0] if failures else None),
            usd=float(estimate(self._run, status).usd),
        )

    def _show_end(self, client: SyncPrefectClient, ending: _Ending) -> None:
        self._show(client, ending.progress)
        if ending.rows:
            self._create(client, "table", "failures", ending.failures, json.dumps(ending.rows))
        self._create(client, "markdown", "summary", None, ending.summary)
        self._label_cost(client, ending.usd)

    def _label_run(self, client: SyncPrefectClient) -> None:
        """Add the run to those of its flow run, of all attempts."""
        if self._flow_run is not None:
            with _labels:
                before = str(client.read_flow_run(self._flow_run).labels.get(RUNS_LABEL, ""))
                runs = [*filter(None, before.split(",")), str(self._run.id)]
                client.update_flow_run_labels(self._flow_run, {RUNS_LABEL: ",".join(dict.fromkeys(runs))})

    def _label_cost(self, client: SyncPrefectClient, usd: float) -> None:
        """Add what the run has cost to the sum of those of its flow run."""
        if self._flow_run is not None:
            with _labels:
                before = float(client.read_flow_run(self._flow_run).labels.get(COST_LABEL, 0))
                client.update_flow_run_labels(self._flow_run, {COST_LABEL: round(before + usd, 6)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How a run ended, as it is told."""

    progress: tuple[float, str]
    failures: str
    rows: list[dict[str, Any]]
    summary: str
    usd: float


def _tls() -> dict[str, Any]:
    """No certificates for a client of plain HTTP: to read them takes longer than five task runs."""
    encrypted = (PREFECT_API_URL.value() or "").startswith("https:")
    return {} if encrypted else {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}


def wait_until_told() -> None:
    """Until Prefect knows how all runs ended that are over, ten seconds at most. So does the interpreter at its end."""
    deadline = time.monotonic() + _PATIENCE_S
    for report in tuple(_telling):
        report.wait(deadline)


def percent(status: RunStatus, expected: int | None) -> float:
    """How much is answered, from 0 to 100; 0 while nobody knows how much there is."""
    if expected is None:
        return 0.0
    return round(100 * min(status.answered / expected, 1), 1) if expected else 100.0 * status.state.over


def progress_text(status: RunStatus, expected: int | None, what: str, elapsed: float, before: int) -> str:
    """A line on how the run stands."""
    of = "" if expected is None else f" of {expected:,}"
    rate, left = rate_and_eta(status, elapsed, before)
    parts = [f"**{what}**: {status.answered:,}{of} items"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.state.over:
        parts.append(f"{_ending(status)} after {duration(elapsed_s(status))}")
    else:
        parts.append(f"{status.workers:,} worker{'s' * (status.workers != 1)}")
        parts += [f"{rate:,.0f}/s"] if rate else []
        parts += [f"about {duration(left)} left"] if left else []
    if status.reason:
        parts.append(_one_line(status.reason))
    return f"{' · '.join(parts)} · `{status.id}`"


def summary_text(run: Run, status: RunStatus, backend: str, what: str, first: Failure | None) -> str:
    """How a run ended, and where to look closer, as markdown. `first` is its first failure."""
    resources = run.resources
    slots = f"{resources.slots} slot{'s' * (resources.slots != 1)}"
    whole = status.items is None or status.answered == status.items
    answered = f"{status.answered:,}" + ("" if whole else f" of {status.items:,}")
    failed = f", **{status.failed:,} failed**" if status.failed else ""
    rows = {
        "run": f"`{run.id}`",
        "function": f"`{run.function}`" if run.function != "calls" else "",
        "backend": backend,
        "workers": f"{run.workers:,} at most, each {resources.cpu:g} vCPU, {resources.memory_mib / 1024:g} GB, {slots}",
        "worker time": duration(status.slot_seconds),
        "estimated cost": str(estimate(run, status)),
    }
    verbs = [f"status {run.id}"]
    if status.failed:
        verbs.append(f"failures {run.id}")
    if status.answered:
        item = first.index if first else 0
        verbs += [f"logs {run.id} --item {item}", f"replay {run.id} {item}"]
    lines = [
        f"### {what}: {_ending(status)}",
        "",
        f"{answered} items answered in {duration(elapsed_s(status))}{failed}.",
        *([f"\n> {_one_line(status.reason)}"] if status.reason else []),
        "",
        *_table([(name, _cell(value)) for name, value in rows.items() if value]),
        "",
        "Look closer, in a shell:",
        "",
        "```",
        *(f"starburst {verb}" for verb in verbs),
        "```",
    ]
    return "\n".join(lines)


def failure_rows(failures: list[Failure]) -> list[dict[str, Any]]:
    """Failures as the rows of a table."""
    return [
        {
            "item": failure.index,
            "kind": str(failure.kind),
            "error": failure.error,
            "message": _one_line(failure.message),
        }
        for failure in failures
    ]


def _ending(status: RunStatus) -> str:
    """The state; a run that went on to its end although items failed has not failed as a whole."""
    return "ended" if status.state is RunState.FAILED else str(status.state)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE else f"{line[: _MESSAGE - 1]}…"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Rows of two columns; the first is the head, which markdown does not do without."""
    lines = [f"| {name} | {value} |" for name, value in rows]
    return [lines[0], "|---|---|", *lines[1:]]

"""A run under way in; what Prefect's UI shows of it out: artifacts and labels, kept true until all is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext

from prefect_starburst.home.summary import ended_text, failure_rows, key_part, percent, progress_text, summary_text
from prefect_starburst.internals import before_events_end, client_settings, tls
from starburst_common import Run, RunStatus
from starburst_common.spi import Watching, our_log

_log = our_log("prefect.task_runner.starburst")

_FIRST_S = 3.0  #: a run that is over sooner is told of when it is
_AFTER_S = 0.5  #: after which it is, unless the interpreter ends
_EVERY_S = 5.0  #: between two updates of a progress artifact, at least
_IDLE_S = 30.0  #: and at most
_TIMEOUT_S = 20.0  #: of one request
_PATIENCE_S = 10.0  #: to wait at the interpreter's end for what Prefect has not been told yet
_ROWS = 100  #: of a failure table

#: Labels of a flow run: its starburst runs, separated by commas, and what they would cost on Fargate together.
RUNS_LABEL, COST_LABEL = "starburst.run", "starburst.cost-usd"
_labels = threading.Lock()
_telling: set[Artifacts] = set()  #: whose run is over, and Prefect does not know all of it yet


class Artifacts:
    """Those of one run, for the flow run and task run in whose context this is made.

    A thread of its own does it. Whatever fails there is logged once, as a warning, and harms nobody.

    Args:
        run: what to tell of; `finish` is called when it is over. Its store is read after that, too.
        backend_name: where it runs.
        what: it in words, such as "burst of score"; markdown.
        name: in the keys of its artifacts, beside the flow's or the deployment's: runs of equal keys are a history.
        submitted: how many items there are so far, for a run that does not know before its end.
    """

    def __init__(
        self, run: Run, backend_name: str, *, what: str, name: str, submitted: Callable[[], int] | None = None
    ) -> None:
        flow, task = FlowRunContext.get(), TaskRunContext.get()
        self._task_run: UUID | None = task.task_run.id if task else None
        self._flow_run: UUID | None = flow.flow_run.id if flow and flow.flow_run else None
        self._deployment: UUID | None = flow.flow_run.deployment_id if flow and flow.flow_run else None
        self._names = [flow.flow.name if flow and flow.flow else "", name]
        self._run, self._backend, self._what, self._submitted = run, backend_name, what, submitted
        self._artifact: UUID | None = None
        self._shown: tuple[float, str] | None = None
        self._watching = Watching(run, every_s=_EVERY_S, idle_s=_IDLE_S)
        self._ended, self._hurry = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._warned = False

    def start(self) -> None:
        """Show the progress from now on; nothing outside of a flow or task."""
        if self._thread is None and (self._flow_run or self._task_run):
            self._thread = threading.Thread(
                target=copy_context().run, args=(self._keep,), name=f"starburst-artifacts-{self._run.id}", daemon=True
            )
            self._thread.start()

    def finish(self) -> None:
        """Have it told how the run ended, while the flow goes on; `wait_until_told` waits for it."""
        if self._thread is not None and not self._ended.is_set():
            _telling.add(self)
            self._ended.set()
            self._watching.close()
            before_events_end(wait_until_told)

    def wait(self, deadline: float) -> None:
        """Until all is told, or `time.monotonic` is at the deadline."""
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                self._warn(f"Prefect's API took longer than {_PATIENCE_S:.0f} s")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """With one client for all: to make one costs as much as ten task runs."""
        if self._ended.wait(_FIRST_S):
            self._hurry.wait(_AFTER_S)  # the flow is about to end, too: that goes first
        try:
            with (
                client_settings(max_retries=3),
                get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT_S, **tls()}) as client,
            ):
                self._attempt(self._name_deployment, client)
                if not self._ended.is_set():
                    self._attempt(self._label, client)
                    self._attempt(self._show_progress, client, self._run.status())
                for status in self._watching:
                    self._attempt(self._show_progress, client, status)
                self._ended.wait()
                self._attempt(self._show_end, client)
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
            how = "has ended" if self._ended.is_set() else "goes on"
            _log.warning("run %s %s, but Prefect does not show all of it: %s", self._run.id, how, why)

    def _name_deployment(self, client: SyncPrefectClient) -> None:
        if self._deployment is not None:
            self._names.insert(1, client.read_deployment(self._deployment).name)

    def _create(self, client: SyncPrefectClient, kind: str, name: str, description: str, data: Any) -> UUID:
        artifact = ArtifactCreate(
            key="-".join(filter(None, ["starburst", name, *map(key_part, self._names)])),
            type=kind,
            description=description,
            data=data,
            flow_run_id=self._flow_run,
            task_run_id=self._task_run,
        )
        return client.create_artifact(artifact).id

    def _show_progress(self, client: SyncPrefectClient, status: RunStatus) -> None:
        self._show(client, self._progress(status))

    def _progress(self, status: RunStatus) -> tuple[float, str]:
        expected = self._submitted() if self._submitted is not None and status.items is None else status.items
        return percent(status, expected), progress_text(status, expected, self._what)

    def _show(self, client: SyncPrefectClient, shown: tuple[float, str]) -> None:
        if self._artifact is None:
            self._artifact = self._create(client, "progress", "progress", shown[1], shown[0])
        elif shown != self._shown:
            client.update_artifact(self._artifact, ArtifactUpdate(data=shown[0], description=shown[1]))
        self._shown = shown

    def _show_end(self, client: SyncPrefectClient) -> None:
        status, report = self._run.status(), self._report()
        self._show(client, self._progress(status))
        failures = self._run.failures() if status.failed else []
        if failures:
            rows = failure_rows(failures[:_ROWS])
            told = f"**{self._what}**: {len(failures):,} failed item{'s' * (len(failures) != 1)}"
            if len(rows) < len(failures):
                told += f" (the first {len(rows)}; all: `starburst failures {self._run.id} -n 0`)"
            else:
                told += f" · `{self._run.id}`"
            self._create(client, "table", "failures", told, json.dumps(rows))
        first = failures[0] if failures else None
        summary = summary_text(self._run, status, self._backend, self._what, first=first, report=report)
        estimate = self._run.estimate(status)
        self._create(client, "markdown", "summary", ended_text(status, self._what, str(estimate)), summary)
        self._label(client, usd=None if estimate.usd is None else float(estimate.usd))

    def _report(self) -> str:
        """Where the run's page is, which is written anew; nothing if it could not be."""
        try:
            return self._run.report()
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")
            return ""

    def _label(self, client: SyncPrefectClient, usd: float | None = None) -> None:
        """Add the run to those of its flow run, of all attempts, and what it has cost to their sum."""
        if self._flow_run is None:
            return
        with _labels:
            before = client.read_flow_run(self._flow_run).labels
            runs = [*filter(None, str(before.get(RUNS_LABEL, "")).split(",")), str(self._run.id)]
            labels: dict[str, Any] = {RUNS_LABEL: ",".join(dict.fromkeys(runs))}
            if usd is not None:
                labels[COST_LABEL] = round(float(before.get(COST_LABEL, 0)) + usd, 6)
            client.update_flow_run_labels(self._flow_run, labels)


def wait_until_told() -> None:
    """Until Prefect knows how all runs ended that are over, ten seconds at most. So does the interpreter at its end."""
    deadline = time.monotonic() + _PATIENCE_S
    for artifacts in tuple(_telling):
        artifacts.wait(deadline)

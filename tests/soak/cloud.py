"""The test bed's AWS in; a backend on it, and what can happen to it, out."""

from __future__ import annotations

import atexit
import json
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from starburst_common.names import FLEETS
from starburst_common.ports import Backend
from starburst_common.runs.prune import prune
from tests.places import aws_text, environment
from tests.soak.schedules import Trouble
from tests.soak.weather import CALM, CONDITIONS, SCRIPTED
from tests.testbed.bed import Bed

_PACE = {"lease_s": 6.0, "chunk_s": 1.0, "look_s": 2.0, "idle_s": 6.0}
_ABANDONED_S = 2 * 3600.0


class Cloud:
    """The test bed, as after its start."""

    def __init__(self, folder: Path) -> None:
        self._bed = bed = _bed()
        bed.reset()
        self._rest = ExitStack()
        self.env = {name: value for name, value in bed.env.items() if name.startswith("AWS_")}
        self._rest.enter_context(environment(self.env))
        config = folder / "config.toml"
        config.write_text(bed.settings())
        self.env["STARBURST_CONFIG"] = str(config)
        self.text = json.dumps({**json.loads(aws_text(bed.site)), "pace": _PACE})

    def kinds(self) -> list[str]:
        """Calls that fail, conditions, and what happens to tasks."""
        tasks = ["killed", "supervisor killed", "stopped", "told to go", "interrupted"]
        return [*SCRIPTED, *CONDITIONS, *(f"task {what}" for what in tasks * 2), "expired credentials", "blackout"]

    def strike(self, trouble: Trouble) -> Callable[[], object] | None:
        """Make it, if there is somebody to strike; how it is ended."""
        bed, kind = self._bed, trouble.kind
        if kind in SCRIPTED:
            bed.fault(**SCRIPTED[kind])
            return bed.clear_faults
        if kind in CONDITIONS:
            bed.set(**CONDITIONS[kind])
            return lambda: bed.set(**CALM)
        if kind == "blackout":
            bed.blackout(trouble.lasts_s)
            return None
        tasks = sorted(task["id"] for task in bed.tasks() if task["running"] and task["desired_status"] == "RUNNING")
        if not tasks:
            return None
        one = [tasks[trouble.who % len(tasks)]]
        if kind == "expired credentials":
            bed.expire(task=one[0])
        elif kind == "task killed":
            bed.kill(one)
        elif kind == "task supervisor killed":
            bed.signal(signal.SIGKILL, tasks=one)
        elif kind == "task stopped":
            bed.signal(signal.SIGSTOP, tasks=one)
            return lambda: bed.signal(signal.SIGCONT, tasks=one)
        elif kind == "task told to go":
            with suppress(ClientError, BotoCoreError):  # another trouble hits us too
                bed.boto("ecs").stop_task(cluster=bed.site["cluster"], task=one[0], reason="a trouble")
        else:
            bed.interrupt_spot(tasks=one)
        return None

    def left(self, backend: Backend, *, pruned: bool) -> list[str]:
        """Tasks first; what a killed driver left is there until somebody prunes."""
        found = self._bed.leftovers()
        left = [f"{kind} {name}" for kind in ("tasks", "processes") for name in found[kind]]
        if left or not pruned:
            return [*left, *self._rest_of(found)]
        prune(backend, now=time.time() + _ABANDONED_S)
        return self._rest_of(self._bed.leftovers())

    @staticmethod
    def _rest_of(found: dict[str, list[str]]) -> list[str]:
        queues = [f"queue {name}" for name in found["queues"]]
        return [*queues, *(f"object {key}" for key in found["objects"] if key.startswith(FLEETS))]

    def close(self) -> None:
        """All trouble ends."""
        self._bed.reset()
        self._rest.close()


@cache
def _bed() -> Bed:
    """One for all schedules of this process."""
    rest = ExitStack()
    atexit.register(rest.close)
    return rest.enter_context(Bed())

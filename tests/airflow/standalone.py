"""A whole Airflow on loopback: what `airflow standalone` starts, each component to be killed and started again.

It has a home and a database of its own, and is spoken to as users do, through the REST API. What stands in its
connections, and where its DAGs lie, is given; nothing here imports Airflow.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.leftovers import alive

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0  #: for what comes of itself: many times what it takes
COMPONENTS = {
    "api-server": ["api-server", "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


def until(holds: Callable[[], Any], what: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """Wait for something true, which is returned; else `what` says how it stands."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)
    return found


@dataclass
class Airflow:
    """Its components, by their names, and its REST API."""

    home: Path
    url: str
    variables: dict[str, str]
    launcher: subprocess.Popen[str]
    pids: dict[str, int] = field(default_factory=dict)
    _token: str = ""

    # --- components ---------------------------------------------------------------------------------------------------

    def start(self, name: str, **variables: str) -> None:
        """Start a component, with further variables."""
        self.pids[name] = self._launch(COMPONENTS[name], name, variables)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End it, by a signal to it and to what it started that is of its process group."""
        pid = self.pids.pop(name)
        os.killpg(pid, number)
        until(lambda: not alive(pid), lambda: f"{name} goes on: {self.told(name)}")

    def until_ready(self, *dags: str) -> None:
        """Wait for each component to have given a sign of life, and for these DAGs to be known."""
        until(self._healthy, lambda: {name: self.told(name) for name in COMPONENTS})
        until(
            lambda: {*dags} <= {each["dag_id"] for each in self.get("dags", limit="100")["dags"]},
            lambda: (self.get("importErrors"), self.told("dag-processor")),
        )

    def told(self, name: str) -> str:
        """The end of what a component has printed."""
        file = self.home / f"{name}.log"
        return file.read_text()[-3000:] if file.exists() else ""

    def _launch(self, argv: list[str], name: str, variables: Mapping[str, str]) -> int:
        assert self.launcher.stdin and self.launcher.stdout
        asked = {"argv": argv, "log": str(self.home / f"{name}.log"), "variables": {**self.variables, **variables}}
        print(json.dumps(asked), file=self.launcher.stdin, flush=True)
        return int(json.loads(self.launcher.stdout.readline())["pid"])

    def _healthy(self) -> bool:
        try:
            told = self.get("monitor/health")
        except OSError:
            return False
        return all(told[each]["status"] == "healthy" for each in ("scheduler", "dag_processor", "triggerer"))

    # --- REST ---------------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> Any:
        """What the API answers."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return self._call("GET", f"{path}?{asked}" if asked else path, None)

    def send(self, method: str, path: str, **body: Any) -> Any:
        """The same, where something is to be done."""
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        if not self._token:
            self._token = self._answer(urllib.request.Request(f"{self.url}/auth/token"))["access_token"]
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        return self._answer(urllib.request.Request(f"{self.url}/api/v2/{path}", data, headers, method=method))

    def _answer(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{request.method} {request.full_url}: {error}: {error.read()!r}") from None

    # --- DAGs' runs ---------------------------------------------------------------------------------------------------

    def runs(self, dag: str) -> list[DagRun]:
        """Those that there are, the oldest first."""
        found = self.get(f"dags/{dag}/dagRuns", order_by="run_after")["dag_runs"]
        return [DagRun(self, dag, each["dag_run_id"]) for each in found]

    def unpause(self, dag: str) -> None:
        """Let a DAG be scheduled."""
        self.send("PATCH", f"dags/{dag}", is_paused=False)

    def begin(self, dag: str, **conf: Any) -> DagRun:
        """A new run of a DAG."""
        self.unpause(dag)
        told = self.send("POST", f"dags/{dag}/dagRuns", logical_date=None, conf=conf)
        return DagRun(self, dag, told["dag_run_id"])


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG, and its tasks' instances."""

    airflow: Airflow
    dag: str
    id: str

    @property
    def _path(self) -> str:
        return f"dags/{self.dag}/dagRuns/{self.id}"

    def ended(self, state: str = "success", within_s: float = PATIENCE_S) -> None:
        """Wait for its end, which is to be this one."""
        over = ("success", "failed")
        until(lambda: self.airflow.get(self._path)["state"] in over, self.told, within_s)
        assert self.airflow.get(self._path)["state"] == state, self.told()

    def told(self) -> str:
        """How its tasks stand, and what their logs say, for who reads why a test failed."""
        lines = []
        for each in self.airflow.get(f"{self._path}/taskInstances", limit="20")["task_instances"]:
            name, number, index = each["task_id"], each["try_number"], each["map_index"]
            lines += [f"{name}[{index}] try {number}: {each['state']}", *self.log(name, number, index)[-30:]]
        return "\n".join([*lines, self.airflow.told("scheduler"), self.airflow.told("triggerer")])

    def task(self, name: str, index: int = -1) -> dict[str, Any]:
        """A task's instance as the API has it."""
        return dict(self.airflow.get(f"{self._path}/taskInstances/{name}{_mapped(index)}"))

    def mapped(self, name: str) -> int:
        """How many instances a mapped task has."""
        return int(self.airflow.get(f"{self._path}/taskInstances/{name}/listMapped", limit="1")["total_entries"])

    def until(self, state: str, name: str = "scores", *, tries: int = 1) -> None:
        """Wait for a task to be in that state, in this try or a later one."""

        def holds() -> bool:
            told = self.task(name)
            return bool(told["state"] == state and told["try_number"] >= tries)

        until(holds, self.told)

    def xcom(self, key: str, name: str = "scores", index: int = -1) -> Any:
        """What a task has pushed under a key."""
        path = f"{self._path}/taskInstances/{name}/xcomEntries/{key}"
        return self.airflow.get(path, map_index=str(index))["value"]

    def xcoms(self, name: str = "scores") -> set[str]:
        """The keys under which a task has pushed something."""
        told = self.airflow.get(f"{self._path}/taskInstances/{name}/xcomEntries")["xcom_entries"]
        return {each["key"] for each in told}

    def links(self, name: str = "scores") -> dict[str, str | None]:
        """A task's links."""
        return dict(self.airflow.get(f"{self._path}/taskInstances/{name}/links")["extra_links"])

    def log(self, name: str = "scores", tries: int = 1, index: int = -1) -> list[str]:
        """What a try's log says, its trigger's included."""
        path = f"{self._path}/taskInstances/{name}/logs/{tries}"
        content = self.airflow.get(path, map_index=str(index), full_content="true")["content"]
        return [each["event"] if isinstance(each, dict) else str(each) for each in content]

    def mark(self, state: str, name: str = "scores") -> None:
        """As somebody marks a task by hand."""
        self.airflow.send("PATCH", f"{self._path}/taskInstances/{name}", new_state=state)

    def clear(self, *names: str) -> None:
        """As somebody clears tasks by hand."""
        asked = {"dry_run": False, "dag_run_id": self.id, "task_ids": names, "only_failed": False}
        self.airflow.send("POST", f"dags/{self.dag}/clearTaskInstances", **asked, reset_dag_runs=True)

    def give_up(self) -> None:
        """End it as failed, and what it has at work."""
        self.airflow.send("PATCH", self._path, state="failed")


def _mapped(index: int) -> str:
    return "" if index < 0 else f"/{index}"


@contextmanager
def started(home: Path, dags: Path, connections: Callable[[], Mapping[str, str]]) -> Iterator[Airflow]:
    """An Airflow that runs for as long as the context; what its variables are may be found out meanwhile."""
    with ExitStack() as stack:
        port = _free_port()
        settings = _settings(home, dags, port)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "STARBURST_"))}
        launcher = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.airflow.components", str(home / "launcher.log")],
                cwd=ROOT,
                env=kept | settings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context((home / "launcher.log").open("ab")),
                text=True,
                start_new_session=True,  # it ends with its standard input, and never before what it started
            )
        )
        stack.callback(_end, launcher)
        variables = dict(connections())
        assert launcher.stdout
        assert json.loads(launcher.stdout.readline() or "{}").get("migrated"), (home / "launcher.log").read_text()
        airflow = Airflow(home, f"http://127.0.0.1:{port}", variables, launcher)
        for name in COMPONENTS:
            airflow.start(name)
        yield airflow


def _settings(home: Path, dags: Path, port: int) -> dict[str, str]:
    """As of `airflow.cfg`: a small Airflow that soon sees that a triggerer is dead."""
    url = f"http://127.0.0.1:{port}"
    sections: dict[str, dict[str, Any]] = {
        "api": {"host": "127.0.0.1", "port": port, "base_url": url, "secret_key": secrets.token_hex(16)},
        "api_auth": {"jwt_secret": secrets.token_hex(32)},
        "core": {
            "dags_folder": dags,
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": 3,
            "simple_auth_manager_all_admins": True,
            "fernet_key": "",
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{home}/airflow.db?timeout=120"},
        "dag_processor": {"parsing_processes": 1},
        # the tasks of a scheduler that gives no sign of life for so long are begun again: on a busy machine, its own
        "scheduler": {"scheduler_idle_sleep_time": 0.5, "scheduler_health_check_threshold": 300},
        "triggerer": {"job_heartbeat_sec": 1, "triggerer_health_check_threshold": 15},
        "logging": {"colored_console_log": False},
    }
    named = {
        f"AIRFLOW__{section}__{name}".upper(): str(value)
        for section, pairs in sections.items()
        for name, value in pairs.items()
    }
    return {"AIRFLOW_HOME": str(home), "STARBURST_HOME": str(home / "starburst"), **named}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(launcher: subprocess.Popen[str]) -> None:
    """With all that it started."""
    assert launcher.stdin
    launcher.stdin.close()
    try:
        launcher.wait(20)
    except subprocess.TimeoutExpired:
        launcher.kill()

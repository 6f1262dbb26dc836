"""A DAG's file in; a whole Airflow that has it, and what one of its runs costs that Airflow, out.

Scheduler, triggerer, DAG processor and API server are processes of their own, and so are tasks, as the local executor
starts them. What they cost is read off /proc: that of a process, and of all its children that have ended.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAGS = Path(__file__).with_name("dags")
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_READY_S, _LONGEST_S = 180.0, 1800.0
_SETTLED_S = 5.0  #: until what one run leaves Airflow to do is done
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stage:
    """An Airflow that runs."""

    home: Path
    url: str
    parts: Mapping[str, subprocess.Popen[bytes]]

    def query(self, asked: str, *values: str) -> list[tuple[Any, ...]]:
        """What its database tells, for which Airflow itself does nothing."""
        with closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(asked, values).fetchall()

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, of each part with its children."""
        spent, parents = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                except OSError:  # it has ended meanwhile
                    continue
                parents[int(entry.name)] = int(fields[1])
                spent[int(entry.name)] = sum(map(int, fields[11:15])) / _TICKS
        roots = {process.pid: name for name, process in self.parts.items()}
        told = dict.fromkeys(self.parts, 0.0)
        for pid, seconds in spent.items():
            above = pid
            while above not in roots and above in parents:
                above = parents[above]
            if above in roots:
                told[roots[above]] += seconds
        return told

    def run(self, dag: str, *, idle_s: float = 15.0) -> dict[str, float]:
        """One run of a DAG, from the request for it to its end; also above what an idle Airflow takes in that time."""
        idle = sum(self.cpu_s().values())
        time.sleep(idle_s)
        before, began = self.cpu_s(), time.perf_counter()
        idle = (sum(before.values()) - idle) / idle_s if idle_s else 0.0
        _asked(self.url, f"/api/v2/dags/{dag}/dagRuns", self._token(), {"logical_date": None})
        while (state := self._state(dag)) not in ("success", "failed"):
            if time.perf_counter() - began > _LONGEST_S:
                raise TimeoutError(f"{dag} is {state} after {_LONGEST_S:g} s")
            time.sleep(0.2)
        took_s = time.perf_counter() - began
        parts = {name: seconds - before[name] for name, seconds in self.cpu_s().items()}
        counts = dict(self.query("SELECT state, count(*) FROM task_instance WHERE dag_id = ? GROUP BY state", dag))
        lost = sum(count for name, count in counts.items() if name != "success")
        cpu_s = sum(parts.values())
        return {"took_s": took_s, "cpu_s": cpu_s, "above_idle_s": cpu_s - idle * took_s, "lost": lost, **parts}

    def _state(self, dag: str) -> str:
        found = self.query("SELECT state FROM dag_run WHERE dag_id = ?", dag)
        return str(found[0][0]) if found else ""

    def _token(self) -> str:
        return str(_asked(self.url, "/auth/token")["access_token"])


def _asked(url: str, path: str, token: str = "", body: object = None) -> dict[str, object]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _variables(home: Path, port: int) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # more of them, and SQLite is locked too often
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "128",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=120",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }


@contextmanager
def airflow(dags: str, variables: Mapping[str, str]) -> Iterator[Stage]:
    """An Airflow with one of the files of `dags/`, and these variables; up, and with what it loads but once loaded."""
    home, port = Path(os.environ["STARBURST_HOME"]) / "airflow", _free_port()
    (home / "dags").mkdir(parents=True)
    shutil.copy(DAGS / f"{dags}.py", home / "dags")
    env = os.environ | _variables(home, port) | dict(variables)
    command, log = [sys.executable, "-m", "airflow"], (home / "log").open("wb")
    with log:
        subprocess.run([*command, "db", "migrate"], env=env, stdout=log, stderr=log, check=True, timeout=_READY_S)
        started = {
            part: subprocess.Popen([*command, part], env=env, stdout=log, stderr=log, start_new_session=True)
            for part in PARTS
        }
        stage = Stage(home, f"http://127.0.0.1:{port}", started)
        try:
            _ready(stage)
            stage.run("warming", idle_s=0.0)
            time.sleep(_SETTLED_S)
            yield stage
        finally:
            for process in started.values():
                process.terminate()
            for process in started.values():
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _ready(stage: Stage) -> None:
    until = time.monotonic() + _READY_S
    while True:
        try:
            _asked(stage.url, "/api/v2/version")
            if stage.query("SELECT count(DISTINCT dag_id) FROM serialized_dag")[0][0] == 2:
                break
        except (OSError, sqlite3.OperationalError):
            pass
        if time.monotonic() > until:
            raise TimeoutError(f"Airflow was not ready in {_READY_S:g} s:\n{(stage.home / 'log').read_text()[-4000:]}")
        time.sleep(0.5)

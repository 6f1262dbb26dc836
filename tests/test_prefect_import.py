"""A worker imports Prefect, which takes seconds, only for a call that needs it; and then it finds all it would have."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from prefect.tasks import Task

from prefect_starburst.home.callables import Callables
from starburst_common.pickling.byvalue import dumps
from tests.prefect_server import PATIENCE_S, PrefectServer

SCRIPT = """
import json
from prefect import flow, task
from prefect_starburst import StarburstTaskRunner

@task
def plain(x, *more, **named):
    import sys
    return [x, list(more), named, "prefect" in sys.modules]

@task
def lazy(x):
    from prefect import get_run_logger
    import prefect.runtime
    get_run_logger().warning("said on the worker: %s", x)
    return [prefect.runtime.task_run.name, prefect.runtime.flow_run.name]

@task
def bounded(x):
    import sys
    return "prefect" in sys.modules

@flow(task_runner=StarburstTaskRunner(workers=1, backend="local"))
def all_of_them():
    first = plain.submit(1, 2, 3, key=4).result()
    asked = lazy.submit(5).result()
    after = plain.submit(6).result()
    return [first, asked, after, bounded.with_options(timeout_seconds=30).submit(1).result()]

if __name__ == "__main__":
    print(json.dumps(all_of_them()))
"""


@pytest.mark.contract
def test_prefect_is_imported_on_a_worker_only_when_it_is_needed(prefect_server: PrefectServer, tmp_path: Path) -> None:
    """A plain function runs without it; one that imports it while it runs finds its run, its logger and its flow.

    The script has no server: Prefect starts one for it, which has all that it is told as the script ends.
    """
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "prefect").mkdir()
    shutil.copy(prefect_server.database, tmp_path / "prefect" / "prefect.db")
    env = {
        **{name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
        "STARBURST_HOME": str(tmp_path / "home"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(PATIENCE_S)),
    }
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    first, asked, after, bounded = json.loads(done.stdout.splitlines()[-1])
    assert first == [1, [2, 3], {"key": 4}, False]
    assert asked[0].startswith("lazy-")
    assert asked[1]
    assert after == [6, [], {}, True]
    assert bounded is True
    assert "said on the worker: 5" in done.stderr
    assert "Traceback" not in done.stderr
    with closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as database:
        (summaries,) = database.execute("SELECT count(*) FROM artifact WHERE key LIKE 'starburst-summary-%'").fetchone()
    assert summaries == 1


@pytest.mark.rest
def test_what_a_call_needs_of_prefect_is_there_before_its_clock_runs() -> None:
    """It is loaded with the function, not within an item, whose timeout may be short."""

    async def waits() -> None: ...

    def plain() -> None: ...

    tasks = [Task(plain), Task(waits), Task(plain, timeout_seconds=1)]
    look = "import pickle, sys; pickle.load(sys.stdin.buffer); print('prefect_starburst.away.contexts' in sys.modules)"
    for task in tasks:
        call = dumps(Callables().of(task).call)
        done = subprocess.run([sys.executable, "-c", look], input=call, capture_output=True, check=True)
        assert done.stdout.strip() == (b"False" if task is tasks[0] else b"True")

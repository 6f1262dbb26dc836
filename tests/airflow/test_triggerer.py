"""Many runs in one triggerer of Airflow's own."""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from starburst_common import Cluster
from starburst_common.local import local_backend
from tests.airflow.standalone import until
from tests.airflow.triggerer import watching

AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
RUNS = 200
QUIET_S = 20.0  #: two looks of each
OF_LOOP_S = 0.05  #: of its processor, for a trigger from its start to its end


def waits(folder: str) -> None:
    """Until somebody says so."""
    while not (Path(folder) / "over").exists():
        time.sleep(0.05)


@pytest.mark.rest
@pytest.mark.skipif(AIRFLOW < (3, 3), reason="its triggerer is that of Airflow 3.3")
def test_two_hundred_runs_end_in_one_triggerer_whose_loop_they_do_not_block(tmp_path: Path) -> None:
    """Each has a trigger that looks at it. On a busy machine Airflow's own work is late, too: what blocks the loop at
    each look, or each start, would do so hundreds of times.
    """
    said = {"conn_type": "starburst_ecs", "extra": {"backend": "local", "home": str(tmp_path / "here")}}
    backend = local_backend(tmp_path / "here")
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        runs = [cluster.start(waits, [str(tmp_path)]) for _ in range(RUNS)]
        variables = {"AIRFLOW_CONN_STARBURST_DEFAULT": json.dumps(said)}
        (tmp_path / "airflow").mkdir()
        with watching(tmp_path / "airflow", RUNS, variables) as watched:
            began, before = time.time(), watched.cost()
            task = watched.begin([run.id for run in runs])
            until(lambda: watched.airflow.told("triggerer").count(f"{RUNS} triggers currently running"), task.told)
            started, time_s = watched.cost(), time.monotonic()
            time.sleep(QUIET_S)
            ended, time_s = watched.cost(), time.monotonic() - time_s
            (tmp_path / "over").touch()
            until(lambda: not watched.deferred(task), task.told)
            blocked = watched.blocked(began)
            told = {
                "MiB": ended["mib"] - before["mib"],
                "loop's CPU, %": (ended["loop_s"] - started["loop_s"]) / time_s * 100,
                "CPU, %": (ended["cpu_s"] - started["cpu_s"]) / time_s * 100,
                "blocked": blocked,
            }
            print(told, os.getloadavg())
            assert ended["loop_s"] - before["loop_s"] < RUNS * OF_LOOP_S, told
            assert len(watched.ours(blocked)) < RUNS / 20, told
    backend.close()

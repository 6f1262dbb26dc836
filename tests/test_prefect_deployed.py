"""A flow as its deployment runs it: loaded from a file of a package, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tests.prefect_bed import home
from tests.prefect_server import PATIENCE_S

__all__ = ["home"]  # pytest takes the fixture from here

FLOWS = """
import sys
from pathlib import Path

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_starburst import StarburstTaskRunner

from .helpers import Rate, helper

@task
def helped(x):
    return helper(x)


@task
def rates(given):
    return isinstance(given, Rate), Rate(given.value)


@task
def reads_and_writes(name):
    Path("out").mkdir(exist_ok=True)
    return Path("out", name).write_text(Path("in.txt").read_text())


def only_503(task, task_run, state):
    try:
        state.result()
    except httpx.HTTPStatusError as error:
        return error.response.status_code == 503


@task(retries=2, retry_condition_fn=only_503)
def asks(status):
    with open(f"asked-{status}", "a") as file:
        file.write("x")
    httpx.Response(status, request=httpx.Request("GET", "http://example.org")).raise_for_status()


def body():
    known, rate = rates.submit(Rate(3)).result()
    factor = 1

    @task(cache_policy=NO_CACHE)
    def scaled(x):
        return factor * x

    scales = [scaled.submit(1).result()]
    factor = 2
    scales.append(scaled.submit(1).result())
    states = asks.map([503, 404])
    states.wait()
    files = {path.name: path.read_text() for path in Path().glob("asked-*")}
    written = reads_and_writes.map(["a", "b"]).result()
    return {
        "helped": helped.map([1, 2]).result(),
        "rates": [known, isinstance(rate, Rate), rate.value],
        "scales": scales,
        "asked": sorted(files.items()),
        "failed": [str(future.state.message)[:70] for future in states],
        "written": [written, sorted(str(path) for path in Path("out").iterdir())],
    }


threads = flow(name="threads", task_runner=ThreadPoolTaskRunner())(body)
workers = flow(name="workers", task_runner=StarburstTaskRunner(workers=2, backend="local"))(body)
"""
HELPERS = """

class Rate:
    def __init__(self, value):
        self.value = value


def helper(x):
    return 10 * x
"""
RUN = """
import json, sys
from prefect.flows import load_flow_from_entrypoint

print(json.dumps(load_flow_from_entrypoint(sys.argv[1])()))
"""


@pytest.mark.contract
def test_a_flow_of_a_file_in_a_package_is_as_with_threads(tmp_path: Path, home: Path) -> None:
    """Relative imports, classes of its package, state that changes, relative paths, and conditions on exceptions."""
    told = {}
    for kind in ("threads", "workers"):
        package = tmp_path / kind / "shop"
        package.mkdir(parents=True)
        for name, text in ("__init__", ""), ("helpers", HELPERS), ("flows", FLOWS):
            (package / f"{name}.py").write_text(text)
        (package.parent / "in.txt").write_text("four")
        done = subprocess.run(
            [sys.executable, "-c", RUN, f"shop/flows.py:{kind}"],
            env=os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value() or ""},
            cwd=package.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        told[kind] = json.loads(done.stdout.splitlines()[-1])
    assert told["workers"] == told["threads"]
    assert told["workers"]["helped"] == [10, 20]
    assert told["workers"]["rates"] == [True, True, 3]
    assert told["workers"]["scales"] == [1, 2]
    assert told["workers"]["asked"] == [["asked-404", "x"], ["asked-503", "xxx"]]
    assert told["workers"]["written"] == [[4, 4], ["out/a", "out/b"]]

"""`starburst status` without a run: what goes on, what it costs, and what is kept; what may not be seen says so."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from starburst_common import Cluster, RunState, holding, starburst_map
from starburst_common.errors import Unavailable
from starburst_common.ports import Backend
from starburst_common.ports.store import is_there
from starburst_common.runs.standing import held_fleets
from tests.leftovers import home_of
from tests.places import aws_text, open_place
from tests.ports import Port
from tests.test_cli import Shell
from tests.testbed.bed import Bed as Aws


def test_a_site_is_told_with_what_it_costs(aws: Aws, tmp_path: Path) -> None:
    """A run on a cluster, then the cluster alone, then nothing; an operator is refused none of it."""
    shell = Shell(tmp_path, env={**aws.env, **aws.as_user("operator")})
    backend = open_place(aws_text(aws.site))
    with Cluster(workers=2, cpu=1, backend=backend, progress=False) as cluster:
        run = cluster.start(time.sleep, [600, 600], label="long")
        aws.until(lambda: sum(task["last_status"] == "RUNNING" for task in aws.tasks()) == 2)
        told = shell("status").stdout
        assert "site     bed in us-east-1, account 123456789012, X86_64\n" in told
        assert f"runs     {run.id}  running 0%, long\n" in told
        assert (
            "fleets   1 with runs\nworkers  2 alive: 2 vCPU, $0.11 an hour (us-east-1, Fargate x86, prices of 20"
            in told
        )
        assert "kept     images: 0, 0 kB, $0.00 a month (every region, price of 20" in told
        assert f"next     starburst status {run.id}\n" in told
        read = json.loads(shell("status", "--json").stdout)
        assert (read["runs"], read["vcpu"], read["usd_per_hour"]) == ([run.id], 2.0, pytest.approx(0.10874))
        assert [(each["what"], each["unknown"]) for each in read["kept"]] == [
            ("images", ""),
            ("log", ""),
            ("objects", ""),
        ]
        run.cancel()
        run.wait()
        assert "runs     none goes on\nfleets   1 held by a cluster without one\n" in shell("status").stdout
    backend.close()
    assert "fleets   none\nworkers  none alive\n" in shell("status").stdout
    assert (tmp_path / "home").exists() is False


def test_what_may_not_be_seen_says_so(aws: Aws, tmp_path: Path) -> None:
    """The rest is told, with exit code 0."""
    aws.fault(service="logs", operation="DescribeLogGroups", code="AccessDeniedException", status=400)
    done = Shell(tmp_path, env=aws.env)("status")
    assert done.returncode == 0
    assert "log: not known: not allowed to do logs:DescribeLogGroups" in done.stdout
    assert "objects: 0, 0 kB, $0.00 a month" in done.stdout


def test_this_machine_is_told_in_short(tmp_path: Path) -> None:
    """Where runs are kept, how many, and what room there is; filters are of a run."""
    shell = Shell(tmp_path)
    told = shell("status").stdout
    assert f"home     {shell.home}\nruns     none goes on\nfleets   none\nworkers  none alive\n" in told
    assert "kept     0 runs, 0 kB; " in told and " GB free on that disk\n" in told
    done = shell("status", "--label", "x")
    assert done.returncode == 2 and "go with RUN: they say which run `last` means" in done.stderr


def test_a_cluster_whose_process_was_killed_holds_no_fleet(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as nothing was heard of it for some minutes; one that is there says so every minute."""
    shell = Shell(tmp_path, env={"STARBURST_HOME": str(home_of(backend))})
    with Cluster(workers=1, backend=backend, progress=False):
        (marker,) = (home_of(backend) / "store" / "fleets").glob("*/held-by/*")
        os.utime(marker, (time.time() - 720,) * 2)
        assert " nobody: its cluster was last heard of 12 min ago" in shell("fleets").stdout
        assert "fleets   1 that nobody needs: starburst gc\n" in shell("status").stdout
    monkeypatch.setattr(holding, "SIGN_S", 0.05)
    with Cluster(workers=1, backend=backend, progress=False):
        (marker,) = (home_of(backend) / "store" / "fleets").glob("*/held-by/*")
        os.utime(marker, (time.time() - 720,) * 2)
        until = time.monotonic() + 30
        while time.time() - marker.stat().st_mtime > 60 and time.monotonic() < until:
            time.sleep(0.02)
        (told,) = json.loads(shell("fleets", "--json").stdout)
        assert (told["clusters"], told["silent_clusters"]) == (1, 0)
    assert held_fleets(backend) == []


def test_a_cluster_that_closes_while_it_says_so_leaves_nothing(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that was written and nobody was told: its fleet is closed, and no marker stays."""
    signs, closes, stays = threading.Event(), threading.Event(), list[str]()

    def late(name: str, key: Any) -> None:
        if name == "list" and "/held-by/" in key and signs.is_set():
            closes.set()
            time.sleep(0.2)
        elif name == "put" and "/held-by/" in key and stays:
            signs.set()
            closes.wait(0.5)
            backend.store.put(key, b"")
            raise Unavailable("no answer came")
        elif name == "put" and "/held-by/" in key:
            stays.append(key)

    monkeypatch.setattr(holding, "SIGN_S", 0.05)
    with Cluster(workers=1, backend=replace(backend, store=Port(backend.store, late)), progress=False):
        assert signs.wait(30)
    assert held_fleets(backend) == [] and not is_there(backend.store, stays[0])


@pytest.mark.rest
def test_fleets_are_told_and_stopped(aws: Aws, tmp_path: Path) -> None:
    """Who has them, until when they are warm and what they cost; a run's is stopped once somebody agrees to its end."""
    shell, backend = Shell(tmp_path, env=aws.env), open_place(aws_text(aws.site))
    warm = {"workers": 1, "keep_warm": 300, "backend": backend, "progress": False}
    assert starburst_map(abs, [-1, 2], **warm) == [1, 2]
    (told,) = json.loads(shell("fleets", "--json").stdout)
    assert (told["workers"], told["idle"], told["size"]) == (1, 1, "1 vCPU, 2 GB, 1 slot")
    assert (told["runs"], told["clusters"], told["keep_warm_s"]) == ([], 0, 300)
    assert told["warm_until"] is not None and told["usd_per_hour"] == pytest.approx(0.05437)
    assert "nobody" in shell("fleets").stdout and "1 kept warm: starburst fleets\n" in shell("status").stdout
    assert told["id"] not in shell("gc", "--older-than", "0s").stdout
    with Cluster(**warm) as cluster:
        run = cluster.start(time.sleep, [600])
        aws.until(lambda: json.loads(shell("fleets", "--json").stdout)[0]["idle"] == 0)
        (used,) = json.loads(shell("fleets", "--json").stdout)
        assert (used["id"], used["runs"], used["clusters"]) == (told["id"], [run.id], 1)
        done = shell("fleets", "stop", told["id"])
        assert done.returncode == 2 and "say --yes" in done.stderr
        assert shell("fleets", "stop", told["id"], "--yes").stdout == f"{told['id']}: stopped, 1 worker\n"
        assert run.wait(60).state is RunState.CANCELLED
    aws.until(lambda: all(task["last_status"] == "STOPPED" for task in aws.tasks()))
    assert (shell("fleets", "--json").stdout, shell("fleets", "stop", "--all").stderr) == ("[]\n", "no fleets\n")
    assert shell("fleets", "stop", "fleet-1").returncode == 3 and shell("fleets", "stop").returncode == 2
    backend.close()

"""The bed's own process: what it promises of its start and of its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import tomllib

import pytest

from tests.testbed.bed import REPOSITORY, Bed
from tests.testbed.definitions import define, run
from tests.testbed.processes import marked


def test_its_settings_file_names_the_site(bed: Bed) -> None:
    """The file is TOML with a site table; what it names is there."""
    settings = tomllib.loads(bed.config.read_text())
    assert settings == {"backend": "aws", "site": bed.site}
    bed.boto("s3").head_bucket(Bucket=bed.site["bucket"])
    subnets = bed.boto("ec2").describe_subnets(SubnetIds=bed.site["subnets"])["Subnets"]
    assert sorted(subnet["AvailabilityZone"] for subnet in subnets) == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert bed.boto("ecs").describe_clusters(clusters=[bed.site["cluster"]])["clusters"][0]["status"] == "ACTIVE"


def test_leaving_it_ends_what_its_tasks_run() -> None:
    """No process outlives the bed."""
    with Bed() as bed:
        run(bed, define(bed), count=2)
        bed.until(lambda: len(bed.leftovers()["processes"]) == 2)
        server = bed.pid
        assert len(marked(server)) == 2
    assert marked(server) == {}


def test_it_ends_when_whoever_started_it_is_killed() -> None:
    """The server and its tasks end when its standard input closes."""
    script = (
        "import time\nfrom tests.testbed.bed import Bed\nfrom tests.testbed.definitions import define, run\n"
        "with Bed() as bed:\n"
        "    run(bed, define(bed))\n"
        "    bed.until(lambda: bed.leftovers()['processes'])\n"
        "    print(bed.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert starter.stdout
    with starter.stdout:
        server = int(starter.stdout.readline())
    assert len(marked(server)) == 1
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    until = time.monotonic() + 60
    while marked(server) and time.monotonic() < until:
        time.sleep(0.05)
    assert marked(server) == {}


def test_a_control_that_is_none_says_so(bed: Bed) -> None:
    """A misspelt condition is an error that lists the right ones."""
    with pytest.raises(ValueError, match=r"no such condition: pull_seconds; there are .*\bpull_s\b"):
        bed.set(pull_seconds=1)

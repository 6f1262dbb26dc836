"""The key that signs is its worker's alone: a function that looks through /proc finds it nowhere above it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from starburst_common import Cluster
from tests.faults.conftest import AwsBed
from tests.prying import Seen, pry
from tests.testbed.processes import CONTAINED


def shows_no(key: bytes, seen: Sequence[Seen]) -> None:
    """Slot, guard and worker were seen; the worker shows nothing of itself, and nobody the key.

    On this machine there is also what workers are forked from, which never has it.
    """
    assert len(seen) in (3, 4), [each.command for each in seen]
    assert [each.command for each in seen if key in each.command + each.environment] == []
    assert seen[0].environment and seen[0].memory, "a process sees itself"
    assert seen[2][1:] == (b"", False, [])


def test_a_function_on_aws_finds_no_key_above_it(aws_bed: AwsBed) -> None:
    """ECS starts a worker with the key in its environment, and the worker shows nothing of itself."""
    with Cluster(workers=1, backend=aws_bed.backend, progress=False) as cluster:
        shows_no(aws_bed.backend.key, cluster.map(pry, [0])[0])


_HERE = """
from pathlib import Path
from starburst_common import Cluster
from starburst_common.local import local_backend
from tests.faults.test_key import shows_no
from tests.prying import pry
home = Path(__import__("sys").argv[1])
with Cluster(workers=1, backend=local_backend(home), progress=False) as cluster:
    shows_no((home / "signing.key").read_bytes(), cluster.map(pry, [0])[0])
"""


def test_a_function_on_this_machine_finds_no_key_above_it(tmp_path: Path) -> None:
    """The same for a worker that is no container: with a user's rights, also where a test is root."""
    subprocess.run([*CONTAINED, sys.executable, "-c", _HERE, str(tmp_path / "home")], check=True, timeout=120)


def test_what_is_taken_is_gone_from_the_environment_at_birth_too() -> None:
    """What root sees of a worker, who may look into any process, is an empty variable; others stay as they were."""
    look = (
        "from starburst_worker.private import take; import json, os, pathlib\n"
        "said = [take('STARBURST_KEY'), 'STARBURST_KEY' in os.environ, os.environ['AFTER']]\n"
        "print(json.dumps([*said, pathlib.Path('/proc/self/environ').read_text().split('\\0')]))"
    )
    given = {"BEFORE": "b", "STARBURST_KEY": "secret", "AFTER": "a"}
    done = subprocess.run([sys.executable, "-c", look], env=given, stdout=subprocess.PIPE, check=True, timeout=60)
    *said, at_birth = json.loads(done.stdout)
    assert said == ["secret", False, "a"]
    assert {"BEFORE=b", "STARBURST_KEY=", "AFTER=a"} <= set(at_birth) and "secret" not in "".join(at_birth)


def test_who_stands_above_a_worker_and_has_the_key_is_named(aws_bed: AwsBed) -> None:
    """An entry point that is a shell keeps the environment that it was started with: its worker says so in its log."""
    aws_bed.aws.set(command=["sh", "-c", f"{sys.executable} -P -m starburst_worker; exit $?"])
    backend = aws_bed.backend
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        seen = cluster.map(pry, [0])[0]
        assert backend.key in seen[-1].environment, "the shell shows it"
        (fleet,) = backend.compute.fleets()
        (worker,) = aws_bed.workers()
        said = "functions can read the site's key in the environment of process"
        aws_bed.until(lambda: said in backend.compute.tail(fleet, worker))

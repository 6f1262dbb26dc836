"""The test bed as tests and people use it: a server process of its own, and a method per control."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3

from tests.testbed.clock import Clock
from tests.testbed.conditions import ADMINISTRATOR
from tests.testbed.processes import marked
from tests.testbed.settings import settings_text

REPOSITORY = Path(__file__).resolve().parents[2]


class Bed:
    """Starts the server on entering and ends it, with all its tasks, on leaving."""

    def __init__(
        self, *, workers: str = "process", port: int = 0, region: str = "us-east-1", named: bool = False
    ) -> None:
        self._workers = workers
        self._port = port
        self._region = region  #: where its site is
        self._named = ["--named"] if named else []  #: found by AWS's own names, and by TLS
        self._folder = tempfile.TemporaryDirectory(prefix="starburst-bed-")
        self.config = Path(self._folder.name) / "config.toml"
        self.env: dict[str, str] = {}  #: what a program needs to use the bed as its AWS
        self.site: dict[str, Any] = {}  #: the settings file's site table
        self.clock = Clock()  #: what the services go by, for a `clock=` of what speaks to them
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.testbed", "--attached", "--workers", self._workers]
        self._process = subprocess.Popen(
            [*command, *self._named, "--port", str(self._port), "--config", str(self.config)],
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STARBURST_"))}
            | {"BED_REGION": self._region},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        began = time.monotonic()
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError("the test bed did not start: see its standard error above")
        ready = json.loads(line)
        self.env, self.site = ready["env"], ready["site"]
        self.pid: int = ready["pid"]  #: of the server
        self.build_role: str = ready["build_role"]  #: CodeBuild may assume it
        self.keys: dict[str, tuple[str, str]] = ready["keys"]  #: of `tests.testbed.site.USERS`; `env` has the driver's
        self.repository: str = ready["repository"]  #: what the site's images are called, as in the setting `image`
        self.start_s = time.monotonic() - began  #: how long the start took
        self.endpoint: str = ready["endpoint"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        for pid in marked(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._folder.cleanup()

    def boto(self, service: str, **options: Any) -> Any:
        """A boto3 client of the account's administrator, one for all who ask; with options, a new one that has them."""
        if not options and service in self._clients:
            return self._clients[service]
        session = boto3.Session(
            aws_access_key_id=ADMINISTRATOR,
            aws_secret_access_key="bed",
            region_name=self.env["AWS_REGION"],
        )
        client = session.client(service, **{"endpoint_url": self.endpoint, **options})  # type: ignore[call-overload]
        return client if options else self._clients.setdefault(service, client)

    def settings(self, *, image: bool = True, **more: Any) -> str:
        """A settings file's text: without `image`, images are built; more settings of the site may be named.

        The policies that are printed for such a site hold from now on.
        """
        site = {name: value for name, value in self.site.items() if image or name != "image"} | more
        self.grant(site)
        return settings_text(site)

    def grant(self, site: Mapping[str, Any], *, setup: bool = False) -> None:
        """From now on drivers, and the roles that a site names, may do what is printed for it.

        `setup`: who sets sites up may do there what a driver may.
        """
        self._call("grant", site=dict(site), setup=setup)

    def as_user(self, name: str) -> dict[str, str]:
        """What a program needs to be another of the users that `keys` has."""
        key, secret = self.keys[name]
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def new_key(self, user: str = "driver", named: str = "") -> dict[str, str]:
        """One more access key of a user, as `as_user` has the first; its name need not be like AWS's."""
        key, secret = self._call("key", user=user, named=named)
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def reset(self) -> None:
        """As after the start: tasks ended, everything but the site gone, nothing scripted, nothing counted."""
        self._call("reset")
        self.clock.reset()

    def set(self, **conditions: Any) -> dict[str, Any]:
        """Change any of `tests.testbed.conditions.Conditions`, by name; all of them come back."""
        return dict(self._call("conditions", **conditions))

    def quota(self, *, on_demand_vcpu: float | None = None, spot_vcpu: float | None = None) -> None:
        """Set how many vCPU may run at once."""
        asked = {"on_demand_vcpu": on_demand_vcpu, "spot_vcpu": spot_vcpu}
        self.set(**{name: value for name, value in asked.items() if value is not None})

    def capacity(self, *, zones: dict[str, int] | None = None, spot_zones: dict[str, int] | None = None) -> None:
        """Set how many tasks zones have room for; a zone not named has room without limit."""
        asked = {"zone_room": zones, "spot_zone_room": spot_zones}
        self.set(**{name: value for name, value in asked.items() if value is not None})

    def fault(self, **fault: Any) -> None:
        """Script a fault: the fields of `tests.testbed.faults.Fault`."""
        self._call("fault", **fault)

    def faults(self) -> list[dict[str, Any]]:
        """The script, with what each fault has hit."""
        return list(self._call("faults"))

    def clear_faults(self) -> None:
        """Drop the script."""
        self._call("faults", clear=True)

    def blackout(self, seconds: float) -> None:
        """From now on, and for so long, every AWS call loses its connection."""
        self._call("blackout", seconds=seconds)

    def expire(self, keys: list[str] | None = None, *, task: str | None = None) -> list[str]:
        """Expire access keys: those given, those issued to one task, or those issued to all."""
        return list(self._call("expire", keys=keys, task=task))

    def requests(self, *, reset: bool = False) -> dict[tuple[str, str], int]:
        """How many calls came, by service and operation."""
        return {(service, operation): n for service, operation, n in self._call("requests", reset=reset)}

    def hosts(self, service: str, *, of: str = "driver") -> frozenset[str]:
        """By which names of AWS's somebody has called a service: "" where by none."""
        found = self._call("hosts")
        return frozenset(host for host, asked, whose, _ in found if (asked, whose) == (service, of))

    def tasks(self) -> list[dict[str, Any]]:
        """All tasks as they truly are."""
        return list(self._call("tasks"))

    def signal(self, number: int, *, tasks: list[str] | None = None, count: int | None = None) -> list[str]:
        """Signal the first process of running tasks: those named, so many, or all. Their ids."""
        return list(self._call("signal", number=int(number), tasks=tasks, count=count))

    def interrupt_spot(
        self, *, count: int | None = None, share: float | None = None, tasks: list[str] | None = None
    ) -> list[str]:
        """Interrupt running Spot tasks: so many, such a share, those named, or all. Their ids."""
        return list(self._call("interrupt", count=count, share=share, tasks=tasks))

    def instances(self) -> list[dict[str, Any]]:
        """All instances that ECS has started, and ended since the reset."""
        return list(self._call("instances"))

    def take_back(
        self, *, count: int | None = None, share: float | None = None, instances: list[str] | None = None
    ) -> list[str]:
        """Have Spot take back so many instances, such a share, those named, or all: drained now, ended later. Ids."""
        return list(self._call("take_back", count=count, share=share, instances=instances))

    def kill(self, tasks: list[str]) -> list[str]:
        """SIGKILL everything in these running tasks. Their ids."""
        return list(self._call("kill", tasks=tasks))

    def kill_some(self, count: int) -> list[str]:
        """SIGKILL everything in so many running tasks, by seeded chance. Their ids."""
        return list(self._call("kill", count=count))

    def expire_images(self) -> dict[str, list[str]]:
        """Evaluate every lifecycle policy once: expired digests, by repository."""
        return dict(self._call("expire_images"))

    def elapse(self, seconds: float) -> None:
        """Move the clock of the bed's services ahead, and `clock` with it, for what of ours shares their time.

        Whatever ends with time in SQS, ECR, CodeBuild, credentials, rates and blackouts does. Processes that run keep
        the machine's clock, and tasks take their time to start and stop.
        """
        self._call("elapse", seconds=seconds)
        self.clock.elapse(seconds)

    def allowed(self) -> frozenset[tuple[str, str]]:
        """Whose policy allowed which actions that were called, since the reset."""
        return frozenset((kind, action) for kind, action in self._call("allowed"))

    def stop_clock(self) -> None:
        """Let that clock stand still, but for `elapse`, until `reset`: no poll of a queue ends meanwhile."""
        self._call("stop_clock")
        self.clock.stop()

    def polls(self) -> int:
        """How many receives wait for a message in SQS now."""
        return int(self._call("polls"))

    def leftovers(self) -> dict[str, list[str]]:
        """Tasks not stopped, processes, queues, and the bucket's objects, that there are now."""
        return dict(self._call("leftovers"))

    def until(self, holds: Any, *, within_s: float = 120.0, what: str = "") -> Any:
        """Wait for a function to give something true, and give that. Raises AssertionError."""
        for _ in _ticks(within_s):
            if found := holds():
                return found
        raise AssertionError(f"not within {within_s} s: {what or holds}")

    def _call(self, name: str, **body: Any) -> Any:
        request = urllib.request.Request(f"{self.endpoint}/_bed/{name}", data=json.dumps(body).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(json.load(error)["error"]) from None


def _ticks(within_s: float, each_s: float = 0.02) -> Iterator[None]:
    until = time.monotonic() + within_s
    yield
    while time.monotonic() < until:
        time.sleep(each_s)
        yield

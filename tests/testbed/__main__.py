"""`python -m tests.testbed`: serves until Ctrl-C or SIGTERM, or with --attached until standard input ends."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from werkzeug.serving import ThreadedWSGIServer, make_server

from tests.testbed.agent import Agent
from tests.testbed.bill import Bill
from tests.testbed.codebuild import CodeBuild
from tests.testbed.conditions import ACCOUNT, ADMINISTRATOR, REGION, Conditions
from tests.testbed.control import Control
from tests.testbed.distribution import Distribution
from tests.testbed.ecr import Ecr
from tests.testbed.ecs import Ecs
from tests.testbed.faults import Faults
from tests.testbed.front import Front, Handler
from tests.testbed.iam import Iam
from tests.testbed.images import Images
from tests.testbed.instances import Hosts
from tests.testbed.pricing import Pricing
from tests.testbed.processes import ProcessRunner
from tests.testbed.providers import Providers
from tests.testbed.pulls import Pulls
from tests.testbed.quotas import Quotas
from tests.testbed.runners import Runner
from tests.testbed.site import Site, make_site
from tests.testbed.sqs import Sqs
from tests.testbed.tasks import TaskStore
from tests.testbed.taskside import TaskSide
from tests.testbed.throttle import Throttle
from tests.testbed.tls import Authority, Proxy

FOLDER = "starburst-bed-"  #: begins the name of a folder made for a settings file alone


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--workers", choices=("process", "docker"), default="process")
    parser.add_argument("--config", type=Path, help="where to write the settings file")
    parser.add_argument("--attached", action="store_true", help="end when standard input closes; print one JSON line")
    parser.add_argument("--named", action="store_true", help="be found by AWS's own names, and speak TLS")
    asked = parser.parse_args()
    config = asked.config or Path(tempfile.mkdtemp(prefix=FOLDER)) / "config.toml"
    conditions, opened = Conditions(), ExitStack()
    server = _bind(asked.port)
    endpoint = f"http://127.0.0.1:{server.port}"
    distribution = Distribution(Images(), conditions, _registry)
    runner = Pulls(_runner(asked.workers, conditions, opened), distribution, really=asked.workers == "docker")
    iam = Iam(conditions)
    outside = _named(server, opened) if asked.named else {"AWS_ENDPOINT_URL": endpoint}
    tasks = TaskStore()
    providers = Providers(lambda name: any(task.provider == name for task in tasks.live()))
    hosts = Hosts(tasks, conditions, iam, providers)
    agent = Agent(runner, conditions, iam, endpoint, hosts, outside)
    ecs = Ecs(tasks, agent, conditions, Throttle(conditions), providers, hosts)
    front = _front(ecs, tasks, agent, distribution, conditions, iam, endpoint)
    server.app = front
    threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
    control = front.control
    control.site = make_site(endpoint)
    distribution.given = control.site.image
    config.write_text(control.site.toml())
    control.forget_requests()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    environment = outside | _environment(control.site, config)
    if asked.attached:
        site = control.site
        named = {
            "site": site.settings(),
            "build_role": site.build_role,
            "repository": site.repository,
            "keys": site.keys,
            "endpoint": endpoint,
        }
        print(json.dumps({"env": environment, "pid": os.getpid(), **named}), flush=True)
        threading.Thread(target=_until_closed, args=(ended,), daemon=True).start()
    else:
        print("\n".join(f"export {name}={value}" for name, value in environment.items()))
        print(f"# For what is not starburst's to do: AWS_ACCESS_KEY_ID={ADMINISTRATOR}, who may do everything.")
        print(
            "# Paste these lines into another shell and try `starburst --help` there; Ctrl-C ends the bed.", flush=True
        )
    ended.wait()
    agent.end_all(front.tasks.live())
    agent.close()
    control.close()
    opened.close()
    config.unlink(missing_ok=True)
    if config.parent.name.startswith(FOLDER):
        with suppress(OSError):
            config.parent.rmdir()
    os._exit(0)  # threads that wait on connections are not worth waiting for


def _named(server: ThreadedWSGIServer, opened: ExitStack) -> dict[str, str]:
    """How a process finds AWS by its names here."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER)))
    authority = Authority(folder)
    proxy = Proxy(server, authority)
    return {"HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1,localhost", "AWS_CA_BUNDLE": str(authority.file)}


def _bind(port: int) -> ThreadedWSGIServer:
    server = make_server("127.0.0.1", port, lambda _environ, _start: [], threaded=True, request_handler=Handler)
    assert isinstance(server, ThreadedWSGIServer)
    server.daemon_threads = True
    return server


def _runner(workers: str, conditions: Conditions, opened: ExitStack) -> Runner:
    if workers == "docker":
        from tests.testbed.containers import ContainerRunner
        from tests.testbed.engine import running_engine

        return ContainerRunner(opened.enter_context(running_engine()))
    return ProcessRunner(lambda: conditions.images)


def _registry() -> str | None:
    from tests.testbed.engine import registry_now

    return registry_now()


def _front(
    ecs: Ecs,
    tasks: TaskStore,
    agent: Agent,
    distribution: Distribution,
    conditions: Conditions,
    iam: Iam,
    endpoint: str,
) -> Front:
    faults, throttle = Faults(), ecs.throttle
    sqs = Sqs(conditions, account=ACCOUNT, region=REGION, endpoint=endpoint)
    ecr = Ecr(distribution, endpoint)
    codebuild = CodeBuild(conditions, iam, endpoint)
    task_side = TaskSide(tasks, iam, ecs.hosts)
    control = Control(
        conditions=conditions,
        tasks=tasks,
        agent=agent,
        ecs=ecs,
        ecr=ecr,
        distribution=distribution,
        codebuild=codebuild,
        sqs=sqs,
        task_side=task_side,
        faults=faults,
        throttle=throttle,
        iam=iam,
    )
    return Front(
        sqs=sqs,
        ecs=ecs,
        ecr=ecr,
        distribution=distribution,
        codebuild=codebuild,
        task_side=task_side,
        control=control,
        faults=faults,
        throttle=throttle,
        tasks=tasks,
        quotas=Quotas(conditions, tasks, ecs.hosts),
        pricing=Pricing(conditions),
        bill=Bill(conditions),
    )


def _environment(site: Site, config: Path) -> dict[str, str]:
    key, secret = site.keys["driver"]
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "STARBURST_CONFIG": str(config),
    }


def _until_closed(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main()

"""A site as a Prefect block, a runner's settings in the environment, and a flow that is deployed."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import boto3
import cloudpickle
import pytest
from prefect import Flow, flow, task
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.deployments import run_deployment
from pydantic import SecretStr, ValidationError

from prefect_starburst import StarburstTaskRunner, burst
from prefect_starburst.home.block import StarburstSite
from prefect_starburst.home.former import FLOW_RUN
from prefect_starburst.home.settings import PREFIX, resolve
from starburst_common import BadInput, RunState, RunStatus, list_runs, starburst_map
from starburst_common.aws.store import S3Objects
from starburst_common.backends import local_at
from starburst_common.errors import Denied
from starburst_common.ports import Backend
from starburst_common.sites.site import Site
from tests.leftovers import nothing_left
from tests.places import AWS_PACE, environment
from tests.policies import role_of_drivers
from tests.prefect_bed import speaking_to
from tests.prefect_server import PATIENCE_S, PrefectServer, until
from tests.testbed.bed import REPOSITORY
from tests.testbed.bed import Bed as Aws

EXAMPLE = "examples/prefect_deployment.py"

# --- the bed ----------------------------------------------------------------------------------------------------------


class Around:
    """A Prefect server, and the environment of processes that speak to it."""

    def __init__(self, home: Path, api: str) -> None:
        self.api = api
        self.starburst_home = home / "starburst"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "STARBURST_"))}
        self.env = {
            **kept,
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "STARBURST_HOME": str(self.starburst_home),
            "STARBURST_BACKEND": "local",
        }

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A process of Python's, in a group of its own."""
        return subprocess.Popen([sys.executable, *command], cwd=REPOSITORY, env=self.env, start_new_session=True)

    def run(self, *command: str) -> str:
        """What a command of Prefect's prints."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *command],
            cwd=REPOSITORY,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def ended(process: subprocess.Popen[bytes], number: int) -> int:
    """Signal a process, and wait for its end; its exit code. What is left of its group is killed."""
    try:
        process.send_signal(number)
        return process.wait(PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Around]:
    """The server, spoken to by this process too."""
    with speaking_to(prefect_server.api):
        yield Around(tmp_path_factory.mktemp("around"), prefect_server.api)


class Keys(Block):
    """Credentials, as a package that knows nothing of starburst would offer them."""

    _block_type_slug: ClassVar[str | None] = "test-keys"
    sessions: ClassVar[list[str]] = []

    key: str
    secret: SecretStr

    def get_boto3_session(self) -> boto3.session.Session:
        """A session without a region."""
        self.sessions.append(self.key)
        return boto3.session.Session(
            aws_access_key_id=self.key, aws_secret_access_key=self.secret.get_secret_value(), region_name="eu-west-3"
        )


@pytest.fixture
def nobody(aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    """The test bed, for a process that has no credentials for it."""
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    Keys.sessions.clear()
    for name in ("bed-driver", "bed-driver-renewed"):
        aws.new_key(named=name)
    return aws


def opened(site: StarburstSite) -> Backend:
    """Its backend, with the patience of a test."""
    return site.backend().paced(**AWS_PACE)


def access_key(backend: Backend) -> str:
    """With which the backend signs its requests now."""
    assert isinstance(backend.store, S3Objects)
    credentials = backend.store._clients.session.get_credentials()
    assert credentials is not None
    return credentials.get_frozen_credentials().access_key


ROLE = "arn:aws:iam::123456789012:role/starburst-driver"
SITE: dict[str, Any] = {
    "name": "main",
    "region": "us-east-1",
    "bucket": "my-starburst",
    "cluster": "my-cluster",
    "subnets": ["subnet-1", "subnet-2"],
    "execution_role": "arn:aws:iam::123456789012:role/starburst-execution",
    "task_role": "arn:aws:iam::123456789012:role/starburst-task",
    "signing_secret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:starburst-AbCdEf",
}


def square(x: int) -> int:
    return x * x


# --- what a site says -------------------------------------------------------------------------------------------------


def test_the_block_has_the_settings_of_a_site() -> None:
    """Every setting of the settings file, with its default; and it makes the same site."""
    for setting in fields(Site):
        field = StarburstSite.model_fields[setting.name]
        assert field.is_required() == (setting.default is MISSING), setting.name
        assert field.is_required() or field.default == setting.default, setting.name
        assert field.description
    assert StarburstSite(**SITE).site() == Site.of(SITE, "here")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"region": "mars"}, r"region='mars': give an AWS region such as us-east-1"),
        ({"name": "Main Site"}, r"name='Main Site': give up to 20 lower-case letters"),
        ({"subnets": []}, r"lacks subnets"),
        ({"security_groups": ["sg"] * 6}, r"security_groups=.*: give a list of at most 5 ids"),
        ({"buckett": "x"}, r"has no 'buckett': known are name, region"),
        ({"log_days": "some"}, r"log_days\n.*valid integer"),
        ({"keep_days": 0}, r"keep_days\n.*greater than 0"),
        ({"role": "admin"}, r"role\n.*match pattern"),
        ({"credentials": "AKIA"}, r"credentials\n.*str has no get_boto3_session\(\)"),
        ({"image_settings": {"builder": "podman"}}, r"builder='podman': give one of auto, layer, docker, codebuild"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], says: str) -> None:
    """The setting and what to give, as a validation error of Prefect's; values are not shown where they may be keys."""
    with pytest.raises(ValidationError, match=says) as refusal:
        StarburstSite(**{**SITE, **wrong})
    assert "AKIA" not in str(refusal.value)


def test_sites_are_equal_by_what_they_say() -> None:
    """Also after a pickle, and by the values of their credentials."""
    keys = Keys(key="AKIA", secret=SecretStr("s3cret"))
    site = StarburstSite(**SITE, role=ROLE, credentials=keys)
    assert site == StarburstSite(**SITE, role=ROLE, credentials=keys.model_copy())
    assert site != StarburstSite(**SITE, role=ROLE, credentials=Keys(key="AKIA", secret=SecretStr("other")))
    assert site != StarburstSite(**SITE, credentials=keys)
    for pickler in pickle, cloudpickle:
        assert pickler.loads(pickler.dumps(site)) == site
    assert "s3cret" not in repr(site)


# --- at a server ------------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_a_saved_site_is_loaded_by_name(server: Around) -> None:
    """As itself, also by Prefect's way of loading blocks of any type; it refers to its credentials."""
    keys = Keys(key="AKIA", secret=SecretStr("s3cret"))
    site = StarburstSite(**SITE, role=ROLE, credentials=keys, image_settings={"system_packages": ["libgomp1"]})
    with pytest.raises(BadInput, match=r"Keys is not saved.*call their save\(\) first"):
        site.save("main")
    keys.save("of-main")
    site.save("main")
    assert StarburstSite.load("main") == site
    loaded = Block.load("starburst-site/main")
    assert loaded == site
    assert pickle.loads(pickle.dumps(loaded)) == site
    loaded.save("main", overwrite=True)
    Keys(key="AKIB", secret=SecretStr("newer")).save("of-main", overwrite=True)
    assert StarburstSite.load("main").credentials.secret.get_secret_value() == "newer"
    assert "newer" not in server.run("block", "inspect", "starburst-site/main")

    StarburstSite(**SITE).save("plain")
    assert StarburstSite.load("plain") == StarburstSite(**SITE)


@pytest.mark.contract
def test_the_block_type_is_registered_by_the_command(server: Around) -> None:
    """`prefect block register -m prefect_starburst`, after which it can be made in the UI."""
    assert "Starburst Site" in server.run("block", "register", "-m", "prefect_starburst")
    with get_client(sync_client=True) as client:
        kind = client.read_block_type_by_slug("starburst-site")
    assert kind.name == "Starburst Site"
    assert kind.description
    assert "StarburstTaskRunner" in (kind.code_example or "")


# --- with whose credentials -------------------------------------------------------------------------------------------


def test_a_site_runs_with_the_credentials_of_a_block(nobody: Aws) -> None:
    """Nothing else in this process has any: every call is signed by them, in the site's region, not in theirs."""
    with pytest.raises(Denied, match="credentials"):
        StarburstSite(**nobody.site).backend()
    keys = Keys(key="bed-driver", secret=SecretStr("bed"))
    backend = opened(StarburstSite(**nobody.site, credentials=keys))
    try:
        assert access_key(backend) == "bed-driver"
        assert starburst_map(square, range(20), workers=2, backend=backend) == [x * x for x in range(20)]
        assert len(Keys.sessions) == 1
        nobody.expire(["bed-driver"])
        keys.key = "bed-driver-renewed"
        assert starburst_map(square, range(5), workers=1, backend=backend) == [0, 1, 4, 9, 16]
        assert access_key(backend) == "bed-driver-renewed"
    finally:
        backend.close()


def test_a_site_assumes_its_role_and_does_so_again(nobody: Aws) -> None:
    """The role's credentials sign everything; once they are refused as expired, new ones do."""
    role_of_drivers(nobody, ROLE)
    site = StarburstSite(**nobody.site, role=ROLE, credentials=Keys(key="bed-driver", secret=SecretStr("bed")))
    backend = opened(site)
    try:
        first = access_key(backend)
        assert starburst_map(square, range(5), workers=1, backend=backend) == [0, 1, 4, 9, 16]
        assert first == access_key(backend) != "bed-driver"
        assert nobody.requests()["sts", "AssumeRole"] == 1
        nobody.expire([first])
        assert starburst_map(square, range(5), workers=1, backend=backend) == [0, 1, 4, 9, 16]
        assert access_key(backend) not in (first, "bed-driver")
    finally:
        backend.close()


@pytest.mark.usefixtures("server")
def test_workers_that_a_site_has_none_of_fail_the_flow_in_a_sentence(aws: Aws, tmp_path: Path) -> None:
    """By tasks and by a burst: it is the state's message, and says how the site gets them; nothing is begun."""
    (tmp_path / "config.toml").write_text(aws.settings(ec2_provider="", gpu_provider="", gpu_spot_provider=""))

    @task
    def double(number: int) -> int:
        return 2 * number

    @flow(task_runner=StarburstTaskRunner(workers=1, backend="aws", capacity="ec2"))
    def doubled(by: str) -> list[int]:
        return burst(square, [1, 2]) if by == "burst" else double.map([1, 2]).result()

    with environment({"STARBURST_CONFIG": str(tmp_path / "config.toml")}):
        ends = [doubled(by, return_state=True) for by in ("tasks", "burst")]
    for end in ends:
        assert end.is_failed() and "Traceback" not in str(end.message)
        assert (
            str(end.message).count('capacity="ec2": site bed has no capacity provider of workers on EC2: `starb') == 1
        )
    assert aws.tasks() == [] and aws.leftovers()["queues"] == []


@pytest.mark.usefixtures("server")
def test_a_month_s_budget_holds_for_flows(aws: Aws, tmp_path: Path) -> None:
    """By whatever path their calls go: what is left bounds a run, and where nothing is, none begins."""
    options: dict[str, Any] = {"workers": 1, "cpu": 0.25, "backend": "aws", "tags": {"team": "a"}}

    def square(x: int) -> int:
        return x * x

    @task
    def double(x: int) -> int:
        return 2 * x

    @flow(task_runner=StarburstTaskRunner(**options))
    def doubled(by: str) -> Any:
        return burst(square, [1, 2]) if by == "burst" else double.map([1, 2]).result()

    ends = []
    for most in ("0.005", "0.0003"):
        (tmp_path / "config.toml").write_text(aws.settings(monthly_budget=[f"team=a: {most}"]))
        with environment({"STARBURST_CONFIG": str(tmp_path / "config.toml")}):
            ends += [doubled(by, return_state=True) for by in ("tasks", "burst")]
            runs = [run.status() for run in list_runs(backend="aws")]
    assert [end.is_completed() for end in ends] == [True, True, False, False]
    assert len(runs) == 2 and all(0 < (run.budget_usd or 0) <= 0.005 for run in runs)
    for end in ends[2:]:
        assert "of the monthly budget of team=a, $0.00030, are used since" in str(end.message)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_arguments_come_before_variables_and_those_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, and an empty variable, count as not given; what has no variable passes as it is."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    defaults = resolve({})
    assert defaults["workers"] is None and defaults["cpu"] == 1 and defaults["backend"] == "auto"
    for name, value in {
        "WORKERS": "50",
        "CPU": "0.5",
        "MEMORY": "2GB",
        "SLOTS": "",
        "TAGS": '{"team": "stock"}',
        "BUDGET": "2.50",
        "SPOT": "true",
        "SITE": "main",
        "ON_LOST": "retry",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    assert resolve({"workers": 4, "cpu": None, "retry_on": KeyError}) == {
        **defaults,
        "workers": 4,
        "cpu": 0.5,
        "memory": "2GB",
        "tags": {"team": "stock"},
        "budget": 2.5,
        "spot": True,
        "site": "main",
        "on_lost": "retry",
        "retry_on": KeyError,
    }


def test_what_holds_of_any_map_holds_of_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the runner's own variables; but not what Prefect's engine does itself."""
    for name, value in {"WORKERS": "9", "TIMEOUT": "5", "RETRIES": "3", "TOLERATE": "1", "CPU": "2"}.items():
        monkeypatch.setenv(f"STARBURST_{name}", value)
    monkeypatch.setenv(PREFIX + "CPU", "4")
    found = resolve({})
    assert (found["workers"], found["timeout"], found["cpu"]) == (9, 5, 4)
    assert not {"retries", "tolerate"} & set(found)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WORKERS", "many", r"PREFECT_STARBURST_WORKERS='many': give a whole number of workers, such as 50"),
        ("TAGS", "team=stock", r"PREFECT_STARBURST_TAGS='team=stock': give a JSON object"),
        ("TAGS", '{"team": 3}', r"PREFECT_STARBURST_TAGS='\{\"team\": 3\}': give a JSON object of texts"),
        ("SPOT", "perhaps", r"PREFECT_STARBURST_SPOT='perhaps': give true or false"),
        ("BACKEND", "mars", r"PREFECT_STARBURST_BACKEND='mars': give one of auto, aws, local"),
        ("ON_LOST", "weep", r"PREFECT_STARBURST_ON_LOST='weep': give one of crash, retry"),
        ("WORKRES", "5", r"PREFECT_STARBURST_WORKRES is no setting: known are PREFECT_STARBURST_WORKERS, "),
    ],
)
def test_a_variable_that_is_wrong_is_named(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its value and what to give; all that are wrong at once."""
    monkeypatch.setenv(PREFIX + name, value)
    monkeypatch.setenv(PREFIX + "MAX_IN_FLIGHT", "lots")
    with pytest.raises(BadInput, match=says) as refusal:
        resolve({"workers": 4})
    assert "PREFECT_STARBURST_MAX_IN_FLIGHT='lots': give a whole number of task runs" in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retries": 3}, r"retries=3: Prefect's engine retries: give it to the task, as in @task\(retries=3\)"),
        ({"retry_on": KeyError}, r"retry_on=.*@task\(retry_condition_fn=\.\.\.\)"),
        ({"retry_delay": 5}, r"retry_delay=5: .*@task\(retry_delay_seconds=10\)"),
        ({"progress": True}, "progress=True: a flow run shows its progress"),
        ({"ordered": False}, "ordered=False: each task run has a future of its own"),
        ({"return_exceptions": True}, r"return_exceptions=True: .*future\.result\(raise_on_failure=False\)"),
        ({"tolerate": 3}, "tolerate=3: a task run that fails stops no other"),
        ({"precedence": 3}, "no option 'precedence': there are workers, cpu, .*max_in_flight"),
        ({"max_inflight": 3}, r"no option 'max_inflight': did you mean 'max_in_flight'\?"),
    ],
)
def test_a_runner_refuses_what_is_not_its_own_when_it_is_made(options: dict[str, Any], says: str) -> None:
    """And says where it belongs; what it takes stays as it was given."""
    with pytest.raises(BadInput, match=says):
        StarburstTaskRunner(workers=2, **options)
    taken = {"chunk_size": 5, "timeout": 60, "spot": True, "image": "mine:1"}
    assert StarburstTaskRunner(**taken).executor_options().items() >= taken.items()


# --- deployments ------------------------------------------------------------------------------------------------------


def task_runs_of(client: SyncPrefectClient, run: FlowRun, count: int) -> list[TaskRun]:
    """The task runs of a flow run, when the server has the end of so many."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))

    def found() -> list[TaskRun]:
        runs = client.read_task_runs(flow_run_filter=of_run)
        return runs if len(runs) == count and all(each.state and each.state.is_final() for each in runs) else []

    found_runs: list[TaskRun] = until(found, f"{count} task runs have ended")
    return found_runs


def on_workers(server: Around, client: SyncPrefectClient, run: FlowRun, shops: int) -> None:
    """Every task run of the flow run is complete, and was an item that starburst workers answered; they are gone."""
    assert {each.state_name for each in task_runs_of(client, run, shops)} == {"Completed"}
    backend = local_at(server.starburst_home)

    def mine() -> list[RunStatus]:
        runs = [each for each in list_runs(backend=backend) if each.tags.get(FLOW_RUN) == str(run.id)]
        return [each.status() for each in runs if each.status().state.over]

    def clean() -> bool:
        with contextlib.suppress(AssertionError):
            nothing_left(backend)
            return True
        return False

    try:
        (status,) = until(mine, "the starburst run is over")  # the flow run is, a little earlier
        assert (status.state, status.answered, status.failed) == (RunState.SUCCEEDED, shops, 0)
        until(clean, "workers, queues and messages are gone")
    finally:
        backend.close()


@pytest.mark.contract
def test_the_served_example_runs_on_workers(server: Around) -> None:
    """It is scheduled for six; a run that is asked for completes; Ctrl-C ends the serving process."""
    process = server.start(EXAMPLE)
    try:
        with get_client(sync_client=True) as client:
            name = "order-stock/every-morning"

            def served() -> Any:
                assert process.poll() is None, "the serving process has ended"
                return "every-morning" in {each.name for each in client.read_deployments()}

            until(served, f"{name} is served")
            (schedule,) = client.read_deployment_by_name(name).schedules
            assert getattr(schedule.schedule, "cron", None) == "0 6 * * *"

            def awaited() -> list[datetime]:
                runs = client.get_scheduled_flow_runs_for_deployments([client.read_deployment_by_name(name).id])
                return [each.next_scheduled_start_time for each in runs if each.next_scheduled_start_time]

            assert all((at.hour, at.minute) == (6, 0) for at in until(awaited, "runs are planned"))
            run = run_deployment(name, parameters={"shops": 5}, timeout=PATIENCE_S, poll_interval=1)
            assert run.state is not None and run.state.is_completed(), run.state
            on_workers(server, client, run, 5)
    finally:
        code = ended(process, signal.SIGINT)
    assert code == 0


@pytest.mark.rest
def test_a_work_pools_worker_runs_the_example(server: Around) -> None:
    """Deployed to a pool from local code: a worker that polls once runs it, and ends."""
    order_stock = Flow.from_source(str(REPOSITORY), f"{EXAMPLE}:order_stock")
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="here", type="process"))
        order_stock.deploy(name="pooled", work_pool_name="here", print_next_steps=False)
        run = run_deployment("order-stock/pooled", parameters={"shops": 7}, timeout=0)
        server.run("worker", "start", "--pool", "here", "--run-once")
        state = client.read_flow_run(run.id).state
        assert state is not None and state.is_completed(), state
        on_workers(server, client, run, 7)

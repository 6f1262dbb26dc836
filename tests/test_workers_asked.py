"""What is asked of a run's workers is there when its functions run: variables, a role, tags."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from starburst_common import Cluster, attach, starburst_map
from starburst_common.aws.requests import run_task
from starburst_common.errors import BadInput, RunStopped
from starburst_common.ports import Backend, WorkerSpec
from starburst_common.resources import ENV_CHARACTERS, Resources
from starburst_common.sites.policies import POLICIES
from starburst_common.sites.site import Site
from tests.places import aws_text, local_text, open_place
from tests.policies import allow
from tests.test_cli import Shell, shell_in, values
from tests.testbed.bed import Bed as Aws

ROLE = "arn:aws:iam::123456789012:role/reads-the-lake"


@pytest.fixture(params=["local", "aws"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """This machine, and the bed."""
    here = request.param == "local"
    opened = open_place(local_text(tmp_path) if here else aws_text(request.getfixturevalue("aws").site))
    yield opened
    opened.close()


def read(name: str) -> str | None:
    """Of the environment."""
    return os.environ.get(name)


def read_once_there(place: str) -> str:
    """Where a file is."""
    if not Path(place).exists():
        raise FileNotFoundError(place)
    return os.environ["TABLE"]


def fished(key: str) -> str:
    """From a bucket of the user's own."""
    import boto3

    return str(boto3.client("s3", "us-east-1").get_object(Bucket="lake", Key=key)["Body"].read().decode())


def launched(aws: Aws) -> list[dict[str, Any]]:
    """What RunTask was asked for, as ECS shows it."""
    tasks = [task["arn"] for task in aws.tasks()]
    shown = aws.boto("ecs").describe_tasks(cluster=aws.site["cluster"], tasks=tasks, include=["TAGS"])["tasks"]
    return [*map(dict, shown)]


def test_functions_read_the_variables_that_were_asked_for(backend: Backend) -> None:
    """Each cluster's its own, also side by side from one process, which keeps its own; what libraries read is said."""
    with (
        Cluster(workers=1, backend=backend, progress=False, env={"TABLE": "é=1 'x'", "OMP_NUM_THREADS": "3"}) as one,
        Cluster(workers=1, backend=backend, progress=False, env={"TABLE": "two"}) as two,
        Cluster(workers=1, backend=backend, progress=False) as bare,
    ):
        assert one.map(read, ["TABLE", "OMP_NUM_THREADS"]) == ["é=1 'x'", "3"]
        assert two.map(read, ["TABLE"]) == ["two"]
        assert bare.map(read, ["TABLE"]) == [None]
    assert "TABLE" not in os.environ


def test_a_retry_has_the_variables_of_its_run(tmp_path: Path) -> None:
    """They are written down with it; others may be given."""
    backend, there = open_place(local_text(tmp_path / "home")), tmp_path / "there"
    with Cluster(workers=1, backend=backend, progress=False, env={"TABLE": "a"}, task_role=ROLE) as cluster:
        run = cluster.start(read_once_there, [str(there)])
        assert run.wait(60).failed == 1
    there.touch()
    known = attach(run.id, backend=backend)
    assert (known.resources.env, known.resources.task_role) == ({"TABLE": "a"}, ROLE)
    retried = known.retry_failed()
    assert retried.results() == ["a"]
    assert retried.resources.task_role == ROLE
    backend.close()


def test_the_shell_and_files_give_variables(tmp_path: Path) -> None:
    """One at a time in a shell, as a table in a file; wrong ones are told with where they are from."""
    shell = shell_in(tmp_path)
    (shell.folder / "asked.py").write_text("import os\ndef read(_): return os.environ['TABLE'], os.environ.get('B')\n")
    more = ("map", "asked:read", "-i", "items.jsonl", "--workers", "1", "-q")
    done = shell(*more, "--env", "TABLE=a=b", "--env", "B=")
    assert (done.returncode, values(done.stdout)[0]) == (0, ["a=b", ""]), done.stderr
    config = shell.folder / "config.toml"
    config.write_text('[map]\nenv = {TABLE = "c"}\n')
    told = Shell(shell.folder, env={"STARBURST_CONFIG": str(config)})
    assert values(told(*more).stdout)[0] == ["c", None]
    assert values(told(*more, STARBURST_ENV='{"TABLE": "d"}').stdout)[0] == ["d", None]
    wrong = told(*more, STARBURST_ENV='{"ECS_X": "d"}')
    assert (wrong.returncode, "env='ECS_X'" in wrong.stderr) == (2, True)
    assert "(env is from environment (STARBURST_ENV))" in wrong.stderr
    twice = shell(*more, "--env", "A=1", "--env", "A=2", "--aws-tag", "t=1")
    assert (twice.returncode, "--env A=1 and A=2: there is one value of a name" in twice.stderr) == (2, True)
    assert "--env TABLE: write key=value" in shell(*more, "--env", "TABLE").stderr


def test_functions_have_the_role_that_was_asked_for(aws: Aws) -> None:
    """By an override of RunTask (Amazon ECS API reference, TaskOverride); drivers need the right to pass it on.

    The policy that is printed for them has the site's roles alone, and the run says which right is missing.
    """
    backend, iam, s3 = open_place(aws_text(aws.site)), aws.boto("iam"), aws.boto("s3")
    s3.create_bucket(Bucket="lake")
    s3.put_object(Bucket="lake", Key="a", Body=b"fish")
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    name, asked = ROLE.rpartition("/")[2], {"workers": 1, "backend": backend, "progress": False}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    with pytest.raises(RunStopped, match=rf"do iam:PassRole on {ROLE} \(a driver's printed policy has the site's"):
        starburst_map(fished, ["a"], task_role=ROLE, **asked)
    allow(aws, ["iam:PassRole", "iam:GetRole"], ROLE.replace("reads", "*"), user="driver")
    with pytest.raises(BadInput, match=r"task_role='.*/no-the-lake': there is no such role: make it"):
        starburst_map(fished, ["a"], task_role=ROLE.replace("reads", "no"), **asked)
    with pytest.raises(BadInput, match="of another account than the site's, 123456789012"):
        starburst_map(fished, ["a"], task_role=ROLE.replace("123456789012", "210987654321"), **asked)
    of_workers = POLICIES["task"](Site.of(aws.site, "the test"))
    iam.put_role_policy(RoleName=name, PolicyName="workers", PolicyDocument=json.dumps(of_workers))
    lake = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::lake/*"}],
    }
    iam.put_role_policy(RoleName=name, PolicyName="lake", PolicyDocument=json.dumps(lake))
    assert starburst_map(fished, ["a"], task_role=ROLE, env={"A": "b"}, **asked) == ["fish"]
    (task,) = launched(aws)
    assert task["overrides"]["taskRoleArn"] == ROLE
    assert {"name": "A", "value": "b"} in task["overrides"]["containerOverrides"][0]["environment"]
    with pytest.raises(ClientError, match="AccessDenied"):
        starburst_map(fished, ["a"], **asked)
    backend.close()


def test_tasks_and_queues_have_the_tags_that_were_asked_for(aws: Aws, tmp_path: Path) -> None:
    """Beside the site's, of which one of the same name gives way; those of a retry, too.

    Fleets whose tags differ are not alike, so nobody's warm workers are billed to another.
    """
    site = {**aws.site, "tags": ["team=all", "group=lab"]}
    aws.grant(site)
    backend, there = open_place(aws_text(site)), tmp_path / "there"
    made = {"starburst:site": "bed", "team": "mine", "group": "lab", "cost-centre": "a b"}
    asked = {"workers": 1, "backend": backend, "progress": False}
    with Cluster(
        **asked, aws_tags={"team": "mine", "cost-centre": "a b"}, keep_warm=600, env={"TABLE": "a"}
    ) as cluster:
        run = cluster.start(read_once_there, [str(there)])
        tagged = {name.rpartition("/")[2]: marks(aws, name) for name in aws.boto("sqs").list_queues()["QueueUrls"]}
        assert len(tagged) == 3 and [*tagged.values()] == [made] * 3, tagged
        assert run.wait(60).failed == 1
        there.touch()
        assert attach(run.id, backend=backend).retry_failed().results() == ["a"]
    with Cluster(**asked, aws_tags={"team": "other"}, keep_warm=600, env={"TABLE": "a"}) as cluster:
        assert cluster.map(read, ["TABLE"]) == ["a"]
    tasks = [{each["key"]: each["value"] for each in task["tags"]} for task in launched(aws)]
    ours = {tuple(sorted(pair for pair in each.items() if not pair[0].startswith("aws:"))) for each in tasks}
    other = {"starburst:site": "bed", "team": "other", "group": "lab"}
    assert ours == {tuple(sorted(each.items())) for each in (made, other)}
    backend.close()


def marks(aws: Aws, queue: str) -> dict[str, str]:
    """A queue's tags."""
    return dict(aws.boto("sqs").list_queue_tags(QueueUrl=queue)["Tags"])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"AWS:x": "1"}, "aws_tags='AWS:x': names that begin with aws: or starburst: are taken"),
        ({"": "1"}, "aws_tags='': a tag has a name"),
        ({"n" * 130: "1"}, "its name has 130 characters, and AWS takes 128: shorten it"),
        ({"n": "v" * 300}, "aws_tags='n': its value has 300 characters, and AWS takes 256"),
        ({"n": "a*"}, r"aws_tags='n': its value has '\*', and AWS takes letters, digits, spaces"),
        ({f"n{number}": "" for number in range(60)}, "has 60 tags, 11 more than there is room for: .*50 at most"),
    ],
)
def test_tags_that_aws_does_not_take_are_refused_before_launch(asked: dict[str, str], said: str) -> None:
    """(AWS General Reference, "Tag naming limits and requirements".) What it takes, it takes."""
    with pytest.raises(BadInput, match=said):
        Resources.of(aws_tags=asked)
    Resources.of(aws_tags={"ünit/a:b=c+d-e@f_g.h i": "", **{f"n{number}": "x" * 256 for number in range(48)}})


def test_tags_have_room_beside_the_sites(aws: Aws) -> None:
    """50 of a task or queue in all: more is refused before anything is made."""
    site = {**aws.site, "tags": [f"s{number}=x" for number in range(10)]}
    aws.grant(site)
    backend, asked = open_place(aws_text(site)), {f"n{number}": "x" for number in range(39)}
    with pytest.raises(
        BadInput, match=r"has 40 tags, 1 more .* 1 is starburst's and 10 are the site's: leave some out"
    ):
        starburst_map(abs, [-1], workers=1, backend=backend, progress=False, aws_tags={**asked, "more": "x"})
    assert aws.tasks() == [] and "QueueUrls" not in aws.boto("sqs").list_queues()
    assert starburst_map(abs, [-1], workers=1, backend=backend, progress=False, aws_tags=asked) == [1]
    backend.close()


def test_the_most_that_may_be_asked_fits_a_launch(aws: Aws, tmp_path: Path) -> None:
    """Overrides have 8,192 characters (Amazon ECS API reference, RunTask), with the longest role and names."""
    backend = open_place(aws_text(aws.site))
    site = Site.of({**aws.site, "name": "n" * 20, "bucket": "b" * 63}, "the test")
    env = {"A": "x" * (ENV_CHARACTERS - len(json.dumps([{"name": "A", "value": ""}])))}
    role = "arn:aws-us-gov:iam::123456789012:role/" + "r" * 576
    spec = WorkerSpec(
        fleet="fleet-20260101-000000-00000000",  # type: ignore[arg-type]
        resources=Resources.of(16, "120GB", storage=200, env=env, task_role=role),
        pace=backend.pace,
        key="k" * 64,
    )
    assert 6500 < len(json.dumps(run_task(site, "d", spec, 10)["overrides"])) <= 8192
    backend.close()

"""A new account made ready by one command, used from a shell, a program and a Prefect flow, and left as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from starburst_common import starburst_map
from tests.places import environment
from tests.prefect_server import PrefectServer
from tests.test_cli import Shell
from tests.test_setup import setting_up, things
from tests.testbed.bed import Bed as Aws

FLOW = """
from prefect import flow, task
from prefect_starburst import StarburstTaskRunner

@task
def double(number):
    return 2 * number

@flow(task_runner=StarburstTaskRunner(workers=1, backend="aws"))
def doubled():
    return [each.result() for each in double.map([1, 2, 3])]

if __name__ == "__main__":
    print(doubled())
"""


def of_ecs(aws: Aws) -> list[str]:
    """ECS's own role, as moto calls it."""
    names = [each["RoleName"] for each in aws.boto("iam").list_roles()["Roles"]]
    return [name for name in names if name.lower() == "awsserviceroleforecs"]


@pytest.fixture
def new_account(aws: Aws) -> Iterator[Aws]:
    """Six vCPU, no role of ECS, and an IAM whose changes are seen late: by itself, and by ECS at two of its calls."""
    iam = aws.boto("iam")
    for name in of_ecs(aws):
        iam.delete_role(RoleName=name)
    aws.quota(on_demand_vcpu=6, spot_vcpu=6)
    slow = {"code": "NoSuchEntity", "status": 404}
    aws.fault(service="iam", operation="PutRolePolicy", times=2, message="The role cannot be found.", **slow)
    new = {"code": "ClientException", "times": 1}
    aws.fault(service="ecs", operation="RegisterTaskDefinition", message="Role is not valid", **new)
    aws.fault(service="ecs", operation="RunTask", message="ECS was unable to assume the role 'arn:aws:…'", **new)
    yield aws
    if not of_ecs(aws):
        iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")


@pytest.mark.rest
def test_a_new_account_from_setup_to_teardown(new_account: Aws, prefect_server: PrefectServer, tmp_path: Path) -> None:
    """What is slow is waited for; twenty workers are asked for where six may be; a new setup would meet nothing.

    What AWS keeps of it is all that stays: ECS's own role, and task definitions that it deletes at its leisure.
    """
    aws, before = new_account, things(new_account)
    own = setting_up(aws, tmp_path)
    shell = Shell(tmp_path, env={**aws.env, **own, "PREFECT_API_URL": prefect_server.api})
    done = shell("setup", "--yes", "--image", aws.site["image"], "--network", "made")
    assert done.returncode == 0 and "It works: [1.0, 2.0, 3.0]" in done.stderr, done.stderr[-2000:]
    assert not [fault for fault in aws.faults() if not fault["hits"]]
    numbers = "".join(f"{number}\n" for number in range(40))
    mapped = shell("map", "math:sqrt", "-i", "-", "--workers", "20", stdin=numbers)
    assert (mapped.returncode, len(mapped.stdout.splitlines())) == (0, 40), mapped.stderr[-2000:]
    with environment(own):
        assert starburst_map(abs, [-1, -2], workers=1, backend="aws", progress=False) == [1, 2]
    (tmp_path / "flow.py").write_text(FLOW)
    flow = subprocess.run([sys.executable, "flow.py"], cwd=tmp_path, env=shell.environment(), capture_output=True)
    assert (flow.returncode, flow.stdout) == (0, b"[2, 4, 6]\n")
    assert shell("teardown", "--yes", "--with-data").returncode == 0
    left = {kind: found - before[kind] for kind, found in things(aws).items()}
    assert not any(left.values()), left
    assert len(of_ecs(aws)) == 1 and not kept_definitions(aws)
    assert not [task for task in aws.tasks() if task["last_status"] != "STOPPED"]
    again = shell("setup", "--dry-run", "--network", "made").stderr
    assert "to be made" in again and "is there" not in again, again


def kept_definitions(aws: Aws) -> set[str]:
    """Task definitions that are there still and are not about to be deleted, but for the bed's own."""
    ecs = aws.boto("ecs")
    arns = [
        arn
        for status in ("ACTIVE", "INACTIVE")
        for arn in ecs.list_task_definitions(status=status)["taskDefinitionArns"]
    ]
    return {arn for arn in arns if "/starburst-main-" in arn}

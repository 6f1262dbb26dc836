"""Task definitions and RunTask calls that tests of the bed itself make."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.testbed.bed import Bed
from tests.testbed.processes import marked


def define(bed: Bed, script: str = "import time; time.sleep(600)", *, family: str = "tried", **container: Any) -> str:
    """Register a Fargate task that runs a Python script; the ARN."""
    definition = bed.boto("ecs").register_task_definition(
        family=family,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        executionRoleArn=bed.site["execution_role"],
        taskRoleArn=bed.site["task_role"],
        containerDefinitions=[
            {"name": "worker", "image": bed.site["image"], "command": ["python", "-c", script]} | container
        ],
    )
    return str(definition["taskDefinition"]["taskDefinitionArn"])


def asked(bed: Bed, definition: str, **more: Any) -> dict[str, Any]:
    """Parameters of a RunTask call."""
    where = {"subnets": bed.site["subnets"], "securityGroups": bed.site["security_groups"], "assignPublicIp": "ENABLED"}
    launch = {} if "capacityProviderStrategy" in more else {"launchType": "FARGATE"}
    return {
        "cluster": bed.site["cluster"],
        "taskDefinition": definition,
        "networkConfiguration": {"awsvpcConfiguration": where},
        **launch,
        **more,
    }


def run(bed: Bed, definition: str, **more: Any) -> list[str]:
    """Run tasks; their ARNs."""
    return [task["taskArn"] for task in bed.boto("ecs").run_task(**asked(bed, definition, **more))["tasks"]]


def described(bed: Bed, arn: str) -> dict[str, Any]:
    """A task as DescribeTasks shows it."""
    task: dict[str, Any] = bed.boto("ecs").describe_tasks(cluster=bed.site["cluster"], tasks=[arn])["tasks"][0]
    return task


def heeding(bed: Bed, arn: str, signals: str, *, processes: int = 1) -> None:
    """Wait until a task has so many processes, and the first of them catches ("SigCgt") or ignores ("SigIgn") SIGTERM.

    Or, without a word, does neither.
    """

    def there() -> bool:
        pids = sorted(pid for pid, task in marked(bed.pid).items() if task == arn.rpartition("/")[2])
        if len(pids) < processes:
            return False
        status = Path(f"/proc/{pids[0]}/status").read_text().splitlines()
        masks = {
            name: int(mask, 16)
            for name, mask in (line.split(":\t") for line in status if line[:6] in ("SigCgt", "SigIgn"))
        }
        return not signals or bool(masks[signals] >> (signal.SIGTERM - 1) & 1)

    bed.until(there)


def reached(bed: Bed, arn: str, status: str) -> dict[str, Any]:
    """A task once it has a status."""
    bed.until(
        lambda: any(task["arn"] == arn and task["last_status"] == status for task in bed.tasks()),
        what=f"{arn} {status}",
    )
    return described(bed, arn)

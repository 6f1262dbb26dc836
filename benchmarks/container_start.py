"""How long until a container, once it is started, has its first work?"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from benchmarks.scenario import Case, Column, Scenario, Target

LEASED = "leased its first work"  #: what the worker prints when it does


def cases(quick: bool) -> list[Case]:
    """One container at a time, of one vCPU and of Fargate's least."""
    return [Case("container", units, 1 if quick else 5) for units in (1024, 256)]


def measure(contender: str, size: int) -> dict[str, float]:
    """Map one item on one container of the test bed; read two clocks of this machine."""
    from starburst_common import Cluster
    from tests.places import aws_text, environment, open_place
    from tests.testbed.bed import Bed
    from tests.testbed.engine import running_engine

    with running_engine() as engine, Bed(workers="docker") as bed, environment(bed.env):
        site = {**bed.site, "image": engine.test_image()}
        bed.grant(site)
        backend = open_place(aws_text(site))
        cpu, memory = size / 1024, "2GB"
        began = time.time()
        with Cluster(workers=1, cpu=cpu, memory=memory, backend=backend, progress=False) as cluster:
            assert cluster.map(abs, [-1]) == [1]
            answered_s = time.time() - began
            (task,) = bed.tasks()
            (container,) = engine.client.containers.list(filters={"label": f"starburst.task={task['id']}"})
            started = datetime.fromisoformat(container.attrs["State"]["StartedAt"]).timestamp()
            leased = bed.until(lambda: first_lease(bed, task["id"]), what=f"a line that says {LEASED!r}")
        backend.close()
    return {"leased_s": leased - started, "answered_s": answered_s}


def first_lease(bed: Any, task: str) -> float:
    """When the line arrived, as seconds since the epoch; 0 if it has not."""
    stream = f"worker/worker/{task}"
    found = bed.boto("logs").get_log_events(logGroupName=bed.site["log_group"], logStreamName=stream)
    return next((event["timestamp"] / 1000 for event in found["events"] if LEASED in event["message"]), 0.0)


SCENARIO = Scenario(
    name="container_start",
    title="From a container's start to its first work",
    about="One worker's container on the test bed, made of the published image, limited to its CPU share. From the "
    "engine's start of the container to the line the worker prints when the queue has given it a chunk: init, "
    "interpreter, imports, the task's metadata and credentials, the client for SQS, one call. One item answered: from "
    "opening the cluster, with ECS's own times as the test bed has them (0.15 s), not as AWS has them. All of it is "
    "CPU: on a quarter of a processor it takes four times as long. Before, it was 0.41 s of CPU: 0.14 to import the "
    "worker, 0.10 boto3, 0.03 what only drivers need, 0.08 a client for SQS (a quarter of that to read the endpoints "
    "of 400 services), and up to 0.06 for looking fifteen times where S3 is, or making a client to see it. Now it is "
    "0.28: those are left out, the endpoints are the five services' that a worker speaks to, and garbage is not "
    "looked for among what is imported. The limit is Python's: to run the code of 600 modules once.",
    size_heading="CPU units",
    cases=cases,
    measure=measure,
    columns=(
        Column("leased_s", "start to first lease, s", ".2f"),
        Column("answered_s", "one item answered, s", ".2f"),
    ),
    targets=(
        Target("1 vCPU: start to first lease, s", lambda r: r.spread("container", 1024, "leased_s"), 1.5),
        Target("0.25 vCPU: start to first lease, s", lambda r: r.spread("container", 256, "leased_s"), 0.9),
    ),
    not_run="How long AWS takes to place a task, attach its network interface and pull its image is not in these "
    "figures.",
)

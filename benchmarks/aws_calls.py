"""What does a run ask of AWS, and of the driver, as it grows?"""

from __future__ import annotations

import resource
import time
from functools import partial

from benchmarks.contenders import noop
from benchmarks.scenario import Case, Column, Record, Scenario, Spread, Target

WORKERS = 20


def cases(quick: bool) -> list[Case]:
    """Four sizes, each ten times the last."""
    sizes = (1_000, 10_000, 100_000, 1_000_000)
    return [Case("starburst", size, 1 if quick or size == 1_000_000 else 3) for size in sizes]


def measure(contender: str, size: int) -> dict[str, float]:
    """One run from nothing to nothing, task definition and log group included; then what came in for it."""
    from benchmarks.bed import cluster_on_aws

    with cluster_on_aws(WORKERS) as (bed, cluster):
        before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        assert cluster.map(noop, range(size)) == list(range(size))
        took_s = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
        cluster.close()
        requests = bed.requests()
    services = dict.fromkeys(("s3", "sqs", "ecs", "logs"), 0)
    for (service, _), count in requests.items():
        services[service] = services.get(service, 0) + count
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"requests": sum(requests.values()), "cpu_s": cpu_s, "took_s": took_s, **services}


def growth(name: str, record: Record, low: int = 1_000, high: int = 100_000) -> Spread | None:
    """A figure at many items over the same at few."""
    small, large = record.figures("starburst", low, name), record.figures("starburst", high, name)
    ratios = [large[turn] / small[turn] for turn in small.keys() & large.keys()]
    return Spread.of(ratios) if ratios else None


SCENARIO = Scenario(
    name="aws_calls",
    title="What a run asks of AWS",
    about=f"No-op items on {WORKERS} Fargate workers of the test bed, from an empty account but for the site: requests "
    "that reached each service until the fleet was closed, and the driver's CPU seconds. The time is the bed's, all on "
    "one machine, and says nothing of AWS. Each chunk costs an object, a notice and its share of receives and deletes; "
    "each worker four reads of what the run is, two receives and a stop; the driver about ninety. What grows with the "
    "items are bytes: answers and inputs that are too large for a message are objects, read in one request each. "
    "Before, there were three chunks a slot, each with a receive and a delete of its own, notices came two at a time, "
    "and each worker asked twice whether the run was over or cancelled. The limit is what a crash must find: "
    "an object, a notice and a lease a worker, and who holds what.",
    size_heading="items",
    cases=cases,
    measure=measure,
    columns=(
        Column("requests", "requests", ",.0f"),
        Column("s3", "S3", ",.0f"),
        Column("sqs", "SQS", ",.0f"),
        Column("ecs", "ECS", ",.0f"),
        Column("cpu_s", "driver CPU, s", ".2f"),
        Column("took_s", "on the bed, s", ".1f"),
    ),
    targets=(
        Target("requests for 10,000 items", lambda r: r.spread("starburst", 10_000, "requests"), 250),
        Target("requests for 100,000 items over 1,000", partial(growth, "requests"), 2),
        Target(
            "requests for 1,000,000 items over 10,000",
            partial(growth, "requests", low=10_000, high=1_000_000),
            1.2,
        ),
        Target("driver CPU for 100,000 items over 1,000", partial(growth, "cpu_s"), 10),
    ),
)

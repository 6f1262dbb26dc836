"""The test bed's AWS for a scenario, and what a process needs of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starburst_common import Cluster
from tests.testbed.bed import Bed


@contextmanager
def cluster_on_aws(workers: int) -> Iterator[tuple[Bed, Cluster]]:
    """The bed, and a cluster on it with the settings that AWS gets; this process takes the bed for AWS."""
    with Bed() as bed:
        os.environ.update(bed.env)
        with Cluster(workers=workers, progress=False) as cluster:
            yield bed, cluster


def memory_mib(field: str = "VmRSS") -> float:
    """Of this process: resident now, or with "VmHWM" the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def forget_peak() -> None:
    """Count the most memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")

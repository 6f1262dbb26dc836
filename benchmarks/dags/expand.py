"""A plain task an item."""

import os

from airflow.sdk import DAG, task


def noop(item: int) -> int:
    """The least a task can do."""
    return item


for name, items in (("warming", 1), ("measured", int(os.environ["BENCHMARK_ITEMS"]))):
    with DAG(name, schedule=None):
        task(noop).expand(item=list(range(items)))

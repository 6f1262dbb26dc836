"""One task, in whose process threads call a function for every item: what Airflow itself has for many short calls."""

import os
from concurrent.futures import ThreadPoolExecutor

from airflow.sdk import DAG, task


def noop(item: int) -> int:
    """The least a function can do."""
    return item


def mapped(items: int) -> int:
    """Every item, once; how many there were."""
    with ThreadPoolExecutor(8) as pool:
        return len([*pool.map(noop, range(items))])


for name, items in (("warming", 1), ("measured", int(os.environ["BENCHMARK_ITEMS"]))):
    with DAG(name, schedule=None):
        task(mapped)(items)

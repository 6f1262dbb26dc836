"""The four examples as Prefect flows: the name of one in; what its script prints out.

    python examples/as_flows.py portfolio     # or bootstrap, digits, forests

Ten thousand items are one task run (`burst`); each of a hundred frames, and of sixteen forests, is one of its own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial

# Prefect's server sends statistics on its use; where its database is busy at that moment, it prints a long traceback
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import bootstrap_ci  # type: ignore[import-not-found]
import data_processing  # type: ignore[import-not-found]
import grid_search  # type: ignore[import-not-found]
import monte_carlo_portfolio  # type: ignore[import-not-found]
from prefect import flow, task
from rich.console import Console

from prefect_starburst import StarburstTaskRunner, burst

RUNNER = StarburstTaskRunner(workers=2)


@flow(name="portfolio", task_runner=RUNNER)
def portfolio() -> None:
    """10,000 simulated years in one task run."""
    monte_carlo_portfolio.report(burst(monte_carlo_portfolio.simulate, monte_carlo_portfolio.SEEDS))


@flow(name="bootstrap", task_runner=RUNNER)
def bootstrap() -> None:
    """10,000 resamples in one task run; the data ride along with the function."""
    x, y = bootstrap_ci.patients()
    bootstrap_ci.report(x, y, burst(partial(bootstrap_ci.resample, x, y), bootstrap_ci.SEEDS))


@flow(name="digits", task_runner=RUNNER)
def digits() -> None:
    """A task run for each of 100 data frames."""
    data_processing.report(task(data_processing.summarise).map(data_processing.chunks()).result())


@flow(name="forests", task_runner=RUNNER)
def forests() -> None:
    """A task run for each of 16 configurations."""
    scores = task(grid_search.evaluate).map(grid_search.CONFIGURATIONS).result()
    grid_search.report(Console(), scores, 0.0)


FLOWS: dict[str, Callable[[], None]] = {
    "portfolio": portfolio,
    "bootstrap": bootstrap,
    "digits": digits,
    "forests": forests,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run an example as a Prefect flow.")
    parser.add_argument("name", choices=sorted(FLOWS))
    FLOWS[parser.parse_args().name]()

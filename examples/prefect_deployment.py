"""A forecast for 24 shops every morning at six: a served Prefect flow in; a table of the units to order out.

    python examples/prefect_deployment.py --once   # run the flow now, on this machine
    python examples/prefect_deployment.py          # serve it: wait for six o'clock, or for `prefect deployment run`

A served flow needs a Prefect server (`prefect server start`, and PREFECT_API_URL) or Prefect Cloud. It runs where it is
served, so that process stays up; the shops are forecast on starburst workers, which end with each run. Where runs
follow each other soon, `StarburstTaskRunner(keep_warm=600)` leaves them ten minutes for the next one.

To have runs picked up by the workers of a work pool instead, deploy the flow to it, from Python:

    from prefect import flow

    flow.from_source(".", "examples/prefect_deployment.py:order_stock").deploy(
        name="every-morning", work_pool_name="my-pool", cron="0 6 * * *"
    )

or with `prefect deploy --name every-morning` and this `prefect.yaml`:

    deployments:
      - name: every-morning
        entrypoint: examples/prefect_deployment.py:order_stock
        work_pool: {name: my-pool}
        schedules: [{cron: "0 6 * * *", timezone: Europe/Berlin}]

Then only the pool's worker stays up. What it starts needs what this process needs: `starburst-ecs[prefect]`, and a site
(docs/prefect.md) with credentials for it.
"""

from __future__ import annotations

import argparse
import math
import random
from statistics import mean
from typing import NamedTuple

from prefect import flow, get_run_logger, task

from prefect_starburst import StarburstTaskRunner

DAYS = 364
WEEK = 7


class Forecast(NamedTuple):
    """Units to order for the coming week; and by how much the same method missed the past weeks, on average."""

    shop: int
    units: int
    missed_by: float


def sold(shop: int) -> list[float]:
    """Units a day in the last year: a trend, a weekly and a yearly wave, and chance."""
    chance = random.Random(shop)
    level, trend = chance.uniform(50, 200), chance.uniform(-0.05, 0.1)
    return [
        (level + trend * day)
        * (1 + 0.3 * math.sin(2 * math.pi * day / WEEK) + 0.1 * math.sin(2 * math.pi * day / DAYS))
        * chance.lognormvariate(0, 0.1)
        for day in range(DAYS)
    ]


def smoothed(weeks: list[float], weight: float) -> tuple[float, float]:
    """The next week by exponential smoothing; and the mean error of each week's forecast from those before it."""
    level, errors = weeks[0], []
    for week in weeks[1:]:
        errors.append(abs(week - level))
        level += weight * (week - level)
    return level, mean(errors)


@task(retries=1)
def forecast(shop: int) -> Forecast:
    """Try a hundred weights, and take the one that would have missed by least."""
    days = sold(shop)
    weeks = [sum(days[at : at + WEEK]) for at in range(0, DAYS, WEEK)]
    level, missed_by = min((smoothed(weeks, percent / 100) for percent in range(1, 101)), key=lambda each: each[1])
    get_run_logger().info("shop %d: %.0f units, give or take %.0f", shop, level, missed_by)
    return Forecast(shop, round(level), missed_by)


# Where a site is configured, workers are tasks on AWS, else processes here. Tags are shown with the run.
@flow(log_prints=True, task_runner=StarburstTaskRunner(workers=4, tags={"team": "stock"}))
def order_stock(shops: int = 24) -> int:
    """Forecast every shop, one task run each, and print what to order."""
    forecasts = forecast.map(range(shops)).result()
    for each in sorted(forecasts, key=lambda each: each.units, reverse=True):
        print(f"shop {each.shop:3}: order {each.units:6,} units (past weeks missed by {each.missed_by:.0f})")
    total = sum(each.units for each in forecasts)
    print(f"{total:,} units for {shops} shops")
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the flow every morning at six.")
    parser.add_argument("--once", action="store_true", help="run it now, on this machine")
    if parser.parse_args().once:
        order_stock.with_options(task_runner=StarburstTaskRunner(workers=2, backend="local"))()
    else:
        order_stock.serve(name="every-morning", cron="0 6 * * *")

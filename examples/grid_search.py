"""16 forests, 5-fold cross-validation, scikit-learn's breast-cancer data: configurations in; the best one out.

`python examples/grid_search.py` runs it as a Prefect flow, with `--plain` without Prefect.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from starburst_common import Run, list_runs, starburst_map

CONFIGURATIONS = [
    {"n_estimators": trees, "max_depth": depth, "max_features": features}
    for trees, depth, features in product((25, 50), (2, 4, 6, 8), ("sqrt", 0.5))
]


@dataclass(frozen=True)
class Score:
    """Accuracy on each of the five folds, and how long that took."""

    folds: tuple[float, ...]
    seconds: float = field(compare=False)


def evaluate(configuration: dict[str, Any]) -> Score:
    """One configuration's cross-validated accuracy."""
    started = time.perf_counter()
    x, y = load_breast_cancer(return_X_y=True)
    folds = cross_val_score(RandomForestClassifier(random_state=0, **configuration), x, y, cv=5)
    return Score(tuple(folds.tolist()), time.perf_counter() - started)


def search_as_flow(**options: Any) -> list[Score]:
    """As a Prefect flow: every configuration is a task run."""
    say("Importing Prefect")
    from prefect import flow, task
    from prefect.futures import as_completed
    from prefect.settings import PREFECT_API_URL

    from prefect_starburst import StarburstTaskRunner

    @flow(name="grid-search", task_runner=StarburstTaskRunner(**options))
    def grid_search() -> list[Score]:
        scores = task(evaluate).map(CONFIGURATIONS)
        first: Score = next(as_completed(scores)).result()
        say(f"First result: accuracy {mean(first.folds):.4f}")
        return scores.result()

    if not PREFECT_API_URL.value():
        say("Starting Prefect's server: its first start makes a database, which takes up to a minute")
    return grid_search()


def search(**options: Any) -> list[Score]:
    """The same without Prefect."""
    return starburst_map(evaluate, CONFIGURATIONS, label="grid search", **options)


def report(console: Console, scores: list[Score], wall_s: float) -> None:
    """The table of configurations, best first, and the timings."""
    ranked = sorted(zip(CONFIGURATIONS, scores, strict=True), key=lambda pair: mean(pair[1].folds), reverse=True)
    table = Table("trees", "depth", "features", "accuracy", "± over folds", "seconds", title="16 random forests")
    for configuration, score in ranked:
        cells = *map(str, configuration.values()), f"{mean(score.folds):.4f}", f"{stdev(score.folds):.4f}"
        table.add_row(*cells, f"{score.seconds:.2f}")
    console.print(table)
    best, score = ranked[0]
    work_s = sum(each.seconds for each in scores)
    console.print(f"Best: {best} with accuracy {mean(score.folds):.4f}")
    console.print(f"Time: {wall_s:.1f} s from start to finish, for {work_s:.1f} s of work")


def main(*, plain: bool = False, **options: Any) -> None:
    """Search, report, and say where to look next."""
    console = Console()
    started = time.perf_counter()
    scores = search(**options) if plain else search_as_flow(**options)
    report(console, scores, time.perf_counter() - started)
    run = next(iter(list_runs()), None)
    if run is not None:
        print_cost(run)
        starburst = os.path.relpath(Path(sys.executable).with_name("starburst"))
        print(f"\nLook next: {starburst} runs; {starburst} status {run.id}; docs/")


def say(line: str) -> None:
    """What happens now, beside Prefect's log."""
    print(line, file=sys.stderr, flush=True)


def print_cost(run: Run) -> None:
    """What the same work would cost on AWS."""
    print(f"On AWS: {run.estimate(run.status()).about}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Search 16 random forests for the best.")
    parser.add_argument("--plain", action="store_true", help="without Prefect")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    main(plain=arguments.plain, workers=arguments.workers)

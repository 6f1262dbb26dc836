"""A scenario in, its record out: every case in a fresh process, contenders taking turns. Also that process's entry."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from benchmarks.scenario import Case, Record, Scenario

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("starburst-ecs", "boto3", "moto", "loky", "joblib", "mpire", "dask", "distributed", "prefect", "prefect-dask"),
    *("apache-airflow", "apache-airflow-providers-amazon", "obstore", "uv", "zlib-ng"),
)
ABSENT = "not installed"
LONGEST_S = 2400


def run(scenario: Scenario, *, quick: bool) -> Record:
    """Run all cases; write the record to results/, unless it is a quick one."""
    cases = scenario.cases(quick)
    runs: list[dict[str, Any]] = []
    record = Record(scenario.name, conditions(), runs)
    for turn in reversed(range(max(case.repeats for case in cases))):  # the round in which all take part is the last
        in_turn = [case for case in cases if case.repeats > turn]
        for case in in_turn if turn % 2 == 0 else reversed(in_turn):
            figures = run_alone(scenario.name, case)
            runs.append({"contender": case.contender, "size": case.size, "round": turn, **figures})
            if not quick:
                write(record)  # after each, so that a run that is cut short leaves what it has
            print(f"{scenario.name} {turn + 1}: {case.contender}, {case.size:,}: {figures['wall_s']:.2f} s", flush=True)
    return record


def write(record: Record) -> None:
    """Keep a record in results/."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{record.scenario}.json").write_text(json.dumps(asdict(record), indent=1) + "\n")


def run_alone(scenario: str, case: Case) -> dict[str, float]:
    """One case in a process of its own, with an empty home for whatever it keeps on disk."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        command = [sys.executable, "-m", "benchmarks.timing", scenario, case.contender, str(case.size)]
        started = time.perf_counter()
        done = subprocess.run(
            command,
            env=os.environ | {"STARBURST_HOME": home, "PREFECT_HOME": home},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        wall_s = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{done.stderr}\n{scenario}: {case} ended with exit code {done.returncode}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"wall_s": wall_s} | figures


def conditions() -> dict[str, Any]:
    """What a reader must know to judge the figures."""
    model = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "cpu_model": model[0].partition(":")[2].strip() if model else platform.machine(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ABSENT


def find(name: str) -> Scenario:
    """The scenario of a module of this package."""
    found: Scenario = import_module(f"benchmarks.{name}").SCENARIO
    return found


def main(scenario: str, contender: str, size: int) -> None:
    """Measure one case in this process; the figures are the last line printed."""
    print(json.dumps(find(scenario).measure(contender, size)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run one case; used by the harness.")
    parser.add_argument("scenario")
    parser.add_argument("contender")
    parser.add_argument("size", type=int)
    main(**vars(parser.parse_args()))

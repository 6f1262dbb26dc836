"""All scenarios, or those named, then the report: `python -m benchmarks [noop_map ...] [--quick]`."""

from __future__ import annotations

import argparse

from benchmarks import report, timing

parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure starburst beside its peers.")
every = ", ".join((*report.SCENARIOS, *report.AIRFLOW))
parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"of {every}; default: all but Airflow's")
parser.add_argument("--quick", action="store_true", help="small sizes, one run each; nothing is written")
arguments = parser.parse_args()

for name in arguments.scenarios or report.SCENARIOS:
    scenario = timing.find(name)
    report.show(scenario, timing.run(scenario, quick=arguments.quick))
if not arguments.quick:
    report.main()

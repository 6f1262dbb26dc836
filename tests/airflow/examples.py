"""DAGs by their ids in; each run as `airflow dags test` runs it, in one process, or the first that fails as its error.

Airflow's home, and where runs are done, are those of the environment.
"""

from __future__ import annotations

import sys

from airflow.cli.cli_parser import get_parser


def main(dags: list[str]) -> None:
    """Make the database, and run them."""
    for words in (["db", "migrate"], *(["dags", "test", dag, "2026-11-30"] for dag in dags)):
        asked = get_parser().parse_args(words)
        asked.func(asked)
        print("done:", *words, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

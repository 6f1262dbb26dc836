"""`python -m tests.airflow.components`: Airflow's components, each a process of its own that is forked from this one.

Four processes that each import Airflow take half a minute of two cores; this one imports it once. A line of JSON on
standard input starts one (`argv` as of the command `airflow`, `log`, and variables), and its process id comes back.
Whoever such a process leaves behind becomes a child of this one, and all of them end with its standard input.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_SUBREAPER = 36  # of prctl(2)


def main() -> None:
    """Serve until standard input ends."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Airflow writes its warnings there
    _load()
    migrated = _started(["db", "migrate"], sys.argv[1], {})
    _load_server()
    ended = os.waitpid(migrated, 0)[1]
    signal.signal(signal.SIGCHLD, _reap)
    print(json.dumps({"migrated": not ended}), file=answers)
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps({"pid": _started(**json.loads(line))}), file=answers)
    while left := [*_below(os.getpid())]:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()


def _load() -> None:
    """What is common to them."""
    import airflow.cli.commands.dag_processor_command
    import airflow.cli.commands.scheduler_command
    import airflow.cli.commands.triggerer_command
    import airflow.dag_processing.manager
    import airflow.executors.local_executor
    import airflow.jobs.scheduler_job_runner
    import airflow.jobs.triggerer_job_runner  # noqa: F401


def _load_server() -> None:
    """What the API server needs beside."""
    import airflow.api_fastapi.core_api.routes.public
    import airflow.api_fastapi.core_api.routes.ui
    import airflow.api_fastapi.execution_api.routes
    import airflow.cli.commands.api_server_command  # noqa: F401


def _started(argv: list[str], log: str, variables: dict[str, str]) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
        os.environ.update(variables)
        _airflow(argv)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _airflow(argv: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    asked: Any = get_parser().parse_args(argv)
    asked.func(asked)


def _reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _below(pid: int) -> Iterator[int]:
    """All that a process, and what it started, started."""
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _below(child)


if __name__ == "__main__":
    main()

"""Functions of DAGs' files in; the same out, to be sent whole: workers have neither those files nor Airflow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle

_MADE_UP = "unusual_prefix_"  #: how Airflow begins the names of modules that it loads DAGs' files as


def dags_by_value() -> None:
    """Have what is defined in this process's DAGs' files travel by value; other modules are imported on workers."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_MADE_UP):
            cloudpickle.register_pickle_by_value(module)


def of_dag_by_value(fn: Callable[..., Any], dag_file: str) -> None:
    """The same where a DAG's file was imported under a name of its own, as in tests."""
    while isinstance(fn, partial):
        fn = fn.func
    module = sys.modules.get(getattr(fn, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if (
        module is not None
        and module.__name__ != "__main__"
        and file
        and Path(file).resolve() == Path(dag_file).resolve()
    ):
        cloudpickle.register_pickle_by_value(module)

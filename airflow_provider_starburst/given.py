"""What a task was given in; its items, and what tells it from others, out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import conf

from starburst_common import BadInput, Rows
from starburst_common.spi import OPTIONS, refuse_unknown, told


def resolved(value: Any, context: Any) -> Any:
    """Outputs of other tasks as what those returned; all else, texts too, as it is."""
    if (resolve := _resolves(value)) is not None:
        return resolve(context)
    if isinstance(value, list | tuple) and any(_resolves(each) for each in value):
        return [resolved(each, context) for each in value]
    return value


def _resolves(value: Any) -> Any:
    return None if isinstance(value, type | os.PathLike) else getattr(value, "resolve", None)


def given_items(value: Any) -> Sequence[Any] | Rows:
    """Items as a list, or as rows that workers read. Raises `BadInput` for what is neither.

    >>> given_items(range(3))
    [0, 1, 2]
    >>> given_items("abc")
    Traceback (most recent call last):
    starburst_common.errors.BadInput: items='abc': give a list, or the output of a task that returns one
    """
    if isinstance(value, Rows):
        return value
    if value is None or isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise BadInput(f"items={told(value)}: give a list, or the output of a task that returns one")
    return list(value)


def told_items(items: Sequence[Any] | Rows) -> str:
    """For people."""
    return str(items) if isinstance(items, Rows) else f"{len(items):,} items"


def namespace() -> str:
    """Tells this deployment's tasks from those of others that use the same site."""
    section = "webserver" if find_spec("airflow.sdk") is None else "api"  # Airflow 2 has no such package
    return str(conf.get("starburst", "namespace", fallback="") or conf.get(section, "base_url", fallback=""))


def bundle_root(ti: Any, dag: Path) -> Path:
    """The folder of the DAG's bundle, above which nothing belongs to it."""
    bundle = getattr(ti, "bundle_instance", None)
    path = getattr(bundle, "path", None) or conf.get("core", "dags_folder", fallback="")
    root = Path(path).resolve() if path else dag.parent
    return root if dag.resolve().is_relative_to(root) else dag.resolve().parent


#: Options of the core that are arguments of the operator.
OWN = ("workers", "cpu", "memory", "slots", "spot", "image", "budget", "tolerate")
_NOT_HERE = ("label", "tags", "return_exceptions", "ordered", "progress", "results_to", "failures_to")


def run_options(
    ti: Any,
    own: Mapping[str, Any],
    others: Mapping[str, Any],
    *,
    label: str | None,
    tags: Mapping[str, str],
    max_hourly_cost: float | None,
    fail: bool,
) -> dict[str, Any]:
    """A task's options as the core takes them; tags tell which task instance it is. Raises `BadInput`."""
    refuse_unknown(others, OPTIONS)
    if twice := sorted({*others} & {*OWN, *_NOT_HERE}):
        raise BadInput(f"options: {', '.join(twice)}: give these to the operator itself, or not at all")
    given = {**others, **{name: value for name, value in own.items() if value is not None}, "progress": False}
    limits = {} if max_hourly_cost is None else {"max-hourly-cost": f"{max_hourly_cost:g}"}
    about = {"airflow-dag": ti.dag_id, "airflow-run": ti.run_id, "airflow-task": ti.task_id}
    given["tags"] = {**tags, **limits, **about, "airflow-map-index": str(ti.map_index)}
    given["label"] = label or f"{ti.dag_id}.{ti.task_id}"
    if own.get("tolerate") is None:
        given["return_exceptions"] = not fail
    return given

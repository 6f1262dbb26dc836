"""What a task was given in; its items, and what tells it from others, out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger

from starburst_common import BadInput, Rows, objects
from starburst_common.spi import OPTIONS, SUFFIXES, Backend, refuse_unknown, told

_PLACES = ("s3://", "/")


def resolved(value: Any, context: Any) -> Any:
    """Outputs of other tasks as what those returned; all else, texts too, as it is."""
    if (resolve := _resolves(value)) is not None:
        return resolve(context)
    if isinstance(value, list | tuple) and any(_resolves(each) for each in value):
        return [resolved(each, context) for each in value]
    return value


def _resolves(value: Any) -> Any:
    return None if isinstance(value, type | os.PathLike) else getattr(value, "resolve", None)


def rendered(value: Any, render: Callable[[str], Any]) -> Any:
    """Where items lie, with its templates filled in; all else is no template, whatever braces it holds."""
    if isinstance(value, Rows):
        return replace(value, uri=render(value.uri))
    return render(value) if isinstance(value, str) else value


def given_items(value: Any, backend: Backend | None = None) -> Sequence[Any] | Rows:
    """Items as a list, or as rows that workers read; where they lie is seen as the backend sees it.

    Raises `BadInput` for what is neither.

    >>> given_items(range(3)), given_items("s3://mine/calls/*.jsonl")
    ([0, 1, 2], Rows(uri='s3://mine/calls/*.jsonl', format=None))
    """
    if isinstance(value, Rows):
        return value
    if isinstance(value, str | Path):
        return _lying(str(value), backend)
    if value is None or isinstance(value, bytes | Mapping) or not hasattr(value, "__iter__"):
        raise BadInput(f"items={told(value)}: give a list, or the output of a task that returns one, or where they lie")
    return list(value)


def place_of(name: str, value: str | Path | None) -> str | None:
    """Where an argument says that something is to be written. Raises `BadInput` for what is no certain place."""
    if value is None or (isinstance(value, str | Path) and (uri := _absolute(str(value))).startswith(_PLACES)):
        return None if value is None else uri
    raise BadInput(f"{name}={told(value)}: give s3://BUCKET/KEY, or an absolute path: tasks run in any folder")


def _absolute(text: str) -> str:
    return unquote(text.removeprefix("file:").removeprefix("//")) if text.startswith("file:") else text


def _lying(text: str, backend: Backend | None) -> Sequence[Any] | Rows:
    """What a text names: rows of files, by their suffix, or objects as they are; a file without rows is no items."""
    uri = _absolute(text)
    suffix, several = PurePosixPath(uri).suffix, bool({*uri} & {"*", "?"})
    if not uri.startswith(_PLACES) or (suffix not in SUFFIXES and (not several or suffix == ".json")):
        raise BadInput(
            f"items={told(text)}: a text is not taken apart into characters: give a list, or where items lie, as "
            f'"s3://BUCKET/calls/*.jsonl", or an absolute path, for rows (of {", ".join(SUFFIXES)}), or '
            '"s3://BUCKET/scans/*.tif" for objects; a name that tells no format goes in Rows(uri, format="jsonl")'
        )
    if suffix not in SUFFIXES:
        return objects(uri, backend=backend)
    return [] if not several and not any(each.size for each in objects(uri, backend=backend)) else Rows(uri)


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


TELLS = hasattr(
    BaseTrigger, "on_kill"
)  #: whether a trigger hears that its task was marked or cleared: since Airflow 3.3
_TTL_S = 900.0  #: where it does not, workers go on so long without one
_LOOKS = 4  #: of a trigger at least, in the time in which its run's workers stop without any
#: Options of the core that are arguments of the operator.
OWN = (
    *("workers", "cpu", "memory", "slots", "spot", "image", "storage", "env", "task_role", "aws_tags"),
    *("capacity", "gpus"),
    *("budget", "deadline", "max_hourly_cost", "tolerate"),
)
_AIRFLOWS = ("retries", "retry_delay")  #: of the task, where they are given as its arguments
_ELSEWHERE = {
    **{name: f"give {name}= to the operator itself" for name in (*OWN, "driver_ttl", "results_to", "failures_to")},
    "label": "give run_label= to the operator",
    "tags": "give run_tags= to the operator",
    "return_exceptions": "give fail_on_partial_error=False to the operator",
    "ordered": "results are in the order of the items, always",
    "progress": "it is told in the task's log, always",
}


def run_options(
    ti: Any,
    own: Mapping[str, Any],
    others: Mapping[str, Any],
    *,
    label: str | None,
    tags: Mapping[str, str],
    fail: bool,
) -> dict[str, Any]:
    """A task's options as the core takes them; tags tell which task instance it is. Raises `BadInput`."""
    refuse_unknown(others, OPTIONS)
    if wrong := sorted({*others} & {*_ELSEWHERE}):
        raise BadInput(f"options: {'; '.join(f'{name}: {_ELSEWHERE[name]}' for name in wrong)}")
    given = {**others, **{name: value for name, value in own.items() if value is not None}, "progress": False}
    about = {"airflow-dag": ti.dag_id, "airflow-run": ti.run_id, "airflow-task": ti.task_id}
    given["tags"] = {**tags, **about, "airflow-map-index": str(ti.map_index)}
    given["label"] = label or f"{ti.dag_id}.{ti.task_id}"
    if own.get("tolerate") is None:
        given["return_exceptions"] = not fail
    return given


def driver_ttl(given: Any, *, deferrable: bool, cancel_on_kill: bool, poll_interval: float, tells: bool = TELLS) -> Any:
    """Seconds that workers go on without a driver, None for to their run's end; the core refuses what is neither.

    "auto" is a time in which a trigger is sure to have looked, where it is to end its run with its task but is not told
    by Airflow when that is marked or cleared. Raises `BadInput` where the trigger looks too seldom.

    >>> told_of = dict(deferrable=True, cancel_on_kill=True, poll_interval=10)
    >>> driver_ttl("auto", tells=False, **told_of), driver_ttl("auto", tells=True, **told_of)
    (900.0, None)
    >>> [driver_ttl("auto", tells=False, **{**told_of, name: False}) for name in ("deferrable", "cancel_on_kill")]
    [None, None]
    >>> driver_ttl(timedelta(minutes=5), **told_of), driver_ttl(None, **told_of)
    (300.0, None)
    """
    if given == "auto":
        untold = deferrable and cancel_on_kill and not tells
        return max(_TTL_S, _LOOKS * poll_interval) if untold else None
    asked = given.total_seconds() if isinstance(given, timedelta) else given
    if deferrable and isinstance(asked, int | float) and asked < _LOOKS * poll_interval:
        raise BadInput(
            f"driver_ttl={told(given)}: its trigger looks every {poll_interval:g} s: give {_LOOKS} times that at "
            "least, or a shorter poll_interval"
        )
    return asked


def refuse_misplaced(kwargs: Mapping[str, Any]) -> None:
    """Raises `BadInput` for options of a map that were given as arguments of a task, of which that has none.

    >>> refuse_misplaced({"retries": 2, "pool": "p"})
    >>> refuse_misplaced({"batch": 5})
    Traceback (most recent call last):
    starburst_common.errors.BadInput: batch=5: give options={'batch': 5}
    """
    given = {name: value for name, value in kwargs.items() if name in OPTIONS and name not in _AIRFLOWS}
    if where := [f"{name}: {_ELSEWHERE[name]}" for name in given if name in _ELSEWHERE]:
        raise BadInput("; ".join(where))
    if given:
        raise BadInput(f"{', '.join(f'{name}={told(value)}' for name, value in given.items())}: give options={given}")


def refuse_amounts(**given: Any) -> None:
    """Raises `BadInput` for what is no amount above nought; a timedelta is one, and so is None.

    >>> refuse_amounts(deadline=timedelta(hours=3), poll_interval=0.5)
    >>> refuse_amounts(deadline="3h")
    Traceback (most recent call last):
    starburst_common.errors.BadInput: deadline='3h': give a number above 0
    """
    for name, value in given.items():
        amount = value.total_seconds() if isinstance(value, timedelta) else value
        if amount is not None and not (type(amount) in (int, float) and 0 < amount < float("inf")):
            raise BadInput(f"{name}={told(value)}: give a number above 0")

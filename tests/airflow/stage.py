"""An operator, a task instance and a trigger as Airflow has them, without a database or a scheduler."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_starburst.operators.starburst import StarburstMapOperator
from airflow_provider_starburst.triggers.starburst import StarburstRunTrigger
from tests.airflow.work import works


class Ti(SimpleNamespace):
    """A task instance, as far as an operator asks it."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(
            **{"dag_id": "d", "run_id": "manual__1", "task_id": "t", "map_index": -1, "max_tries": 1, **changed}
        )
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """As Airflow stores it."""
        self.pushed[key] = json.loads(json.dumps(value, allow_nan=False))


def context(**changed: Any) -> Any:
    """What `execute` is given."""
    return {"ti": Ti(**changed), "dag": SimpleNamespace(fileloc=str(Path(__file__)))}


def operator(folder: Path | None = None, **options: Any) -> StarburstMapOperator:
    """Six items, of which the odd ones fail until they are mended."""
    given = {
        "python_callable": works,
        "items": list(range(6)),
        "op_args": [str(folder)],
        "workers": 1,
        "poll_interval": 0.5,
    }
    return StarburstMapOperator(task_id="t", **{**given, **options})


def deferred(task: StarburstMapOperator, told: Any) -> TaskDeferred:
    """How it defers."""
    with pytest.raises(TaskDeferred) as raised:
        task.execute(told)
    return raised.value


async def event_of(trigger: StarburstRunTrigger) -> dict[str, Any]:
    """What a trigger yields, once."""
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    return dict(json.loads(json.dumps(events[0], allow_nan=False)))


def again(trigger: StarburstRunTrigger) -> StarburstRunTrigger:
    """As a triggerer has it, from what was stored."""
    path, kwargs = trigger.serialize()
    assert path == "airflow_provider_starburst.triggers.starburst.StarburstRunTrigger"
    assert json.loads(json.dumps(kwargs, allow_nan=False)) == kwargs
    return StarburstRunTrigger(**kwargs)

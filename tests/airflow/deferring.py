"""`python -m tests.airflow.deferring DAG_RUN RUN …`: each task's instance waits for one of our runs, as if deferred.

What is put down is what Airflow's API server does when a task defers. A worker's part would cost half a second of a
processor for each task, which is no part of what a triggerer costs.
"""

from __future__ import annotations

import sys

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState

from airflow_provider_starburst.triggers.starburst import StarburstRunTrigger


def main() -> None:
    """Put them down, all at once."""
    dag_run, *runs = sys.argv[1:]
    with create_session() as session:
        found = session.query(TaskInstance).filter(TaskInstance.run_id == dag_run).all()
        for instance, run in zip(found, runs, strict=True):
            trigger = Trigger.from_object(StarburstRunTrigger(name=f"watched {run}", by="watcher", run=run))
            session.add(trigger)
            session.flush()
            instance.state, instance.trigger_id = TaskInstanceState.DEFERRED, trigger.id
            instance.next_method, instance.next_kwargs = "execute_complete", {}


if __name__ == "__main__":
    main()

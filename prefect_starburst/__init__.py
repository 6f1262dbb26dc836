"""Prefect tasks in, calls on starburst workers out: `@flow(task_runner=StarburstTaskRunner(workers=50))`."""

from prefect_starburst.runner import StarburstTaskRunner

__all__ = ["StarburstTaskRunner"]

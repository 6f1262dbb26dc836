"""An id that was made, and written down somewhere, before its run in; the run that begins under it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Unpack

from starburst_common.cluster import Cluster
from starburst_common.data.given import Rows
from starburst_common.model import RunId
from starburst_common.offered import RunOptions
from starburst_common.runs.run import Run


def start_as(
    run: RunId, cluster: Cluster, fn: Callable[..., Any], items: Iterable[Any] | Rows, **options: Unpack[RunOptions]
) -> Run:
    """As `Cluster.start`: whatever becomes of this process meanwhile, who knows the id finds the run."""
    asked = replace(cluster._merged({**options}), run=run)
    return cluster._calls().start(fn, items, (), asked)

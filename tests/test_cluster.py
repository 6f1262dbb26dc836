"""How a `Cluster`, and `starburst_map`, take their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest

from starburst_common import BadInput, Cluster, starburst_map
from starburst_common.local import local_backend


def test_several_iterables_are_mapped_as_by_the_standard_library(tmp_path: Path) -> None:
    """An argument each, to the end of the shortest, lists and endless ones alike; one alone is as ever."""
    backend = local_backend(tmp_path / "home")
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        rows: list[Callable[[], tuple[Iterable[Any], ...]]] = [
            lambda: ([1, 2, 3], [4, 5]),
            lambda: (range(3), count(5)),
            lambda: (iter([7, 8]), repeat(2)),
            lambda: ("ab", [2, 3], (4, 5)),
            lambda: ([(1, 2), (3, 4)],),
            lambda: ([], count()),
        ]
        for inputs in rows:
            assert cluster.map(_together, *inputs()) == list(map(_together, *inputs()))
        run = cluster.start(_together, [1, 2], [3, 4, 5], label="sized")
        assert run.status().items == 2
        assert run.results() == [(1, 3), (2, 4)]
        with pytest.raises(BadInput, match="7 cannot be iterated over"):
            cluster.map(_together, [1], 7)
    assert starburst_map(pow, [2, 3], [3, 2], workers=1, backend=backend, progress=False) == [8, 9]
    backend.close()


def _together(*arguments: object) -> tuple[object, ...]:
    return arguments

"""The contenders: each a pool of two worker processes that maps, streams and submits. Libraries are imported on use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

WORKERS = 2


def noop(item: int) -> int:
    """The least a function can do."""
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What a scenario may ask of an open contender."""

    map: Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
    #: Results as the contender hands them out, and what gives a future; of those that are asked for them.
    stream: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]] = lambda fn, items: iter(())
    submit: Callable[[Callable[[Any], Any], Any], Any] = lambda fn, item: None


@contextmanager
def starburst() -> Iterator[Pool]:
    """Ours, on the local backend."""
    from starburst_common import Cluster

    with Cluster(workers=WORKERS, backend="local", progress=False) as cluster:
        yield Pool(
            map=cluster.map,
            stream=lambda fn, items: iter(cluster.start(fn, items).iter_completed()),
            submit=cluster.submit,
        )


@contextmanager
def process_pool(chunksize: int, start: str | None = None) -> Iterator[Pool]:
    """The standard library's; its workers are started as the platform has it, or as is named."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context(start)) as pool:
        yield _executor(pool, chunksize)


@contextmanager
def loky(chunksize: int) -> Iterator[Pool]:
    """joblib's."""
    import loky

    with loky.ProcessPoolExecutor(WORKERS) as pool:
        yield _executor(pool, chunksize)


@contextmanager
def joblib() -> Iterator[Pool]:
    """As most use it: its workers stay for later calls."""
    import joblib

    library: Any = joblib  # untyped
    yield Pool(map=lambda fn, items: list(library.Parallel(WORKERS)(library.delayed(fn)(item) for item in items)))


@contextmanager
def mpire() -> Iterator[Pool]:
    """A WorkerPool."""
    import mpire

    library: Any = mpire  # partly typed
    with library.WorkerPool(WORKERS) as pool:
        yield Pool(map=lambda fn, items: list(pool.map(fn, items)))


def _executor(pool: Any, chunksize: int) -> Pool:
    stream = partial(pool.map, chunksize=chunksize)
    return Pool(map=lambda fn, items: list(stream(fn, items)), stream=stream, submit=pool.submit)


@contextmanager
def dask() -> Iterator[Pool]:
    """A LocalCluster of two workers with a thread each; `pure=False` spares it hashing every call."""
    import distributed

    library: Any = distributed  # partly typed
    with (
        library.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        library.Client(cluster) as client,
    ):
        start = partial(client.map, pure=False)
        yield Pool(
            map=lambda fn, items: list(client.gather(start(fn, items))),
            stream=lambda fn, items: (future.result() for future in library.as_completed(start(fn, items))),
            submit=partial(client.submit, pure=False),
        )


CONTENDERS: dict[str, Callable[[], AbstractContextManager[Pool]]] = {
    "starburst": starburst,
    "ProcessPool": partial(process_pool, 1),
    "ProcessPool, chunksize 100": partial(process_pool, 100),
    "ProcessPool, spawned, chunksize 100": partial(process_pool, 100, "spawn"),
    "loky": partial(loky, 1),
    "loky, chunksize 100": partial(loky, 100),
    "joblib": joblib,
    "mpire": mpire,
    "dask": dask,
}

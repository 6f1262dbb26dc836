"""`joblib.parallel_config("starburst")`: joblib's batches in, calls of an executor out. To import this registers it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from operator import call
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from starburst_common.errors import BadInput
from starburst_common.executor import StarburstExecutor


class StarburstBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs what `joblib.Parallel` is given, as scikit-learn's `n_jobs=-1`, on an executor.

    Takes the options of `StarburstExecutor`, and makes one for each `Parallel`; or `executor=`, one that is yours and
    stays warm. `n_jobs=-1` is all slots, a smaller number that many batches at once. Arrays travel with their batch:
    nothing is memory-mapped. What runs on a worker and is parallel itself uses threads there, as joblib's own do.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        executor: StarburstExecutor | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        if executor is not None and options:
            raise BadInput(f"{', '.join(options)}: an executor has its options; leave these out, or `executor`")
        self._given, self._options = executor, options
        self._executor = executor or StarburstExecutor(**options)
        self._futures: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """So many batches run at once."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        slots = self._executor._max_workers
        return slots if n_jobs is None or n_jobs < 0 else min(n_jobs, slots)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """One batch."""
        future = self._executor.submit(call, func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # before joblib 1.5

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """A batch's values; raises what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """After an error: what has not begun does not."""
        self._executor.take_back(list(self._futures))

    def terminate(self) -> None:
        """After a `Parallel`: let go of the workers, if they are not the caller's."""
        self.reset_batch_stats()
        if self._given is None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = StarburstExecutor(**self._options)


register_parallel_backend("starburst", StarburstBackend)

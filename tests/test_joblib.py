"""`parallel_config("starburst")`: what joblib's own backends do, this one does, on an executor."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from joblib import Parallel, delayed, effective_n_jobs, parallel_config

import starburst_common.joblib
from starburst_common import BadInput, StarburstExecutor
from starburst_common.local import local_backend
from starburst_common.ports import Backend
from tests import calls


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """A backend of its own."""
    made = local_backend(tmp_path / "home")
    yield made
    made.close()


def test_parallel_runs_on_an_executor(backend: Backend, tmp_path: Path) -> None:
    """Values in order, in other processes; n_jobs=-1 is all slots; nested calls work; an error stops what is left."""
    noted = tmp_path / "noted"

    def nested(number: int) -> tuple[int, int]:
        return sum(Parallel(n_jobs=2)(delayed(calls.add)(number, 1) for _ in range(2))), os.getpid()

    def failing(number: int) -> None:
        time.sleep(0.02)
        calls.note(str(noted))
        if number == 0:
            raise calls.Odd(7, "as asked")

    with StarburstExecutor(2, slots=2, backend=backend) as executor, parallel_config("starburst", executor=executor):
        assert effective_n_jobs(-1) == 4 and effective_n_jobs(3) == 3
        got = Parallel(n_jobs=-1)(delayed(nested)(number) for number in range(20))
        assert [value for value, _ in got] == [2 * (number + 1) for number in range(20)]
        assert os.getpid() not in {process for _, process in got}
        later = Parallel(return_as="generator")(delayed(calls.add)(number) for number in range(5))
        assert list(later) == list(range(5))
        with pytest.raises(calls.Odd, match="as asked"):
            Parallel(pre_dispatch="all", batch_size=1)(delayed(failing)(number) for number in range(1000))
        assert executor.submit(calls.add, 1).result(60) == 1
    assert len(noted.read_text()) < 500


def test_parallel_makes_an_executor_from_options(backend: Backend) -> None:
    """And one for each further `Parallel`; options beside an executor are refused."""
    with parallel_config("starburst", workers=3, slots=2):
        assert effective_n_jobs(-1) == 6
    registered = starburst_common.joblib.StarburstBackend(workers=1, backend=backend)
    with parallel_config(registered):
        for _ in range(2):
            assert Parallel(n_jobs=-1)(delayed(calls.add)(number) for number in range(3)) == [0, 1, 2]
    with StarburstExecutor(1, backend=backend) as executor, pytest.raises(BadInput, match="workers: an executor has"):
        starburst_common.joblib.StarburstBackend(executor=executor, workers=2)


@pytest.mark.rest
def test_a_grid_search_runs_on_it(backend: Backend) -> None:
    """scikit-learn's, with its answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn.datasets import make_classification
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV
    x, y = make_classification(200, random_state=0)
    grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    here = GridSearchCV(LogisticRegression(), grid, cv=3).fit(x, y)
    with StarburstExecutor(2, backend=backend) as executor, parallel_config("starburst", executor=executor):
        there = GridSearchCV(LogisticRegression(), grid, cv=3, n_jobs=-1).fit(x, y)
    assert there.best_params_ == here.best_params_
    assert (there.cv_results_["mean_test_score"] == here.cv_results_["mean_test_score"]).all()

"""An Airflow home of the tests' own, and a folder where runs are done, before anything imports Airflow."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from starburst_common.local import local_backend
from starburst_common.ports import Backend

_ROOT = Path(tempfile.mkdtemp(prefix="starburst-airflow-"))
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)
EXAMPLES = Path(__file__).parents[2] / "airflow_provider_starburst" / "example_dags"

os.environ.update(
    {
        "AIRFLOW_HOME": str(_ROOT / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_ROOT}/airflow.db?timeout=120",
        "STARBURST_HOME": str(_ROOT / "starburst"),
    }
)
assert "airflow" not in sys.modules


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A backend of the test's own, which the default connection names."""
    home = str(tmp_path / "home")
    monkeypatch.setenv("STARBURST_HOME", home)
    said = {"conn_type": "starburst_ecs", "extra": {"backend": "local", "home": home}}
    monkeypatch.setenv("AIRFLOW_CONN_STARBURST_DEFAULT", json.dumps(said))
    opened = local_backend(tmp_path / "home")
    yield opened
    opened.close()

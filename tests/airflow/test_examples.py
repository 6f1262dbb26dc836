"""The example DAGs, and those that README and docs show, run as they stand, as Airflow itself runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.airflow.conftest import EXAMPLES
from tests.blocks import blocks_of

ROOT = Path(__file__).parents[2]
_DAG = re.compile(r'\bDAG\(\s*"(\w+)"')
SHIPPED = [name for file in sorted(EXAMPLES.glob("starburst_*.py")) for name in _DAG.findall(file.read_text())]
SHOWN = {"README.md": ["customers"], "docs/airflow.md": ["scores", "scores_by_decorator"]}


def shown(page: str) -> list[str]:
    """The DAGs of a page."""
    blocks = blocks_of(ROOT / page, root=ROOT)
    return [block.text for block in blocks if block.language == "python" and "import DAG" in block.text]


def test_every_dag_that_is_shown_succeeds(tmp_path: Path) -> None:
    """Their tasks assert what they get; a trigger, results, mapping, a sensor and an asset are among them."""
    assert {"starburst_map", "starburst_morning"} < {*SHIPPED} and len(SHIPPED) >= 4
    for file in EXAMPLES.glob("starburst_*.py"):
        shutil.copy(file, tmp_path)
    for page, dags in SHOWN.items():
        texts = shown(page)
        assert len(texts) == len(dags)
        for dag, text in zip(dags, texts, strict=True):
            (tmp_path / f"{dag}.py").write_text(text)
    dags = [*SHIPPED, *(dag for each in SHOWN.values() for dag in each)]
    command = [sys.executable, "-m", "tests.airflow.examples", *dags]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    ran = [line for line in done.stdout.splitlines() if line.startswith("done: dags")]
    assert ran == [f"done: dags test {dag} 2026-11-30" for dag in dags]

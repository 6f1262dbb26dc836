"""Where a connection says that runs are done, and what workers there get: never what Airflow is installed with."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.where import Where, requirements_of
from starburst_common import BadInput
from starburst_common.ports import Backend

SITE = {
    "name": "main",
    "region": "eu-west-1",
    "bucket": "my-starburst",
    "cluster": "starburst",
    "subnets": "subnet-1, subnet-2",
    "execution_role": "arn:aws:iam::123456789012:role/execution",
    "task_role": "arn:aws:iam::123456789012:role/task",
    "signing_secret": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key",
    "assign_public_ip": "false",
}


def test_a_connection_names_a_site_as_its_form_has_it() -> None:
    """Lists are typed with commas, and what is left empty is as settings have it."""
    where = Where.of(
        {**SITE, "role": "arn:aws:iam::123456789012:role/me", "image": "", "keep_days": "3"}, "connection c"
    )
    assert where.site is not None and where.site.subnets == ("subnet-1", "subnet-2")
    assert (where.site.assign_public_ip, where.keep_days, where.role[-2:]) == (False, 3.0, "me")
    assert where.told == "site main in eu-west-1"
    assert hash(where) == hash(Where.of({**SITE, "role": where.role, "keep_days": 3}, "connection c"))


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"backend": "gcp"}, "connection c: backend='gcp': give one of auto, aws, local"),
        ({"region": "eu-west-1"}, "connection c: \\[site\\] lacks name"),
        ({"keep_days": "a week"}, "connection c: keep_days='a week': give .*days"),
        ({**SITE, "region": "Ireland"}, "connection c: \\[site\\] region='Ireland'"),
    ],
)
def test_what_a_connection_says_wrongly_is_told_with_its_name(said: dict[str, Any], wrong: str) -> None:
    """Where nobody sees a settings file."""
    with pytest.raises(BadInput, match=wrong):
        Where.of(said, "connection c")


def test_workers_in_aws_get_what_the_dag_says(tmp_path: Path) -> None:
    """What is asked, else what lies beside the DAG's file, and nothing from above its bundle."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    where, dag = Where.of(SITE, "c"), bundle / "dag.py"
    (tmp_path / "requirements.txt").write_text("apache-airflow==3.3.2\n")
    with pytest.raises(BadInput, match="Airflow's own packages are not sent"):
        requirements_of(where, None, None, dag, bundle)
    assert requirements_of(where, None, "an-image:1", dag, bundle) == where
    listed = requirements_of(where, ["numpy==2.1.0", "pandas"], None, dag, bundle)
    assert Path(listed.image.requirements).read_text() == "numpy==2.1.0\npandas\n"
    (bundle / "requirements.txt").write_text("numpy==2.1.0\n")
    assert requirements_of(where, None, None, dag, bundle).image.requirements == str(bundle / "requirements.txt")
    named = requirements_of(where, "../requirements.txt", None, dag, bundle)
    assert named.image.requirements == str(tmp_path / "requirements.txt")
    here = Path(requirements_of(where, "installed", None, dag, bundle).image.requirements).read_text().splitlines()
    assert f"numpy=={version('numpy')}" in here
    assert not [line for line in here if line.startswith(("apache-airflow", "fastapi", "sqlalchemy", "starburst"))]
    with pytest.raises(BadInput, match="there is no"):
        requirements_of(where, "nowhere.txt", None, dag, bundle)


def test_on_this_machine_workers_have_what_airflow_has(tmp_path: Path) -> None:
    """They run in the same environment."""
    where = Where.of({"backend": "local", "home": str(tmp_path)}, "c")
    assert where.site is None and requirements_of(where, ["numpy"], None, tmp_path / "dag.py", tmp_path) == where


def test_a_hook_speaks_for_its_connection(place: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It begins runs and tells of them, and tests the connection."""
    hook = StarburstHook()
    run = hook.start(abs, [-1, -2], workers=1, progress=False)
    assert hook.results(run.id, timeout=60) == [1, 2]
    assert hook.status(run.id).answered == 2 and hook.estimate(run.id).usd > 0
    assert [(row.name, row.runs, row.items) for row in hook.costs(by="function")] == [("abs", 1, 2)]
    assert hook.test_connection() == (True, f"this machine ({tmp_path / 'home'})\nruns kept there: 1")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", '{"conn_type": "starburst_ecs", "extra": {"region": "eu-west-1"}}')
    fine, why = StarburstHook("other").test_connection()
    assert not fine and "connection other: [site] lacks name" in why

"""Credentials, role and endpoints of a connection of the Amazon provider, where that is installed."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from airflow_provider_starburst.errors import StarburstRefused
from airflow_provider_starburst.hooks.starburst import StarburstHook, session_of
from airflow_provider_starburst.where import Where
from tests.airflow.stage import context, operator
from tests.airflow.work import sleeps
from tests.places import AWS_PACE
from tests.testbed.bed import Bed as Aws

ROLE = "arn:aws:iam::123456789012:role/batch"


@pytest.fixture
def connected(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bed's site, and nothing in this process that tells where AWS is, or who we are, but a connection."""
    site = {name: ", ".join(value) if isinstance(value, list) else value for name, value in aws.site.items()}
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    real = Where.open
    monkeypatch.setattr(Where, "open", lambda where, new_session=None: real(where, new_session).paced(**AWS_PACE))

    def connect(own: dict[str, Any], theirs: dict[str, Any]) -> None:
        login = {"login": aws.env["AWS_ACCESS_KEY_ID"], "password": aws.env["AWS_SECRET_ACCESS_KEY"]}
        extra = {"endpoint_url": aws.endpoint, "service_config": {"sts": {"endpoint_url": aws.endpoint}}, **theirs}
        for name, said in (
            ("STARBURST_DEFAULT", {"conn_type": "starburst_ecs", "extra": {**site, **own}}),
            ("AWS_BED", {"conn_type": "aws", **login, "extra": extra}),
        ):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(said))

    return connect


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ({}, {}),
        pytest.param({}, {"role_arn": ROLE, "region_name": "eu-central-1"}, marks=pytest.mark.rest),
        pytest.param({"role": ROLE}, {}, marks=pytest.mark.rest),
    ],
)
def test_a_connection_to_aws_says_who_and_where(aws: Aws, connected: Any, own: Any, theirs: Any) -> None:
    """To boto3 and to the object store alike, whatever else this process knows; the region is the site's."""
    pytest.importorskip("airflow.providers.amazon")
    connected(own, theirs)
    task = operator(python_callable=sleeps, op_args=None, items=[0.1, 0.2], aws_conn_id="aws_bed")
    assert [*task.execute(context())] == [0.1, 0.2]
    new = session_of(StarburstHook(aws_conn_id="aws_bed").where())
    assert new is not None
    credentials = new().get_credentials()
    assert (credentials.access_key != aws.env["AWS_ACCESS_KEY_ID"]) == bool(theirs)


def test_without_its_provider_it_is_said_what_to_install(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the task fails for good."""
    connected({"aws_conn_id": "aws_bed"}, {})
    for name in [name for name in sys.modules if name.startswith("airflow.providers.amazon")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon", None)
    with pytest.raises(StarburstRefused, match="connections to AWS need `pip install apache"):
        operator().execute(context())

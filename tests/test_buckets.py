"""Buckets of the user's are seen with the credentials of who runs the map, wherever they are; those of a process count
only where nobody named others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3.session
import pytest

from starburst_common import Cluster, Denied, Object, Rows, attach, objects, starburst_map
from starburst_common.aws import aws_backend
from starburst_common.aws.buckets import UserBuckets
from starburst_common.aws.clients import Clients
from starburst_common.aws.lent import Lent
from starburst_common.aws.sessions import AwsSession, SessionAt
from starburst_common.data.where import Lying, find, put, read
from starburst_common.ports import Backend
from starburst_common.sites.site import Site
from tests.places import AWS_PACE, environment
from tests.policies import allow_bucket
from tests.secure import Secure, secure_store
from tests.testbed.bed import Bed as Aws

WRONG = "AKIAWRONG"
REFUSED = {"service": "s3", "code": "InvalidAccessKeyId", "status": 403, "probability": 1.0}


@pytest.fixture
def whose(aws: Aws) -> Iterator[Callable[[str], Backend]]:
    """The bed's site by the name of who uses it; this process's own credentials may do nothing, and are counted."""
    opened: list[Backend] = []
    aws.fault(access_key=WRONG, **REFUSED)

    for name in ("me", "other"):
        aws.new_key(named=name)

    def backend(name: str) -> Backend:
        session = partial(AwsSession, name, "secret", region_name=aws.site["region"])
        opened.append(aws_backend(Site.of(aws.site, "the test bed"), new_session=session).paced(**AWS_PACE))
        return opened[-1]

    with environment({"AWS_ACCESS_KEY_ID": WRONG}):
        yield backend
    for each in opened:
        each.close()


def test_a_cluster_looks_as_its_backend_does(aws: Aws, whose: Callable[[str], Backend]) -> None:
    """At rows, objects, results and failures, as it begins and later; this process's own credentials are never used."""
    aws.boto("s3").create_bucket(Bucket="mine")
    allow_bucket(aws, "mine")
    aws.boto("s3").put_object(Bucket="mine", Key="in/a.jsonl", Body=b"1\n2\n-3\n")
    backend = whose("me")
    to: Any = {"results_to": "s3://mine/out/*.jsonl", "tolerate": 1, "failures_to": "s3://mine/failed.jsonl"}
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        files = cluster.map(_positive, Rows("s3://mine/in/*"), **to)
        (each,) = objects("s3://mine/in/*", backend=backend)
        assert each.read() == each.open().read() == b"1\n2\n-3\n" and cluster.map(_size, [each]) == [7]
    (run,) = [each for each in backend.store.folders("runs/") if attach(each, backend=backend).function == "_positive"]
    assert files == attach(run, backend=backend).written(return_exceptions=True)
    assert attach(run, backend=backend).results(return_exceptions=True)[:2] == [1, 2]
    assert _body(aws, "failed.jsonl") == b"-3\n" and json.loads(_body(aws, "out/manifest.json"))["values"] == 2
    assert aws.faults()[0]["hits"] == 0
    with pytest.raises(Denied, match="not allowed to reach s3://mine/in/"):
        objects("s3://mine/in/*")


def test_two_in_one_process_do_not_mix(aws: Aws, whose: Callable[[str], Backend]) -> None:
    """Who may not read a row does not get it from who may, nor the other way round."""
    aws.boto("s3").create_bucket(Bucket="mine")
    allow_bucket(aws, "mine")
    aws.boto("s3").put_object(Bucket="mine", Key="in/a.jsonl", Body=b"1\n2\n")
    to: Any = {"workers": 1, "results_to": "s3://mine/out/*.jsonl", "progress": False}
    starburst_map(_positive, Rows("s3://mine/in/*"), backend=whose("me"), **to)
    aws.fault(access_key="other", match="/mine", **REFUSED)
    (run,) = whose("me").store.folders("runs/")
    assert attach(run, backend=whose("me")).results() == [1, 2]
    told = attach(run, backend=whose("other")).results(return_exceptions=True)
    assert ["not allowed to reach" in str(each) for each in told] == [True, True]
    for name, there in (("me", 1), ("other", 0), ("me", 1)):
        try:
            assert len(objects("s3://mine/in/*", backend=whose(name))) == there
        except Denied:
            assert not there


def test_a_bucket_may_be_in_another_region(aws: Aws) -> None:
    """S3 tells which; at home and on workers alike."""
    there: Any = {"LocationConstraint": "eu-central-1"}
    aws.boto("s3").create_bucket(Bucket="far", CreateBucketConfiguration=there)
    allow_bucket(aws, "far")
    put("s3://far/in/a.jsonl", b"1\n2\n", None)
    backend = aws_backend(Site.of(aws.site, "the test bed")).paced(**AWS_PACE)
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(_positive, Rows("s3://far/in/*"), results_to="s3://far/out/*.jsonl")
        assert run.results() == [1, 2]
        assert cluster.map(_size, objects("s3://far/in/*")) == [4]
    backend.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Secure]:
    """An object store elsewhere, behind a certificate of its own."""
    with secure_store(tmp_path) as server:
        yield server


@pytest.mark.parametrize("said", ["variables", "profile", "session", "session that trusts all"])
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_bucket_is_where_boto3_has_it_and_trusted_alike(
    secure: Secure, tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By AWS's variables, by a profile, and by a session's own endpoint and certificates."""
    for name in ("AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    profile = (
        f"[profile mine]\nregion = eu-west-1\nendpoint_url = {secure.endpoint}\nca_bundle = {secure.certificate}\n"
    )
    (tmp_path / "config").write_text(profile)
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CONFIG_FILE": str(tmp_path / "config")}
    trusts: Any = {"session": str(secure.certificate), "session that trusts all": False}.get(said)
    by: dict[str, dict[str, str]] = {
        "variables": {"AWS_ENDPOINT_URL_S3": secure.endpoint, "AWS_CA_BUNDLE": str(secure.certificate)},
        "profile": {"AWS_PROFILE": "mine"},
    }
    with environment({**keys, **by.get(said, {})}):
        buckets = None
        if said not in by:
            mine = boto3.session.Session()
            clients = Clients("eu-west-1", lambda: SessionAt(mine, lambda service: secure.endpoint, trusts))
            buckets = UserBuckets(Lent(clients))
            assert clients.s3.get_object(Bucket="mine", Key="by-boto3")["Body"].read() == b"abc"
        lying = put("s3://mine/a", b"abc", buckets)
        assert lying == Lying("s3://mine/a", 3, '"1"')
    assert secure.asked[-1] == "PUT /mine/a"


def test_what_variables_name_is_seen_as_they_are_now(aws: Aws) -> None:
    """A script may change them between two calls."""
    aws.boto("s3").create_bucket(Bucket="mine")
    allow_bucket(aws, "mine")
    aws.fault(access_key=WRONG, **REFUSED)
    (found,) = [put("s3://mine/a", b"abc", None)]
    with environment({"AWS_ACCESS_KEY_ID": WRONG}), pytest.raises(Denied):
        find("s3://mine/a", None)
    assert read(found, 0, 3, None) == b"abc" and find("s3://mine/a", None) == [found]


def _body(aws: Aws, key: str) -> bytes:
    return bytes(aws.boto("s3").get_object(Bucket="mine", Key=key)["Body"].read())


def _positive(number: int) -> int:
    if number < 0:
        raise ValueError(number)
    return number


def _size(each: Object) -> int:
    return len(each.read())

"""Where requests go and whom they trust there: both clients of S3, and all others, as AWS's own settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import obstore
import pytest
from botocore.exceptions import SSLError
from obstore.exceptions import GenericError
from obstore.store import S3Store

from starburst_common import starburst_map
from starburst_common.aws import aws_backend
from starburst_common.aws.access import S3Access
from starburst_common.aws.clients import Clients
from starburst_common.sites.site import Site
from tests.places import AWS_PACE, environment
from tests.testbed.bed import Bed as Aws
from tests.testbed.engine import Engine

BIG = bytes(2 << 20)  # which boto3 sends


@pytest.fixture(scope="module")
def named() -> Iterator[Aws]:
    """A bed that is found by AWS's names, and has a certificate for each of them."""
    with Aws(named=True) as aws:
        yield aws


class Said(NamedTuple):
    """What is set, and where requests then go."""

    variables: dict[str, str]
    s3: str
    sqs: str
    profile: str = ""  #: in AWS's own file; {ca} is the authority's certificate


S3, SQS = "s3.us-east-1.amazonaws.com", "sqs.us-east-1.amazonaws.com"
WAYS = {
    "as AWS has it": Said({}, S3, SQS),
    "a profile's certificates": Said({}, S3, SQS, "ca_bundle = {ca}"),
    "variables of services": Said(
        {"AWS_ENDPOINT_URL_S3": "https://s3.mine.test", "AWS_ENDPOINT_URL_SQS": "https://sqs.mine.test"},
        "s3.mine.test",
        "sqs.mine.test",
    ),
    "a profile's services": Said(
        {},
        "s3.mine.test",
        "sqs.mine.test",
        "services = own\n[services own]\ns3 =\n  endpoint_url = https://s3.mine.test\n"
        "sqs =\n  endpoint_url = https://sqs.mine.test",
    ),
    "FIPS": Said({"AWS_USE_FIPS_ENDPOINT": "true"}, f"s3-fips{S3[2:]}", f"sqs-fips{SQS[3:]}"),
    "dual stack": Said(
        {}, "s3.dualstack.us-east-1.amazonaws.com", "sqs.us-east-1.api.aws", "use_dualstack_endpoint = true"
    ),
    "both": Said(
        {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        "s3-fips.dualstack.us-east-1.amazonaws.com",
        "sqs-fips.us-east-1.api.aws",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_all_clients_go_where_aws_s_settings_say(
    named: Aws, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is counted by the name that it came under: none goes elsewhere."""
    named.reset()
    said = WAYS[way]
    profile = tmp_path / "config"
    profile.write_text(f"[default]\n{said.profile.format(ca=named.env['AWS_CA_BUNDLE'])}\n")
    variables = {**named.env, "AWS_CONFIG_FILE": str(profile), **said.variables}
    if "ca_bundle" in said.profile:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)  # which goes before
        del variables["AWS_CA_BUNDLE"]
    with environment(variables), closing(aws_backend(Site.of(named.site, "the bed"))) as backend:
        backend.store.create("runs/a", b"abc")
        backend.store.create("runs/big", BIG)
        assert bytes(backend.store.get("runs/a")) == b"abc"
        assert [entry.key for entry in backend.store.entries("runs/")] == ["runs/a", "runs/big"]
        backend.queue.ensure("work-x")
        backend.queue.drop("work-x")
        if not said.profile:  # slots, which have no boto3, go by variables
            assert len(next(iter(obstore.list(S3Access().store(named.site["bucket"], "us-east-1"))))) == 2
    hosts = {host.removeprefix(f"{named.site['bucket']}.") for host in named.hosts("s3")}
    assert hosts == {said.s3} and named.hosts("sqs") == {said.sqs}
    assert not any(named.hosts(service, of="") for service in ("s3", "sqs", "secretsmanager"))


def test_workers_speak_with_certified_names_too(named: Aws) -> None:
    """A whole map by TLS: the driver and its workers each find every service by its name, and nothing elsewhere."""
    named.reset()
    with environment(named.env), closing(aws_backend(Site.of(named.site, "the bed")).paced(**AWS_PACE)) as backend:
        assert starburst_map(abs, [-1, -2], backend=backend, workers=1, progress=False) == [1, 2]
    for whose in ("driver", "task"):
        assert {host.removeprefix(f"{named.site['bucket']}.") for host in named.hosts("s3", of=whose)} == {S3}
        assert named.hosts("sqs", of=whose) == {SQS}
    assert named.hosts("ecs") == {"ecs.us-east-1.amazonaws.com"}
    assert not any(named.hosts(service, of="") for service in ("s3", "sqs", "ecs", "secretsmanager"))


def test_who_is_not_trusted_is_not_believed(named: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority is known by those settings alone: without them neither client says anything to anybody."""
    named.reset()
    settings = {name: value for name, value in named.env.items() if name != "AWS_CA_BUNDLE"}
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    once: Any = {"max_retries": 0}
    with environment(settings):
        with closing(Clients("us-east-1")) as clients, pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            clients.quotas.list_services()
        with pytest.raises(GenericError):
            list(obstore.list(S3Store(named.site["bucket"], region="us-east-1", retry_config=once)))
    assert named.hosts("servicequotas") == named.hosts("s3") == set()


@pytest.mark.rest
def test_workers_in_containers_do_so_too(engine: Engine) -> None:
    """Whose image knows nothing of the authority, but by the variable that names its certificate."""
    image = engine.test_image()
    with Aws(workers="docker", named=True) as aws, environment(aws.env):
        site = {**aws.site, "image": image}
        aws.grant(site)
        with closing(aws_backend(Site.of(site, "the bed")).paced(**AWS_PACE)) as backend:
            assert starburst_map(abs, [-1, -2], backend=backend, workers=1, progress=False) == [1, 2]
        assert aws.hosts("sqs", of="task") == {SQS}

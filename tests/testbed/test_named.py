"""The bed under AWS's own names, against what AWS documents of them. Sources are named rule by rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ProxyConnectionError

from tests.places import environment
from tests.testbed.bed import Bed
from tests.testbed.hosts import Host, host_of

ONCE = Config(retries={"total_max_attempts": 1})
REGIONS = ("us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1")


@pytest.fixture(scope="module")
def named() -> Iterator[Bed]:
    """One, taken for AWS."""
    with Bed(named=True) as bed, environment(bed.env):
        yield bed


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(("fips", "dual"), [(False, False), (True, False), (False, True)])
def test_names_are_those_that_botocore_has(region: str, fips: bool, dual: bool) -> None:
    """Each client's endpoint is its service's in its region (botocore, endpoint rules)."""
    session = boto3.Session("key", "secret", region_name=region)
    config = Config(use_fips_endpoint=fips, use_dualstack_endpoint=dual, s3={"us_east_1_regional_endpoint": "regional"})
    for service in ("s3", "sqs", "ecs", "ecr", "logs", "cloudwatch"):
        url = session.client(service, config=config).meta.endpoint_url
        assert host_of(url.removeprefix("https://")) == Host(service, region), url


@pytest.mark.parametrize(
    ("host", "signed", "code"),
    [
        ("https://sqs.us-east-1.amazonaws.com", "eu-west-1", "InvalidSignatureException"),
        ("https://ecs.us-east-1.amazonaws.com", "us-east-1", "InvalidSignatureException"),
    ],
)
def test_what_is_signed_for_elsewhere_is_refused(named: Bed, host: str, signed: str, code: str) -> None:
    """Scope names region and service (IAM User Guide, "Troubleshoot Signature Version 4 signing")."""
    sqs = boto3.client("sqs", region_name=signed, endpoint_url=host, config=ONCE)
    with pytest.raises(ClientError, match=f"{code}.*Credential should be scoped to"):
        sqs.list_queues()


def test_s3_says_which_region_it_expects(named: Bed) -> None:
    """AuthorizationHeaderMalformed (Amazon S3 API reference, "Error responses")."""
    s3 = boto3.client("s3", region_name="eu-west-1", endpoint_url="https://s3.us-east-1.amazonaws.com", config=ONCE)
    with pytest.raises(ClientError, match="'eu-west-1' is wrong; expecting 'us-east-1'"):
        s3.list_buckets()


def test_what_is_in_one_region_is_not_in_another(named: Bed) -> None:
    """Queues, clusters, parameters and log groups are a region's (AWS General Reference, "AWS resources")."""
    named.boto("sqs").create_queue(QueueName="starburst-here")
    far: dict[str, Any] = {"region_name": "eu-west-1", "config": ONCE}
    with pytest.raises(ClientError, match="does not exist"):
        named.boto("sqs", **far).get_queue_url(QueueName="starburst-here")
    with pytest.raises(ClientError, match="ClusterNotFoundException"):
        named.boto("ecs", **far).list_tasks(cluster=named.site["cluster"])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        named.boto("secretsmanager", **far).get_secret_value(SecretId="starburst/bed/signing")


def test_a_name_that_aws_does_not_have_is_nobody_s(named: Bed) -> None:
    """China's region is in China's domain alone (AWS General Reference, "Service endpoints")."""
    sqs = boto3.client(
        "sqs", region_name="cn-north-1", endpoint_url="https://sqs.cn-north-1.amazonaws.com", config=ONCE
    )
    with pytest.raises(ProxyConnectionError):
        sqs.list_queues()

"""A host's name in; which service of which region it is, as AWS has it, out. Pure.

Sources: botocore 1.44, data/partitions.json and each service's endpoint rules; Amazon S3 User Guide, "Virtual hosting
of general purpose buckets" and "Using dual-stack endpoints"; AWS General Reference, "Service endpoints".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from moto.utilities.utils import get_partition

from tests.testbed.calls import SIGNED_AS

_REGION = r"(?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d)"
#: What names end with in each partition: by IPv4, and by both.
_ENDS = {
    "aws": ("amazonaws.com", "api.aws"),
    "aws-us-gov": ("amazonaws.com", "api.aws"),
    "aws-cn": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "aws-eusc": ("amazonaws.eu", "api.amazonwebservices.eu"),
}
_S3 = re.compile(rf"(?:(?P<bucket>.+)\.)?s3(?:-fips)?(?:\.dualstack)?\.{_REGION}\.(?P<end>.+)")
_IMAGES = re.compile(rf"\d{{12}}\.dkr[.-]ecr(?:-fips)?\.{_REGION}\.(?P<end>.+)")
_OTHERS = re.compile(rf"(?:api\.(?=ecr))?(?P<service>[a-z0-9]+)(?:-fips)?\.{_REGION}\.(?P<end>.+)")
#: Those that name no region, with what is signed for there.
_GLOBAL = {
    "iam.amazonaws.com": "us-east-1",
    "iam-fips.amazonaws.com": "us-east-1",
    "iam.us-gov.amazonaws.com": "us-gov-west-1",
}
_S3_GLOBAL = re.compile(r"(?:(?P<bucket>.+)\.)?s3\.amazonaws\.com")
#: A proxy's or a gateway's of the user's own, which takes what is signed for any region.
_OWN = re.compile(r"(?P<service>[a-z0-9]+)\.mine\.test")


class Host(NamedTuple):
    """What answers under a name."""

    service: str  #: as `Call.service`; "registry" is ECR's
    region: str  #: that requests must be signed for; "" for any
    bucket: str = ""  #: of S3, if the name has it


def host_of(name: str) -> Host | None:
    """Nothing where AWS has no such name.

    >>> host_of("sqs-fips.us-east-1.api.aws")
    Host(service='sqs', region='us-east-1', bucket='')
    >>> host_of("mine.s3.cn-north-1.amazonaws.com.cn")
    Host(service='s3', region='cn-north-1', bucket='mine')
    >>> host_of("s3.cn-north-1.amazonaws.com")
    """
    if region := _GLOBAL.get(name):
        return Host("iam", region)
    if found := _OWN.fullmatch(name):
        return Host(SIGNED_AS.get(found["service"], found["service"]), "")
    if found := _S3_GLOBAL.fullmatch(name):
        return Host("s3", "us-east-1", found["bucket"] or "")
    for pattern, service in ((_S3, "s3"), (_IMAGES, "registry"), (_OTHERS, "")):
        if (found := pattern.fullmatch(name)) and found["end"] in _ENDS.get(get_partition(found["region"]), ()):
            named = service or found["service"]
            bucket = found["bucket"] if service == "s3" else None
            return Host(SIGNED_AS.get(named, named), found["region"], bucket or "")
    return None

"""A site in; what IAM calls its things, and statements about them, out. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starburst_common.sites.site import Site

Document = dict[str, Any]

#: By how the names of their regions begin; all others are of `aws`. Source: botocore 1.44, data/partitions.json.
_PARTITIONS = {
    "cn-": "aws-cn",
    "eusc-": "aws-eusc",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
}
#: Account, region and repository of an image. Source: Amazon ECR User Guide, "Amazon ECR private registry", read
#: 2026-11-30.
_IN_ECR = re.compile(r"(\d{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.[a-z.]+/([^:@]+)")


@dataclass(frozen=True, slots=True)
class Arns:
    """What policies call a site's things."""

    site: Site

    @property
    def partition(self) -> str:
        """The part of AWS that it lies in."""
        return partition_of(self.site.region)

    def of(self, service: str, *names: str) -> list[str]:
        """Of a service's things by their names."""
        return [f"arn:{self.partition}:{service}:{self.site.region}:{self.site.account}:{name}" for name in names]

    def bucket(self, *prefixes: str) -> list[str]:
        """Of the objects under prefixes; of the bucket itself where none is named."""
        whole = f"arn:{self.partition}:s3:::{self.site.bucket}"
        return [f"{whole}/{prefix}" for prefix in prefixes] or [whole]

    def role(self, kind: str) -> str:
        """Of a role that setup makes: roles are the account's, not a region's."""
        return (
            f"arn:{self.partition}:iam::{self.site.account}:role/starburst-{self.site.name}-{self.site.region}-{kind}"
        )

    @property
    def repository(self) -> list[str]:
        """Of the images' repository."""
        return self.of("ecr", f"repository/{self.site.repository}")

    @property
    def pulled(self) -> list[str]:
        """Of the repositories that workers' images may be in: the site's, and that of the image it is given."""
        given = in_ecr(self.site.image)
        other = [f"arn:{partition_of(given[1])}:ecr:{given[1]}:{given[0]}:repository/{given[2]}"] if given else []
        return [*dict.fromkeys([*self.repository, *other])]

    @property
    def queues(self) -> list[str]:
        """Of all queues of runs."""
        return self.of("sqs", f"starburst-{self.site.name}-*")


def in_ecr(image: str) -> tuple[str, str, str] | None:
    """Account, region and repository of an image in ECR; None of any other.

    >>> in_ecr("123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b:1"), in_ecr("python:3.13")
    (('123456789012', 'eu-west-1', 'a/b'), None)
    """
    found = _IN_ECR.match(image)
    return (found[1], found[2], found[3]) if found else None


def partition_of(region: str) -> str:
    """The partition of a region.

    >>> [partition_of(region) for region in ("eu-west-1", "cn-north-1", "us-gov-west-1", "us-isob-east-1")]
    ['aws', 'aws-cn', 'aws-us-gov', 'aws-iso-b']
    """
    return next((name for begin, name in _PARTITIONS.items() if region.startswith(begin)), "aws")


def allow(actions: Sequence[str], resources: Sequence[str], condition: Document | None = None) -> Document:
    allowed: Document = {"Effect": "Allow", "Action": [*actions], "Resource": [*resources]}
    return {**allowed, "Condition": condition} if condition else allowed


def document(statements: Sequence[Document]) -> Document:
    """With all that is allowed of the same things in one statement: IAM takes no long policies.

    >>> of = [allow(["s3:GetObject"], ["a"]), allow(["s3:PutObject"], ["b"]), allow(["s3:DeleteObject"], ["a"])]
    >>> [(each["Action"], each["Resource"]) for each in document(of)["Statement"]]
    [(['s3:GetObject', 's3:DeleteObject'], ['a']), (['s3:PutObject'], ['b'])]
    """
    found: list[Document] = []
    for each in statements:
        same = next((one for one in found if {**one, "Action": each["Action"]} == each), None)
        if same is None:
            found.append({**each})
        else:
            same["Action"] = [*dict.fromkeys([*same["Action"], *each["Action"]])]
    return {"Version": "2012-10-17", "Statement": found}

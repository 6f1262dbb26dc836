"""A site in; the least policies of who works in it, as IAM's documents, out. Pure.

Actions and what they can be narrowed to are those of the AWS Service Authorization Reference, read 2026-11-30.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starburst_common.sites.site import Site

Document = dict[str, Any]

#: Which of AWS's services may take which role.
TRUSTED = {
    "execution": "ecs-tasks.amazonaws.com",
    "task": "ecs-tasks.amazonaws.com",
    "build": "codebuild.amazonaws.com",
}
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
_PULLS = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
_PUSHES = ("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage")
_QUEUES = (
    "sqs:GetQueueUrl",
    "sqs:SendMessage",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
)

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

    @property
    def repository(self) -> list[str]:
        """Of the images' repository."""
        return self.of("ecr", f"repository/{self.site.repository}")

    @property
    def pulled(self) -> list[str]:
        """Of the repositories that workers' images may be in: the site's, and that of the image it is given."""
        given = _IN_ECR.match(self.site.image)
        other = [f"arn:{partition_of(given[2])}:ecr:{given[2]}:{given[1]}:repository/{given[3]}"] if given else []
        return [*dict.fromkeys([*self.repository, *other])]

    @property
    def queues(self) -> list[str]:
        """Of all queues of runs."""
        return self.of("sqs", f"starburst-{self.site.name}-*")


def partition_of(region: str) -> str:
    """The partition of a region.

    >>> [partition_of(region) for region in ("eu-west-1", "cn-north-1", "us-gov-west-1", "us-isob-east-1")]
    ['aws', 'aws-cn', 'aws-us-gov', 'aws-iso-b']
    """
    return next((name for begin, name in _PARTITIONS.items() if region.startswith(begin)), "aws")


def trust(kind: str, account: str, partition: str, region: str) -> Document:
    """Who may take a role: one service of AWS, and only for this account's own sake.

    Source: IAM User Guide, "The confused deputy problem", read 2026-11-30.
    """
    statement: Document = {
        "Effect": "Allow",
        "Principal": {"Service": TRUSTED[kind]},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": account}},
    }
    if kind != "build":
        statement["Condition"]["ArnLike"] = {"aws:SourceArn": f"arn:{partition}:ecs:{region}:{account}:*"}
    return _document([statement])


def execution(site: Site) -> Document:
    """ECS starts a worker: it pulls the image, writes to the log group, reads the signing secret."""
    arns = Arns(site)
    return _document(
        [
            _allow(["ecr:GetAuthorizationToken"], ["*"]),
            _allow(_PULLS, arns.pulled),
            _allow(["logs:CreateLogStream", "logs:PutLogEvents"], arns.of("logs", f"log-group:{site.log_group}*")),
            _reads_secret(site, many=True),
            *_key(site, "kms:Decrypt"),
        ]
    )


def task(site: Site) -> Document:
    """A worker works: runs and fleets in the bucket, and the queues. What builds read is not its business."""
    arns = Arns(site)
    return _document(
        [
            _allow(["s3:ListBucket"], arns.bucket()),
            _allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], arns.bucket("runs/*", "fleets/*")),
            _allow(["s3:GetObject"], arns.bucket("shared/*")),
            _allow(_QUEUES, arns.queues),
            *_key(site, "kms:Decrypt", "kms:GenerateDataKey"),
        ]
    )


def build(site: Site) -> Document:
    """CodeBuild builds: it reads its source, pushes the image, writes its log."""
    arns = Arns(site)
    log = f"log-group:/aws/codebuild/starburst-{site.name}*"
    return _document(
        [
            _allow(["s3:GetObject"], arns.bucket("builds/*")),
            _allow(["ecr:GetAuthorizationToken"], ["*"]),
            _allow([*_PULLS, *_PUSHES], arns.repository),
            _allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], arns.of("logs", log)),
            *_key(site, "kms:Decrypt"),
        ]
    )


def driver(site: Site) -> Document:
    """Whoever starts runs, looks at them, makes their images, and cleans up after them."""
    return _document([*_runs(site), *_images(site), *(_builds(site) if site.build_role else []), _quotas()])


def operator(site: Site) -> Document:
    """A driver who looks after the site, too: `starburst gc`, and `status` and `doctor` without anything left out."""
    arns = Arns(site)
    lists = ["ecs:ListTaskDefinitionFamilies", "ecs:ListTaskDefinitions", "ecs:DeregisterTaskDefinition"]
    definitions = arns.of("ecs", f"task-definition/starburst-{site.name}-*")
    asks = ["servicequotas:RequestServiceQuotaIncrease", "servicequotas:ListRequestedServiceQuotaChangeHistoryByQuota"]
    return _document(
        [
            *driver(site)["Statement"],
            _allow(lists, ["*"]),
            _allow(["ecs:DeleteTaskDefinitions"], definitions),
            _allow(["logs:DescribeLogGroups"], ["*"]),
            _allow(["iam:SimulatePrincipalPolicy", "iam:GetRole"], ["*"]),
            _allow(["sqs:ListQueues"], arns.of("sqs", "*")),
            _allow(["sqs:ListQueueTags"], arns.queues),
            _allow(["s3:ListBucketMultipartUploads"], arns.bucket()),
            _allow(asks, ["*"]),
            _allow(["ec2:DescribeRouteTables", "ec2:DescribeVpcEndpoints"], ["*"]),
        ]
    )


def prices() -> Document:
    """Whoever looks prices up; no run needs it. Neither action can be narrowed to anything."""
    return _document([_allow(["pricing:GetProducts", "ec2:DescribeSpotPriceHistory"], ["*"])])


def bill() -> Document:
    """Whoever compares costs with AWS's bill, which has everybody's in the account; no run needs it."""
    return _document([_allow(["ce:GetCostAndUsage", "ce:ListCostAllocationTags"], ["*"])])


#: What `starburst iam-policy` prints of a site.
POLICIES: Mapping[str, Callable[[Site], Document]] = {
    "driver": driver,
    "operator": operator,
    "task": task,
    "execution": execution,
    "build": build,
}


def _runs(site: Site) -> list[Document]:
    arns = Arns(site)
    own = ["sqs:CreateQueue", "sqs:TagQueue", "sqs:DeleteQueue", "sqs:GetQueueAttributes"]
    shared = [action for action in _QUEUES if action != "sqs:ChangeMessageVisibility"]  # leases are workers'
    tasks = arns.of("ecs", f"task-definition/starburst-{site.name}-*", f"task/{site.cluster}/*")
    cluster = {"ArnEquals": {"ecs:cluster": arns.of("ecs", f"cluster/{site.cluster}")[0]}}
    passed = {"StringEquals": {"iam:PassedToService": TRUSTED["task"]}}
    return [
        _allow(["s3:ListBucket"], arns.bucket()),
        _allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], arns.bucket("*")),
        _allow([*own, *shared], arns.queues),
        _allow(["ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"], ["*"]),
        _allow(["ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks", "ecs:TagResource"], tasks),
        _allow(["ecs:ListTasks"], ["*"], cluster),
        _allow(["iam:PassRole"], [site.execution_role, site.task_role], passed),
        _allow(
            ["logs:CreateLogGroup", "logs:TagResource", "logs:PutRetentionPolicy", "logs:GetLogEvents"],
            arns.of("logs", f"log-group:{site.log_group}*"),
        ),
        _reads_secret(site, many=False),
        *_key(site, "kms:Decrypt", "kms:GenerateDataKey"),
    ]


def _quotas() -> Document:
    """To see for how many workers there is room. A run goes on without, until AWS refuses a launch; it says so."""
    return _allow(
        [
            "servicequotas:GetServiceQuota",
            "servicequotas:GetAWSDefaultServiceQuota",
            "cloudwatch:GetMetricStatistics",
            "ec2:DescribeSubnets",
        ],
        ["*"],
    )


def _images(site: Site) -> list[Document]:
    looks = ["ecr:DescribeRepositories", "ecr:DescribeImages", "ecr:ListImages", "ecr:GetLifecyclePolicy"]
    makes = ["ecr:CreateRepository", "ecr:TagResource", "ecr:PutLifecyclePolicy", "ecr:BatchDeleteImage"]
    return [
        _allow(["ecr:GetAuthorizationToken"], ["*"]),
        _allow([*looks, *makes, *_PULLS, *_PUSHES], Arns(site).repository),
    ]


def _builds(site: Site) -> list[Document]:
    arns, name = Arns(site), f"starburst-{site.name}"
    projects = ["codebuild:BatchGetProjects", "codebuild:CreateProject", "codebuild:UpdateProject"]
    passed = {"StringEquals": {"iam:PassedToService": TRUSTED["build"]}}
    return [
        _allow(
            [*projects, "codebuild:StartBuild", "codebuild:BatchGetBuilds", "codebuild:StopBuild"],
            arns.of("codebuild", f"project/{name}"),
        ),
        _allow(["logs:GetLogEvents"], arns.of("logs", f"log-group:/aws/codebuild/{name}*")),
        _allow(["iam:PassRole"], [site.build_role], passed),
    ]


def _key(site: Site, *actions: str) -> list[Document]:
    """What goes through a key of the user's. Source: Amazon S3 User Guide, "Using SSE-KMS", read 2026-11-30."""
    return [_allow(actions, [site.kms_key])] if site.kms_key else []


def _reads_secret(site: Site, *, many: bool) -> Document:
    """`many`: ECS asks for parameters by the batch."""
    if ":ssm:" in site.signing_secret:
        return _allow(["ssm:GetParameters" if many else "ssm:GetParameter"], [site.signing_secret])
    whole = ":".join(site.signing_secret.split(":")[:7])  # what may follow is a key of its JSON, a stage and a version
    return _allow(["secretsmanager:GetSecretValue"], [whole])


def _allow(actions: Sequence[str], resources: Sequence[str], condition: Document | None = None) -> Document:
    allowed: Document = {"Effect": "Allow", "Action": [*actions], "Resource": [*resources]}
    return {**allowed, "Condition": condition} if condition else allowed


def _document(statements: Sequence[Document]) -> Document:
    return {"Version": "2012-10-17", "Statement": [*statements]}

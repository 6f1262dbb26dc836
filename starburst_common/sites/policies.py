"""A site in; the least policies of who works in it, as IAM's documents, out. Pure.

Actions and what they can be narrowed to are those of the AWS Service Authorization Reference, read 2026-11-30.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starburst_common.sites.administrator import BUCKET_SETTINGS
from starburst_common.sites.arns import Arns, Document, allow, document
from starburst_common.sites.arns import partition_of as partition_of
from starburst_common.sites.managed import infrastructure, instance
from starburst_common.sites.site import Site

#: Which of AWS's services may take which role.
TRUSTED = {
    "execution": "ecs-tasks.amazonaws.com",
    "task": "ecs-tasks.amazonaws.com",
    "build": "codebuild.amazonaws.com",
    "infrastructure": "ecs.amazonaws.com",
    "instance": "ec2.amazonaws.com",
}
#: Of these AWS says in its guides that they take a role for an account's own sake only; of the others it does not.
_BOUND = ("execution", "task", "build")
_PULLS = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
_PUSHES = ("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage")
_NETWORKS = ("AvailabilityZones", "InternetGateways", "RouteTables", "SecurityGroups", "VpcEndpoints", "Vpcs")
_QUEUES = (
    "sqs:GetQueueUrl",
    "sqs:SendMessage",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
)


def trust(kind: str, account: str, partition: str, region: str) -> Document:
    """Who may take a role: one service of AWS, and only for this account's own sake.

    Source: IAM User Guide, "The confused deputy problem", read 2026-11-30.
    """
    statement: Document = {
        "Effect": "Allow",
        "Principal": {"Service": TRUSTED[kind]},
        "Action": "sts:AssumeRole",
    }
    if kind in _BOUND:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
    if kind in ("execution", "task"):
        statement["Condition"]["ArnLike"] = {"aws:SourceArn": f"arn:{partition}:ecs:{region}:{account}:*"}
    return document([statement])


def trusts(document: Any, service: str) -> bool:
    """Whether a trust policy names a service of AWS, or anybody.

    >>> trusts(trust("task", "123456789012", "aws", "eu-west-1"), "ecs-tasks.amazonaws.com"), trusts({}, "x")
    (True, False)
    """
    statements = document.get("Statement", []) if isinstance(document, dict) else []
    for each in [statements] if isinstance(statements, dict) else statements:
        named = each.get("Principal", {}) if each.get("Effect") == "Allow" else {}
        services = named if isinstance(named, str) else named.get("Service", [])
        if service in services or "*" in services:
            return True
    return False


def execution(site: Site) -> Document:
    """ECS starts a worker: it pulls the image, writes to the log group, reads the signing secret."""
    arns = Arns(site)
    return document(
        [
            allow(["ecr:GetAuthorizationToken"], ["*"]),
            allow(_PULLS, arns.pulled),
            allow(["logs:CreateLogStream", "logs:PutLogEvents"], arns.of("logs", f"log-group:{site.log_group}*")),
            _reads_secret(site, many=True),
            *_key(site, "kms:Decrypt"),
        ]
    )


def task(site: Site) -> Document:
    """A worker works: runs in the bucket, and the queues. Of its fleet it reads how others ended."""
    arns = Arns(site)
    return document(
        [
            allow(["s3:ListBucket"], arns.bucket()),
            allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], arns.bucket("runs/*")),
            allow(["s3:GetObject"], arns.bucket("fleets/*", "shared/*")),
            allow(_QUEUES, arns.queues),
            *_key(site, "kms:Decrypt", "kms:GenerateDataKey"),
        ]
    )


def build(site: Site) -> Document:
    """CodeBuild builds: it reads its source, pushes the image, writes its log."""
    arns = Arns(site)
    log = f"log-group:/aws/codebuild/starburst-{site.name}*"
    return document(
        [
            allow(["s3:GetObject"], arns.bucket("builds/*")),
            allow(["ecr:GetAuthorizationToken"], ["*"]),
            allow([*_PULLS, *_PUSHES], arns.repository),
            allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], arns.of("logs", log)),
            *_key(site, "kms:Decrypt"),
        ]
    )


def driver(site: Site) -> Document:
    """Whoever starts runs, looks at them, makes their images, and cleans up after them."""
    return document([*_runs(site), *_images(site), *(_builds(site) if site.build_role else []), _quotas()])


def operator(site: Site) -> Document:
    """A driver who looks after the site, too: `starburst gc`, and `status` and `doctor` without anything left out."""
    arns = Arns(site)
    lists = ["ecs:ListTaskDefinitionFamilies", "ecs:ListTaskDefinitions", "ecs:DeregisterTaskDefinition"]
    definitions = arns.of("ecs", f"task-definition/starburst-{site.name}-*")
    asks = ["servicequotas:RequestServiceQuotaIncrease", "servicequotas:ListRequestedServiceQuotaChangeHistoryByQuota"]
    return document(
        [
            *driver(site)["Statement"],
            allow(lists, ["*"]),
            allow(["ecs:DeleteTaskDefinitions"], definitions),
            *(_looks_after_hosts(site) if site.providers else []),
            allow(["logs:DescribeLogGroups"], ["*"]),
            allow(["iam:SimulatePrincipalPolicy", "iam:GetRole"], ["*"]),
            *_looks_at_made(site),
            allow(["sqs:ListQueues"], arns.of("sqs", "*")),
            allow(["sqs:ListQueueTags"], arns.queues),
            allow(["s3:ListBucketMultipartUploads", *BUCKET_SETTINGS], arns.bucket()),
            allow(asks, ["*"]),
            allow([f"ec2:Describe{kind}" for kind in _NETWORKS], ["*"]),
        ]
    )


def prices() -> Document:
    """Whoever looks prices up; no run needs it. Neither action can be narrowed to anything."""
    return document([allow(["pricing:GetProducts", "ec2:DescribeSpotPriceHistory"], ["*"])])


def bill() -> Document:
    """Whoever compares costs with AWS's bill, which has everybody's in the account; no run needs it."""
    return document([allow(["ce:GetCostAndUsage", "ce:ListCostAllocationTags"], ["*"])])


#: What `starburst iam-policy` prints of a site.
POLICIES: Mapping[str, Callable[[Site], Document]] = {
    "driver": driver,
    "operator": operator,
    "task": task,
    "execution": execution,
    "build": build,
    "infrastructure": infrastructure,
    "instance": instance,
}


def _runs(site: Site) -> list[Document]:
    arns = Arns(site)
    own = ["sqs:CreateQueue", "sqs:TagQueue", "sqs:DeleteQueue", "sqs:GetQueueAttributes"]
    shared = [action for action in _QUEUES if action != "sqs:ChangeMessageVisibility"]  # leases are workers'
    tasks = arns.of("ecs", f"task-definition/starburst-{site.name}-*", f"task/{site.cluster}/*")
    cluster = {"ArnEquals": {"ecs:cluster": arns.of("ecs", f"cluster/{site.cluster}")[0]}}
    passed = {"StringEquals": {"iam:PassedToService": TRUSTED["task"]}}
    return [
        allow(["s3:ListBucket"], arns.bucket()),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], arns.bucket("*")),
        allow([*own, *shared], arns.queues),
        allow(["ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"], ["*"]),
        allow(["ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks", "ecs:TagResource"], tasks),
        allow(["ecs:ListTasks"], ["*"], cluster),
        *_hosts(site, "ecs:DescribeContainerInstances"),
        allow(["iam:PassRole"], [site.execution_role, site.task_role], passed),
        allow(
            ["logs:CreateLogGroup", "logs:TagResource", "logs:PutRetentionPolicy", "logs:GetLogEvents"],
            arns.of("logs", f"log-group:{site.log_group}*"),
        ),
        _reads_secret(site, many=False),
        *_key(site, "kms:Decrypt", "kms:GenerateDataKey"),
    ]


def _quotas() -> Document:
    """To see for how many workers there is room. A run goes on without, until AWS refuses a launch; it says so."""
    return allow(
        [
            "servicequotas:GetServiceQuota",
            "servicequotas:GetAWSDefaultServiceQuota",
            "cloudwatch:GetMetricStatistics",
            "ec2:DescribeSubnets",
        ],
        ["*"],
    )


def _looks_after_hosts(site: Site) -> list[Document]:
    """To end those without a worker, and to see that there can be some."""
    arns, ends = Arns(site), ["ecs:ListContainerInstances", "ecs:DeregisterContainerInstance"]
    return [
        allow(ends, arns.of("ecs", f"cluster/{site.cluster}")),
        allow(["ecs:DescribeCapacityProviders"], arns.of("ecs", *(f"capacity-provider/{n}" for n in site.providers))),
    ]


def _looks_at_made(site: Site) -> list[Document]:
    """To see whether what setup has made is as it was asked for."""
    arns, stem = Arns(site), f"starburst-{site.name}"
    profiles = f"arn:{arns.partition}:iam::{site.account}:instance-profile/{stem}-*"
    return [
        allow(["iam:GetRolePolicy"], [arns.role("*")]),
        *([allow(["iam:GetInstanceProfile"], [profiles])] if site.providers else []),
        *(_looks_at_parameter(site) if ":ssm:" in site.signing_secret else []),
        allow(["logs:ListTagsForResource"], arns.of("logs", f"log-group:{site.log_group}*")),
        allow(["ecr:GetRepositoryPolicy", "ecr:ListTagsForResource"], arns.repository),
        allow(["ecs:DescribeClusters"], arns.of("ecs", f"cluster/{site.cluster}")),
    ]


def _looks_at_parameter(site: Site) -> list[Document]:
    return [allow(["ssm:DescribeParameters"], ["*"]), allow(["ssm:ListTagsForResource"], [site.signing_secret])]


def _hosts(site: Site, *actions: str) -> list[Document]:
    """On the instances of workers, where some run on such."""
    return [allow(actions, Arns(site).of("ecs", f"container-instance/{site.cluster}/*"))] if site.providers else []


def _images(site: Site) -> list[Document]:
    looks = ["ecr:DescribeRepositories", "ecr:DescribeImages", "ecr:ListImages", "ecr:GetLifecyclePolicy"]
    makes = ["ecr:CreateRepository", "ecr:TagResource", "ecr:PutLifecyclePolicy", "ecr:BatchDeleteImage"]
    return [
        allow(["ecr:GetAuthorizationToken"], ["*"]),
        allow([*looks, *makes, *_PULLS, *_PUSHES], Arns(site).repository),
    ]


def _builds(site: Site) -> list[Document]:
    arns, name = Arns(site), f"starburst-{site.name}"
    projects = ["codebuild:BatchGetProjects", "codebuild:CreateProject", "codebuild:UpdateProject"]
    passed = {"StringEquals": {"iam:PassedToService": TRUSTED["build"]}}
    return [
        allow(
            [*projects, "codebuild:StartBuild", "codebuild:BatchGetBuilds", "codebuild:StopBuild"],
            arns.of("codebuild", f"project/{name}"),
        ),
        allow(["logs:GetLogEvents"], arns.of("logs", f"log-group:/aws/codebuild/{name}*")),
        allow(["iam:PassRole"], [site.build_role], passed),
    ]


def _key(site: Site, *actions: str) -> list[Document]:
    """What goes through a key of the user's. Source: Amazon S3 User Guide, "Using SSE-KMS", read 2026-11-30."""
    return [allow(actions, [site.kms_key])] if site.kms_key else []


def _reads_secret(site: Site, *, many: bool) -> Document:
    """`many`: ECS asks for parameters by the batch."""
    if ":ssm:" in site.signing_secret:
        return allow(["ssm:GetParameters" if many else "ssm:GetParameter"], [site.signing_secret])
    whole = ":".join(site.signing_secret.split(":")[:7])  # what may follow is a key of its JSON, a stage and a version
    return allow(["secretsmanager:GetSecretValue"], [whole])

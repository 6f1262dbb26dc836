"""A site in; what ECS is asked to have instances ready for its workers, and what its roles need for that, out. Pure.

Sources: AWS Managed Policy Reference, "AmazonECSInfrastructureRolePolicyForManagedInstances" and
"AmazonECSInstanceRolePolicyForManagedInstances"; Amazon ECS API reference, CreateCapacityProvider; read 2026-11-30. The
managed policies themselves want roles whose names begin with "ecsInstanceRole"; here a site's may pass its own alone.
"""

from __future__ import annotations

from typing import Any

from starburst_common.sites.arns import Arns, Document, allow, document
from starburst_common.sites.site import Site

#: So long an instance without workers stays, for those that come next; nothing runs then but what AWS counts.
IDLE_S = 120
_MADE = ("fleet", "instance", "launch-template", "network-interface", "volume")
_MANAGED = {"StringEquals": {"aws:RequestTag/AmazonECSManaged": "true"}}
_THEIRS = {"StringEquals": {"ec2:ManagedResourceOperator": "ecs.amazonaws.com"}}
_OF_THEIRS = {"StringEquals": {"ec2:ResourceTag/AmazonECSManaged": "true"}}
_WITH_EC2 = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
_ON_CREATE = {"StringEquals": {"ec2:CreateAction": ["CreateFleet", "CreateLaunchTemplate", "RunInstances"]}}
_LOOKS = (
    *("ec2:DescribeAvailabilityZones", "ec2:DescribeInstances", "ec2:DescribeInstanceTypeOfferings"),
    *("ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplates", "ec2:DescribeNetworkInterfaces"),
    *("ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
)


def infrastructure(site: Site) -> Document:
    """ECS starts instances for workers, in the site's network, with the instances' role. What it ends is its own."""
    arns = Arns(site)

    def any_of(*kinds: str) -> list[str]:
        return [f"arn:{arns.partition}:ec2:{site.region}:*:{kind}/*" for kind in kinds]

    spot = f"arn:{arns.partition}:iam::{site.account}:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"
    return document(
        [
            allow(["ec2:CreateLaunchTemplate"], any_of("launch-template"), _MANAGED),
            allow(["ec2:CreateLaunchTemplateVersion", "ec2:ModifyLaunchTemplate"], any_of("launch-template"), _THEIRS),
            allow(["ec2:CreateFleet"], any_of(*_MADE), _MANAGED),
            allow(["ec2:RunInstances"], any_of("instance", "network-interface", "volume"), _MANAGED),
            allow(["ec2:RunInstances"], any_of("launch-template"), _OF_THEIRS),
            allow(["ec2:CreateFleet", "ec2:RunInstances"], any_of("image", "security-group", "subnet")),
            allow(["ec2:CreateTags"], any_of(*_MADE), _ON_CREATE),
            allow(["iam:PassRole"], [arns.role("instance")], _WITH_EC2),
            allow(["iam:CreateServiceLinkedRole"], [spot]),
            allow(_LOOKS, ["*"]),
        ]
    )


def instance(site: Site) -> Document:
    """An instance joins the cluster, hears from ECS and tells it of its tasks. Functions on it could do the same."""
    arns = Arns(site)
    cluster = arns.of("ecs", f"cluster/{site.cluster}")
    own = arns.of("ecs", f"container-instance/{site.cluster}/*")
    return document(
        [
            allow(["ecs:DiscoverPollEndpoint"], ["*"]),
            allow(["ecs:RegisterContainerInstance"], cluster),
            allow(["ecs:SubmitAttachmentStateChanges", "ecs:SubmitTaskStateChange"], cluster),
            allow(["ecs:Poll", "ecs:StartTelemetrySession", "ecs:PutSystemLogEvents"], own),
        ]
    )


def provider(site: Site, profile: str, *, spot: bool, gpus: bool) -> dict[str, Any]:
    """What a capacity provider of the site's is to be: which instances, where, and when they end.

    Types by their attributes and how their names begin, so that ECS and Spot have many to choose from. The image on
    them is ECS's own, as are its updates; nobody can log in.
    """
    makers = ["amazon-web-services"] if site.architecture == "ARM64" else ["intel", "amd"]
    needs: dict[str, Any] = {
        "vCpuCount": {"min": 1},
        "memoryMiB": {"min": 1024},
        "cpuManufacturers": makers,
        "allowedInstanceTypes": [*(site.gpu_types if gpus else site.instance_types)],
        "burstablePerformance": "excluded",
        "bareMetal": "excluded",
    }
    if gpus:
        needs |= {"acceleratorTypes": ["gpu"], "acceleratorManufacturers": ["nvidia"], "acceleratorCount": {"min": 1}}
    else:
        needs |= {"acceleratorCount": {"max": 0}, "instanceGenerations": ["current"]}
    return {
        "infrastructureRoleArn": Arns(site).role("infrastructure"),
        "instanceLaunchTemplate": {
            "ec2InstanceProfileArn": profile,
            "networkConfiguration": {"subnets": [*site.subnets], "securityGroups": [*site.security_groups]},
            "capacityOptionType": "SPOT" if spot else "ON_DEMAND",
            "instanceMetadataTagsPropagation": False,  # tags may have characters that it does not take
            "instanceRequirements": needs,
        },
        "propagateTags": "CAPACITY_PROVIDER",
        "infrastructureOptimization": {"scaleInAfter": IDLE_S},
    }

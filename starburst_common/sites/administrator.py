"""The least that who sets sites up, and takes them away, must be allowed: as IAM's document, for any site. Pure.

Actions are those of the AWS Service Authorization Reference, read 2026-11-30.
"""

from __future__ import annotations

from typing import Any

#: By what they are done to; a site's things all have names that begin so, but those of networks, which have ids.
_ACTIONS: dict[str, tuple[str, ...]] = {
    "*": (
        "sts:GetCallerIdentity",
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeInternetGateways",
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcEndpoints",
        "ec2:DescribeVpcEndpointServices",
        "ec2:DescribeVpcs",
        "ec2:AssociateRouteTable",
        "ec2:AttachInternetGateway",
        "ec2:CreateInternetGateway",
        "ec2:CreateRoute",
        "ec2:CreateRouteTable",
        "ec2:CreateSecurityGroup",
        "ec2:CreateSubnet",
        "ec2:CreateTags",
        "ec2:CreateVpc",
        "ec2:CreateVpcEndpoint",
        "ec2:DeleteInternetGateway",
        "ec2:DeleteRouteTable",
        "ec2:DeleteSecurityGroup",
        "ec2:DeleteSubnet",
        "ec2:DeleteVpc",
        "ec2:DeleteVpcEndpoints",
        "ec2:DetachInternetGateway",
        "ec2:DisassociateRouteTable",
        "ec2:ModifySubnetAttribute",
        "ec2:ModifyVpcAttribute",
        "ecs:CreateCluster",
        "ecs:DeleteTaskDefinitions",
        "ecs:DeregisterTaskDefinition",
        "ecs:DescribeTasks",
        "ecs:ListTaskDefinitionFamilies",
        "ecs:ListTaskDefinitions",
        "ecs:ListTasks",
        "ecs:TagResource",
        "kms:DescribeKey",
        "logs:DescribeLogGroups",
        "sqs:ListQueues",
    ),
    "arn:*:s3:::starburst-*": (
        "s3:CreateBucket",
        "s3:DeleteBucket",
        "s3:GetBucketTagging",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListBucketVersions",
        "s3:PutBucketPolicy",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutBucketTagging",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
        "s3:PutBucketOwnershipControls",
    ),
    "arn:*:s3:::starburst-*/*": (
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:GetObject",
        "s3:PutObject",
    ),
    "arn:*:ssm:*:*:parameter/starburst/*": (
        "ssm:AddTagsToResource",
        "ssm:DeleteParameter",
        "ssm:GetParameter",
        "ssm:ListTagsForResource",
        "ssm:PutParameter",
    ),
    "arn:*:iam::*:role/starburst-*": (
        "iam:CreateRole",
        "iam:DeleteRole",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListRolePolicies",
        "iam:PutRolePolicy",
        "iam:PassRole",
        "iam:TagRole",
        "iam:UpdateAssumeRolePolicy",
    ),
    "arn:*:iam::*:role/*": ("iam:GetRole",),  # those that are given
    "arn:*:iam::*:policy/*": ("iam:GetPolicy",),
    "arn:*:iam::*:role/aws-service-role/ecs.amazonaws.com/*": ("iam:CreateServiceLinkedRole",),
    "arn:*:logs:*:*:log-group:/starburst/*": (
        "logs:CreateLogGroup",
        "logs:DeleteLogGroup",
        "logs:ListTagsForResource",
        "logs:PutRetentionPolicy",
        "logs:TagResource",
    ),
    "arn:*:logs:*:*:log-group:/aws/codebuild/starburst-*": ("logs:DeleteLogGroup",),
    "arn:*:ecr:*:*:repository/starburst-*": (
        "ecr:CreateRepository",
        "ecr:DeleteRepository",
        "ecr:DescribeRepositories",
        "ecr:GetLifecyclePolicy",
        "ecr:ListTagsForResource",
        "ecr:PutLifecyclePolicy",
        "ecr:TagResource",
    ),
    "arn:*:ecr:*:*:repository/*": ("ecr:DescribeImages",),
    "arn:*:ecs:*:*:cluster/*": ("ecs:DescribeClusters",),
    "arn:*:ecs:*:*:cluster/starburst-*": (
        "ecs:DeleteCluster",
        "ecs:DeregisterContainerInstance",
        "ecs:ListContainerInstances",
        "ecs:PutClusterCapacityProviders",
    ),
    "arn:*:ecs:*:*:capacity-provider/starburst-*": (
        "ecs:CreateCapacityProvider",
        "ecs:DeleteCapacityProvider",
        "ecs:DescribeCapacityProviders",
        "ecs:UpdateCapacityProvider",
    ),
    "arn:*:ecs:*:*:container-instance/starburst-*": ("ecs:DescribeContainerInstances",),
    "arn:*:iam::*:instance-profile/starburst-*": (
        "iam:AddRoleToInstanceProfile",
        "iam:CreateInstanceProfile",
        "iam:DeleteInstanceProfile",
        "iam:GetInstanceProfile",
        "iam:RemoveRoleFromInstanceProfile",
        "iam:TagInstanceProfile",
    ),
    "arn:*:ecs:*:*:task/starburst-*": ("ecs:StopTask",),
    "arn:*:sqs:*:*:starburst-*": ("sqs:DeleteQueue", "sqs:ListQueueTags"),
    "arn:*:codebuild:*:*:project/starburst-*": ("codebuild:BatchGetProjects", "codebuild:DeleteProject"),
}


def administrator() -> dict[str, Any]:
    """With the network that setup can make. Who also tries the site, as setup does by itself, is a driver besides."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": [*actions], "Resource": [resource]} for resource, actions in _ACTIONS.items()
        ],
    }

"""The least that who sets sites up, and takes them away, must be allowed: as IAM's document, for any site. Pure.

Actions are those of the AWS Service Authorization Reference, read 2026-11-30.
"""

from __future__ import annotations

from typing import Any

BUCKET_SETTINGS = (
    "s3:GetBucketPolicy",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketTagging",
    "s3:GetBucketVersioning",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
)  #: as whoever looks at a site's bucket reads them

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
        "ec2:AuthorizeSecurityGroupEgress",
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
        "ec2:DeleteTags",
        "ec2:DeleteVpc",
        "ec2:DeleteVpcEndpoints",
        "ec2:DetachInternetGateway",
        "ec2:DisassociateRouteTable",
        "ec2:ModifySubnetAttribute",
        "ec2:ModifyVpcAttribute",
        "ec2:RevokeSecurityGroupIngress",
        "ecs:CreateCluster",
        "ecs:DeleteTaskDefinitions",
        "ecs:DeregisterTaskDefinition",
        "ecs:DescribeTasks",
        "ecs:ListTaskDefinitionFamilies",
        "ecs:ListTaskDefinitions",
        "ecs:ListTasks",
        "ecs:TagResource",
        "ecs:UntagResource",
        "kms:DescribeKey",
        "logs:DescribeLogGroups",
        "sqs:ListQueues",
        "ssm:DescribeParameters",
    ),
    "arn:*:s3:::starburst-*": (
        "s3:CreateBucket",
        "s3:DeleteBucket",
        *BUCKET_SETTINGS,
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
        "ssm:RemoveTagsFromResource",
    ),
    "arn:*:iam::*:role/starburst-*": (
        "iam:CreateRole",
        "iam:DeleteRole",
        "iam:DeleteRolePermissionsBoundary",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListRolePolicies",
        "iam:PutRolePermissionsBoundary",
        "iam:PutRolePolicy",
        "iam:PassRole",
        "iam:TagRole",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy",
    ),
    "arn:*:iam::*:role/*": ("iam:GetRole", "iam:SimulatePrincipalPolicy"),  # those that are given
    "arn:*:iam::*:policy/*": ("iam:GetPolicy",),
    "arn:*:iam::*:role/aws-service-role/ecs.amazonaws.com/*": ("iam:CreateServiceLinkedRole",),
    "arn:*:logs:*:*:log-group:/starburst/*": (
        "logs:CreateLogGroup",
        "logs:DeleteLogGroup",
        "logs:ListTagsForResource",
        "logs:PutRetentionPolicy",
        "logs:TagResource",
        "logs:UntagResource",
    ),
    "arn:*:logs:*:*:log-group:/aws/codebuild/starburst-*": ("logs:DeleteLogGroup",),
    "arn:*:ecr:*:*:repository/starburst-*": (
        "ecr:CreateRepository",
        "ecr:DeleteRepository",
        "ecr:DescribeRepositories",
        "ecr:GetLifecyclePolicy",
        "ecr:GetRepositoryPolicy",
        "ecr:ListTagsForResource",
        "ecr:PutImageTagMutability",
        "ecr:PutLifecyclePolicy",
        "ecr:TagResource",
        "ecr:UntagResource",
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
        "iam:UntagInstanceProfile",
    ),
    "arn:*:ecs:*:*:task/starburst-*": ("ecs:StopTask",),
    "arn:*:sqs:*:*:starburst-*": ("sqs:DeleteQueue", "sqs:ListQueueTags"),
    "arn:*:codebuild:*:*:project/starburst-*": ("codebuild:BatchGetProjects", "codebuild:DeleteProject"),
}


#: What is in the bucket, and the signing key, goes through a key of the user's. Sources: Amazon S3 User Guide, "Using
#: server-side encryption with AWS KMS keys"; AWS Systems Manager User Guide, "How AWS Systems Manager Parameter Store
#: uses AWS KMS", of standard parameters; read 2026-12-01.
_WITH_KEY = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey")


def administrator(kms_key: str = "") -> dict[str, Any]:
    """With the network that setup can make. Who also tries the site, as setup does by itself, is a driver besides.

    >>> administrator("arn:aws:kms:eu-west-1:123456789012:key/1")["Statement"][-1]["Resource"]
    ['arn:aws:kms:eu-west-1:123456789012:key/1']
    """
    allowed = {**_ACTIONS, **({kms_key: _WITH_KEY} if kms_key else {})}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": [*actions], "Resource": [resource]} for resource, actions in allowed.items()
        ],
    }

"""The rest of a site: the key that signs, the workers' log, the images' repository, the cluster."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.ecr import EcrRepository
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.errors import NotFound

CAPACITY = ("FARGATE", "FARGATE_SPOT")
_KEY_CHARACTERS = 64


class SigningKey:
    """The parameter that holds it, which costs nothing."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ssm = account, name, account.clients.parameters

    def there(self) -> bool:
        """Whether it is."""
        with speaking(f"ssm:GetParameter {self.name}"):
            try:
                self._ssm.get_parameter(Name=self.name)
            except self._ssm.exceptions.ParameterNotFound:
                return False
        return True

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        with speaking(f"ssm:ListTagsForResource {self.name}"):
            try:
                found = self._ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=self.name)
            except self._ssm.exceptions.InvalidResourceId:
                return False
            return self._account.is_ours(found["TagList"])

    def make(self, kms_key: str) -> None:
        """Have it; one that is there stays, for what it has signed would be refused without it."""
        asked: dict[str, Any] = {"KeyId": kms_key} if kms_key else {}
        with speaking(f"ssm:PutParameter {self.name}"), suppress(self._ssm.exceptions.ParameterAlreadyExists):
            self._ssm.put_parameter(
                Name=self.name,
                Description="signs what starburst's runs store and send",
                Value=secrets.token_hex(_KEY_CHARACTERS // 2),
                Type="SecureString",
                Tags=self._account.pairs,  # type: ignore[arg-type]
                **asked,
            )

    def remove(self) -> None:
        """What it has signed is worth nothing then."""
        with speaking(f"ssm:DeleteParameter {self.name}"):
            self._ssm.delete_parameter(Name=self.name)


class LogGroup:
    """Where workers' lines go."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._logs = account, name, account.clients.logs

    def there(self) -> bool:
        """Whether it is."""
        with speaking(f"logs:DescribeLogGroups {self.name}"):
            found = self._logs.describe_log_groups(logGroupNamePrefix=self.name)["logGroups"]
        return any(each["logGroupName"] == self.name for each in found)

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        with speaking(f"logs:ListTagsForResource {self.name}"):
            try:
                found = self._logs.list_tags_for_resource(
                    resourceArn=self._account.arn("logs", f"log-group:{self.name}")
                )
            except self._logs.exceptions.ResourceNotFoundException:
                return False
        return self._account.is_ours({"Key": key, "Value": value} for key, value in found.get("tags", {}).items())

    def make(self, days: int) -> None:
        """Have it, with a retention; one that is there keeps its own."""
        with (
            speaking(f"logs:CreateLogGroup {self.name}"),
            suppress(self._logs.exceptions.ResourceAlreadyExistsException),
        ):
            self._logs.create_log_group(logGroupName=self.name, tags={**self._account.marks})
            self._logs.put_retention_policy(logGroupName=self.name, retentionInDays=days)

    def remove(self) -> None:
        """With all lines."""
        with speaking(f"logs:DeleteLogGroup {self.name}"):
            self._logs.delete_log_group(logGroupName=self.name)


class SiteRepository:
    """The repository of images."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ecr = account, name, account.clients.ecr
        self._repository = EcrRepository(account.clients, name, tags={**account.marks})

    def there(self) -> bool:
        """Whether it is."""
        return self._arn() is not None

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        arn = self._arn()
        if arn is None:
            return False
        with speaking(f"ecr:ListTagsForResource {self.name}"):
            return self._account.is_ours(self._ecr.list_tags_for_resource(resourceArn=arn)["tags"])

    def make(self) -> None:
        """Have it."""
        self._repository.ensure()

    def remove(self) -> None:
        """With its images, which can be made again."""
        with speaking(f"ecr:DeleteRepository {self.name}"):
            self._ecr.delete_repository(repositoryName=self.name, force=True)

    def _arn(self) -> str | None:
        try:
            with speaking(f"ecr:DescribeRepositories {self.name}"):
                found = self._ecr.describe_repositories(repositoryNames=[self.name])
                return found["repositories"][0]["repositoryArn"]
        except NotFound:
            return None


class SiteCluster:
    """The cluster in ECS, with Fargate's two kinds of capacity."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ecs = account, name, account.clients.ecs

    def there(self) -> bool:
        """Whether it is."""
        return self._found() is not None

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        found = self._found() or {}
        return self._account.is_ours({"Key": each["key"], "Value": each["value"]} for each in found.get("tags", []))

    def make(self) -> None:
        """Have it with both kinds of capacity."""
        found = self._found()
        with speaking(f"ecs:CreateCluster {self.name}"):
            if found is None:
                tags = [{"key": key, "value": value} for key, value in self._account.marks.items()]
                self._ecs.create_cluster(clusterName=self.name, capacityProviders=[*CAPACITY], tags=tags)  # type: ignore[arg-type]
            elif lacking := {*CAPACITY} - {*found.get("capacityProviders", [])}:
                self._ecs.put_cluster_capacity_providers(
                    cluster=self.name,
                    capacityProviders=sorted({*found.get("capacityProviders", []), *lacking}),
                    defaultCapacityProviderStrategy=found.get("defaultCapacityProviderStrategy", []),
                )

    def remove(self) -> None:
        """Its tasks have ended before."""
        with speaking(f"ecs:DeleteCluster {self.name}"):
            self._ecs.delete_cluster(cluster=self.name)

    def _found(self) -> Any:
        with speaking(f"ecs:DescribeClusters {self.name}"):
            try:
                found = self._ecs.describe_clusters(clusters=[self.name], include=["TAGS"])["clusters"]
            except ClientError as error:
                if error_code(error) == "ClusterNotFoundException":
                    return None
                raise
        return next((each for each in found if each["status"] == "ACTIVE"), None)

"""The rest of a site: the key that signs, the workers' log, the images' repository, the cluster."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.ecr import EcrRepository
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.drift import Drift, mended, of_tags, pairs, plain, tags_in_ecs
from starburst_common.errors import NotFound

CAPACITY = ("FARGATE", "FARGATE_SPOT")
_KEY_CHARACTERS = 64
_AWS_OWN = "alias/aws/ssm"  #: encrypts where no key is named. Source: AWS Systems Manager API reference, PutParameter


class SigningKey:
    """The parameter that holds it, which costs nothing."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ssm = account, name, account.clients.parameters
        self.mended: list[str] = []

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
                return self._account.is_ours(self._tags())
            except self._ssm.exceptions.InvalidResourceId:
                return False

    def make(self, kms_key: str) -> None:
        """Have it; what one that is there says stays, for what it has signed would be refused without it."""
        if self.there():
            self.mended = mended(self.drifts(kms_key))
            return
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

    def drifts(self, kms_key: str) -> Iterator[Drift]:
        """What of its tags, and of the key that encrypts it, is not as it is to be."""
        of_it: dict[str, Any] = {"ResourceType": "Parameter", "ResourceId": self.name}
        with speaking(f"ssm:AddTagsToResource {self.name}"):
            yield from of_tags(
                self._account,
                plain(self._tags()),
                lambda tags: self._ssm.add_tags_to_resource(**of_it, Tags=pairs(tags)),
                lambda names: self._ssm.remove_tags_from_resource(**of_it, TagKeys=names),
            )
        with speaking(f"ssm:DescribeParameters {self.name}"):
            named: Any = [{"Key": "Name", "Option": "Equals", "Values": [self.name]}]
            found = self._ssm.describe_parameters(ParameterFilters=named)["Parameters"]
        key = kms_key or _AWS_OWN
        if found and found[0].get("KeyId", key) != key:
            yield Drift("the key that encrypts it", lambda: self._encrypt(key))

    def _encrypt(self, key: str) -> None:
        """The same value, by another key."""
        with speaking(f"ssm:GetParameter {self.name}"):
            value = self._ssm.get_parameter(Name=self.name, WithDecryption=True)["Parameter"]["Value"]
        with speaking(f"ssm:PutParameter {self.name}"):
            self._ssm.put_parameter(Name=self.name, Value=value, Type="SecureString", KeyId=key, Overwrite=True)

    def _tags(self) -> Any:
        return self._ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=self.name)["TagList"]

    def remove(self) -> None:
        """What it has signed is worth nothing then."""
        with speaking(f"ssm:DeleteParameter {self.name}"):
            self._ssm.delete_parameter(Name=self.name)


class LogGroup:
    """Where workers' lines go."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._logs = account, name, account.clients.logs
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is."""
        return self._found() is not None

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        with speaking(f"logs:ListTagsForResource {self.name}"):
            try:
                return self._account.is_ours(pairs(self._tags()))
            except self._logs.exceptions.ResourceNotFoundException:
                return False

    def make(self, days: int) -> None:
        """Have it, with its retention and its tags."""
        if self.there():
            self.mended = mended(self.drifts(days))
            return
        with (
            speaking(f"logs:CreateLogGroup {self.name}"),
            suppress(self._logs.exceptions.ResourceAlreadyExistsException),
        ):
            self._logs.create_log_group(logGroupName=self.name, tags={**self._account.marks})
        self._keep(days)

    def drifts(self, days: int) -> Iterator[Drift]:
        """What of its retention and its tags is not as it is to be."""
        kept = (self._found() or {}).get("retentionInDays")
        if kept != days:
            told = f"{kept}" if kept else "for ever"
            yield Drift(f"how long it keeps lines, {told} and not {days} days", lambda: self._keep(days))
        with speaking(f"logs:TagResource {self.name}"):
            yield from of_tags(
                self._account,
                self._tags(),
                lambda tags: self._logs.tag_resource(resourceArn=self._arn, tags=tags),
                lambda names: self._logs.untag_resource(resourceArn=self._arn, tagKeys=names),
            )

    def _keep(self, days: int) -> None:
        with speaking(f"logs:PutRetentionPolicy {self.name}"):
            self._logs.put_retention_policy(logGroupName=self.name, retentionInDays=days)

    @property
    def _arn(self) -> str:
        return self._account.arn("logs", f"log-group:{self.name}")

    def _tags(self) -> dict[str, str]:
        return self._logs.list_tags_for_resource(resourceArn=self._arn).get("tags", {})

    def _found(self) -> Any:
        with speaking(f"logs:DescribeLogGroups {self.name}"):
            found = self._logs.describe_log_groups(logGroupNamePrefix=self.name)["logGroups"]
        return next((each for each in found if each["logGroupName"] == self.name), None)

    def remove(self) -> None:
        """With all lines."""
        with speaking(f"logs:DeleteLogGroup {self.name}"):
            self._logs.delete_log_group(logGroupName=self.name)


class SiteRepository:
    """The repository of images."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ecr = account, name, account.clients.ecr
        self.mended: list[str] = []
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
        """Have it, with its tags, and what goes from it by itself."""
        self.mended = mended(self.drifts())
        self._repository.ensure()

    def drifts(self) -> Iterator[Drift]:
        """What of its tags, and its images' tags, is not as it is to be, or that nothing goes by itself.

        Another's rules for that stay.
        """
        if (found := self._found()) is None:
            return
        arn = found["repositoryArn"]
        with speaking(f"ecr:TagResource {self.name}"):
            yield from of_tags(
                self._account,
                plain(self._ecr.list_tags_for_resource(resourceArn=arn)["tags"]),
                lambda tags: self._ecr.tag_resource(resourceArn=arn, tags=pairs(tags)),
                lambda names: self._ecr.untag_resource(resourceArn=arn, tagKeys=names),
            )
        if found.get("imageTagMutability") != "IMMUTABLE":
            yield Drift("its tags, which may be moved to other images", self._fix_tags)
        if self._repository.policy() is None:
            yield Drift("its lack of a lifecycle policy", self._repository.ensure)

    def remove(self) -> None:
        """With its images, which can be made again."""
        with speaking(f"ecr:DeleteRepository {self.name}"):
            self._ecr.delete_repository(repositoryName=self.name, force=True)

    def _fix_tags(self) -> None:
        with speaking(f"ecr:PutImageTagMutability {self.name}"):
            self._ecr.put_image_tag_mutability(repositoryName=self.name, imageTagMutability="IMMUTABLE")

    def _arn(self) -> str | None:
        found = self._found()
        return None if found is None else str(found["repositoryArn"])

    def _found(self) -> Any:
        try:
            with speaking(f"ecr:DescribeRepositories {self.name}"):
                return self._ecr.describe_repositories(repositoryNames=[self.name])["repositories"][0]
        except NotFound:
            return None


class SiteCluster:
    """The cluster in ECS, with Fargate's two kinds of capacity."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ecs = account, name, account.clients.ecs
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is."""
        return self._found() is not None

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        found = self._found() or {}
        return self._account.is_ours({"Key": each["key"], "Value": each["value"]} for each in found.get("tags", []))

    def make(self) -> None:
        """Have it with both kinds of capacity, and its tags."""
        if self._found() is not None:
            self.mended = mended(self.drifts())
            return
        tags = [{"key": key, "value": value} for key, value in self._account.marks.items()]
        with speaking(f"ecs:CreateCluster {self.name}"):
            self._ecs.create_cluster(clusterName=self.name, capacityProviders=[*CAPACITY], tags=tags)  # type: ignore[arg-type]

    def drifts(self) -> Iterator[Drift]:
        """What of its tags and kinds of capacity is not as it is to be."""
        if (found := self._found()) is None:
            return
        yield from tags_in_ecs(self._account, self._ecs, found["clusterArn"], found.get("tags", []))
        has = {*found.get("capacityProviders", [])}
        if lacking := sorted({*CAPACITY} - has):
            strategy = found.get("defaultCapacityProviderStrategy", [])
            yield Drift(f"its lack of {' and '.join(lacking)}", lambda: self._have(sorted(has | {*CAPACITY}), strategy))

    def _have(self, providers: list[str], strategy: Any) -> None:
        with speaking(f"ecs:PutClusterCapacityProviders {self.name}"):
            self._ecs.put_cluster_capacity_providers(
                cluster=self.name, capacityProviders=providers, defaultCapacityProviderStrategy=strategy
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

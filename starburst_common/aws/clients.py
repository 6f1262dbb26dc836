"""A region in; its boto3 clients out, each made once at first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

import boto3.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.model import OperationModel

from starburst_common.aws.answers import check, is_expired, speaking
from starburst_common.aws.endpoints import is_moved, named_endpoint, root_certificates
from starburst_common.aws.sessions import SessionAt
from starburst_common.aws.tolls import Tolls

if TYPE_CHECKING:
    from mypy_boto3_codebuild import CodeBuildClient
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

_ATTEMPTS = 9  #: in botocore's standard mode these bridge about a minute
_SOON = 2  #: these take 72 s at most, where nothing is answered
_CONNECTIONS = 40  #: at least one for each thread that may speak at once
_LONGEST_POLL_S = 20


class Clients:
    """boto3 clients for one region, shared by all threads.

    `new_session` makes the session they come from: by default one of this process's own credentials. It is called again
    after its credentials were refused as expired. `owner` is the account whose buckets S3 is asked for: where it is
    given, a bucket of anybody else's is refused by S3 itself.
    """

    def __init__(
        self, region: str, new_session: Callable[[], boto3.session.Session] | None = None, *, owner: str = ""
    ) -> None:
        self.region, self.owner = region, owner
        self._new_session = new_session or partial(boto3.session.Session, region_name=region)
        self.tolls = Tolls()
        self._lock = RLock()  # a session makes one client at a time

    @cached_property
    def session(self) -> boto3.session.Session:
        """Where credentials come from."""
        with self._lock:
            return self._new_session()

    @cached_property
    def sqs(self) -> SQSClient:
        """Amazon SQS."""
        return cast("SQSClient", self._client("sqs"))

    @cached_property
    def s3(self) -> S3Client:
        """Amazon S3, for what obstore cannot do."""
        return cast("S3Client", self._client("s3"))

    @cached_property
    def ecs(self) -> ECSClient:
        """Amazon ECS."""
        return cast("ECSClient", self._client("ecs"))

    @cached_property
    def launching(self) -> ECSClient:
        """Amazon ECS for RunTask: what fails is soon told, since others wait for whether anything was launched."""
        return cast("ECSClient", self._client("ecs", attempts=_SOON))

    @cached_property
    def ecr(self) -> ECRClient:
        """Amazon ECR."""
        return cast("ECRClient", self._client("ecr"))

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """CloudWatch Logs."""
        return cast("CloudWatchLogsClient", self._client("logs"))

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        """Secrets Manager."""
        return cast("SecretsManagerClient", self._client("secretsmanager"))

    @cached_property
    def parameters(self) -> SSMClient:
        """Systems Manager's parameters."""
        return cast("SSMClient", self._client("ssm"))

    @cached_property
    def codebuild(self) -> CodeBuildClient:
        """AWS CodeBuild."""
        return cast("CodeBuildClient", self._client("codebuild"))

    @cached_property
    def quotas(self) -> Any:
        """Service Quotas; a run goes on without it, so what fails is soon told."""
        return self._client("service-quotas", attempts=_SOON)

    @cached_property
    def metrics(self) -> Any:
        """Amazon CloudWatch's metrics; as with quotas."""
        return self._client("cloudwatch", attempts=_SOON)

    @cached_property
    def networks(self) -> Any:
        """Amazon EC2, for a look at subnets; as with quotas."""
        return self._client("ec2", attempts=_SOON)

    @cached_property
    def roles(self) -> Any:
        """IAM, for a look at a role; as with quotas."""
        return self._client("iam", attempts=_SOON)

    @cached_property
    def pricing(self) -> Any:
        """The Price List API, in the few regions that have it; as with quotas."""
        return self._client("pricing", attempts=_SOON)

    @cached_property
    def bill(self) -> Any:
        """Cost Explorer; as with quotas."""
        return self._client("ce", attempts=_SOON)

    @cached_property
    def ec2(self) -> Any:
        """Amazon EC2, for networks."""
        return self._client("ec2")

    def endpoint(self, service: str) -> str | None:
        """Where a service is, if the session has it elsewhere than AWS's own configuration does."""
        session = self.session
        return session.endpoint_of(service) if isinstance(session, SessionAt) else None

    @cached_property
    def s3_endpoint(self) -> str | None:
        """Where S3 is for boto3, which is where it is for all; None where AWS has it. A worker's start waits for it."""
        if (given := self.endpoint("s3") or named_endpoint()) is not None:
            return given
        if not is_moved(self.session, self.region):
            return None
        return self.s3.meta.endpoint_url

    @property
    def certificates(self) -> bytes | None:
        """Whom else boto3 trusts; none where it trusts nobody else."""
        verify = self._verify
        return root_certificates(self.session, verify if isinstance(verify, str) else "")

    @property
    def unverified(self) -> bool:
        """Whether the session has it believe whoever answers."""
        return self._verify is False

    @property
    def _verify(self) -> bool | str | None:
        session = self.session
        return session.verify if isinstance(session, SessionAt) else None

    def close(self) -> None:
        """Close every connection."""
        for name, made in [*vars(self).items()]:
            if isinstance(made, BaseClient):
                vars(self).pop(name, None)
                made.close()

    def renew(self, session: boto3.session.Session) -> None:
        """A session's credentials were refused as expired, whatever it thinks: the next call reads them anew."""
        with self._lock:
            if self.__dict__.get("session") is session:
                del self.__dict__["session"]
            self.close()  # a call under way elsewhere keeps its connection

    def _client(self, service: str, attempts: int = _ATTEMPTS) -> Any:
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=_CONNECTIONS,
            connect_timeout=5,
            read_timeout=_LONGEST_POLL_S + 10,
            s3={"us_east_1_regional_endpoint": "regional"},  # where obstore goes, and endpoints in networks lead
            user_agent_extra="starburst",
            request_checksum_calculation="when_required",  # what we store is sealed, and TLS sees to the way
            response_checksum_validation="when_required",
        )
        with self._lock, speaking(service):
            session = self.session
            client = session.client(service, region_name=self.region, config=config)  # type: ignore[call-overload]

        def answered(parsed: dict[str, Any], model: OperationModel, **_: Any) -> None:
            if "Error" not in parsed and model.output_shape is not None:
                check(parsed, model.output_shape)
            elif is_expired(parsed):
                self.renew(session)

        def expecting(params: dict[str, Any], model: OperationModel, **_: Any) -> None:
            if self.owner and model.name != "HeadBucket" and "ExpectedBucketOwner" in model.input_shape.members:  # type: ignore[union-attr]
                params["ExpectedBucketOwner"] = self.owner

        if service in ("s3", "sqs"):
            self.tolls.watch(client)
        client.meta.events.register("after-call", answered)
        client.meta.events.register("before-parameter-build.s3", expecting)
        return client

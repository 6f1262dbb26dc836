"""What setup made in one AWS account and region, as the settings tell it; checked before anything is asked of AWS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self

from starburst_common.errors import BadInput
from starburst_common.phrases import told

_SHAPES: dict[str, tuple[str, str]] = {
    "name": (r"[a-z0-9][a-z0-9-]{0,19}", "up to 20 lower-case letters, digits and hyphens"),
    "region": (r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as us-east-1"),
    "bucket": (r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of an S3 bucket"),
    "execution_role": (r"arn:aws[a-z-]*:iam::\d{12}:role/.+", "the ARN of a role"),
    "task_role": (r"arn:aws[a-z-]*:iam::\d{12}:role/.+", "the ARN of a role"),
    "build_role": (r"(arn:aws[a-z-]*:iam::\d{12}:role/.+)?", "the ARN of a role"),
    "repository": (r"([a-z0-9]+([._/-][a-z0-9]+)*)?", "the name of an ECR repository"),
    "signing_secret": (r"arn:aws[a-z-]*:(secretsmanager|ssm):.+", "the ARN of a secret or of a secure parameter"),
    "architecture": (r"X86_64|ARM64", "X86_64 or ARM64"),
}

_KINDS: dict[str, type] = {"tuple[str, ...]": tuple, "int": int, "bool": bool}  #: by annotation; others are text
_GIVE = {tuple: "a list of texts", int: "a whole number", bool: "true or false", str: "a text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One account and region. Everything starburst makes there is named after the site and tagged with it."""

    name: str  #: what starburst makes is named starburst-<name>-… and tagged starburst:site=<name>
    region: str
    bucket: str  #: in S3, for items, outcomes and code
    cluster: str  #: in ECS, with the capacity providers FARGATE and FARGATE_SPOT
    subnets: tuple[str, ...]  #: ids, at most 16
    execution_role: str  #: for ECS: pulls the image, writes logs, reads the secret
    task_role: str  #: for the workers: the bucket and the queues
    signing_secret: str  #: the ARN of a Secrets Manager secret or a secure SSM parameter
    image: str = ""  #: for every run that names no other; empty: one is made for each environment
    repository: str = ""  #: of those images; default: starburst-<name>
    build_role: str = ""  #: for AWS CodeBuild, where images are to be built there
    security_groups: tuple[str, ...] = ()  #: ids, at most 5; outgoing HTTPS is all that is needed
    log_group: str = ""  #: of the workers' lines, made at the first launch; default: /starburst/<name>
    log_days: int = 14  #: for which a log group that starburst made keeps its lines
    assign_public_ip: bool = True  #: needed in public subnets, which have no NAT gateway
    architecture: str = "X86_64"  #: or ARM64

    @classmethod
    def of(cls, table: Mapping[str, Any], source: str) -> Self:
        """From a settings table. Raises `BadInput` naming the source, the field and what it should be.

        >>> Site.of({"name": "Mine"}, "config.toml")
        Traceback (most recent call last):
        starburst_common.errors.BadInput: config.toml: [site] lacks region, bucket, cluster, subnets, execution_role, \
task_role, signing_secret
        """
        known = {field.name: field for field in fields(cls)}
        if not isinstance(table, Mapping):
            raise BadInput(f"{source}: site={told(table)} is no table: write [site], and its lines below")
        if unknown := [name for name in table if name not in known]:
            raise BadInput(f"{source}: [site] has no {told(unknown[0])}: known are {', '.join(known)}")
        needed = [name for name, field in known.items() if field.default is MISSING and not table.get(name)]
        if needed:
            raise BadInput(f"{source}: [site] lacks {', '.join(needed)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
        }
        for name, value in values.items():
            kind: type = _KINDS.get(str(known[name].type), str)
            if type(value) is not kind or (
                isinstance(value, tuple) and not all(isinstance(each, str) for each in value)
            ):
                raise BadInput(f"{source}: [site] {name}={told(table[name])}: give {_GIVE[kind]}")
        for name, (shape, meaning) in _SHAPES.items():
            if name in values and not re.fullmatch(shape, values[name]):
                raise BadInput(f"{source}: [site] {name}={told(values[name])}: give {meaning}")
        for name, most in (("subnets", 16), ("security_groups", 5)):
            if name in values and not (isinstance(values[name], tuple) and len(values[name]) <= most):
                raise BadInput(f"{source}: [site] {name}={told(values[name])}: give a list of at most {most} ids")
        values["log_group"] = values.get("log_group") or f"/starburst/{values['name']}"
        values["repository"] = values.get("repository") or f"starburst-{values['name']}"
        return cls(**values)

    def table(self) -> dict[str, Any]:
        """The inverse of `of`, for JSON."""
        return asdict(self)

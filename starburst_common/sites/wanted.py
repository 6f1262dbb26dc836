"""What a user asks of a site in; its parts by name, those that setup makes, and the site of them all, out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from starburst_common.alerts import DEFAULT
from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.rows import TEXT, Rule, of_type, one_of, shaped
from starburst_common.sites.policies import partition_of
from starburst_common.sites.site import SITE, Site

NETWORKS = ("default", "made")
ROLES = ("execution", "task", "build")
MANAGED_ROLES = ("infrastructure", "instance")  #: for instances
_OPTIONS = {
    "name": "site",
    "subnets": "subnet",
    "security_groups": "security-group",
    "tags": "tag",
    "architecture": "arm",
    "instance_types": "instance-type",
    "gpu_types": "gpu-type",
}
#: What one setting has to be beyond what the site's settings say. An alias of a key is nothing to a policy, which
#: speaks of keys. Sources: AWS KMS Developer Guide, "Specifying KMS keys in IAM policy statements"; Amazon EC2 API
#: reference, InstanceRequirementsRequest; read 2026-12-01. An image is as the OCI distribution specification has them.
_TYPES = Rule(
    lambda value: all(re.fullmatch(r"[A-Za-z0-9.*-]{1,30}", each) for each in value),
    ': give names of types such as "c7g.*"',
)
_SHAPES: dict[str, tuple[Rule, ...]] = {
    "network": (one_of(NETWORKS),),
    "private": (of_type(bool, "True or False"),),
    # Source: IAM User Guide, "Rules for tagging in IAM and AWS STS", read 2026-12-01
    "tags": (
        Rule(
            lambda value: len({each.partition("=")[0].casefold() for each in value}) == len(value),
            ": roles have no two tags whose names differ by case alone: leave one of the two out",
        ),
    ),
    "ec2": (of_type(bool, "True or False"),),
    "boundary": (TEXT, shaped(r"arn:aws[a-z-]*:iam::(\d{12}|aws):policy/.+", "the ARN of a policy")),
    "kms_key": (shaped(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+", "the ARN of a key, and not of an alias"),),
    "image": (
        shaped(
            r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:\w[\w.-]{0,127})?(@[a-z0-9+._-]+:[0-9a-f]{32,})?",
            "an image such as REGISTRY/REPOSITORY:TAG; repositories are in lower case",
        ),
    ),
    "instance_types": (_TYPES,),
    "gpu_types": (_TYPES,),
}


class SitePart(NamedTuple):
    """One thing in the account, as the inventory names it."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSite:
    """One site as it is to be; what is empty setup makes, and names after the site."""

    name: str
    region: str
    bucket: str = ""
    cluster: str = ""
    network: str = "default"  #: "default": the account's own, if it has one; "made": one of the site's own
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    private: bool = False  #: the given subnets have a NAT gateway or endpoints: no public addresses
    execution_role: str = ""
    task_role: str = ""
    build_role: str = ""
    boundary: str = ""  #: the ARN of the policy that bounds roles made here
    kms_key: str = ""  #: the ARN of the key for bucket and signing key; by default AWS's own
    image: str = ""  #: for every run that names no other
    architecture: str = "X86_64"
    log_days: int = 14
    max_hourly_cost: float = 0.0  #: USD of all its workers; 0 for no limit
    monthly_budget: tuple[str, ...] = ()  #: "TAG=VALUE: USD" each, of its runs
    alert_at: str = DEFAULT  #: per cent of a budget at which it is said how much is used
    tags: tuple[str, ...] = ()  #: KEY=VALUE each, of all that is made there
    ec2: bool = True  #: workers may run on instances, too
    instance_types: tuple[str, ...] = ()  #: of those; by default as a site has them
    gpu_types: tuple[str, ...] = ()  #: the same of workers with GPUs

    @classmethod
    def of(cls, **given: Any) -> Self:
        """Checked. Raises `BadInput` that says what is wrong, and what would be right."""
        wanted = cls(**given)
        if wrong := [*_wrong_values(given), *_wrong_together(wanted)]:
            raise BadInput("; ".join(wrong))
        return wanted

    @classmethod
    def check_values(cls, **given: Any) -> None:
        """The same of each value by itself, where others are not known yet."""
        if wrong := [*_wrong_values(given)]:
            raise BadInput("; ".join(wrong))

    @property
    def on_ec2(self) -> bool:
        """Whether it has capacity providers of instances: in a cluster of its own, where AWS has managed ones.

        Source: Amazon ECS Developer Guide, "Architect for Amazon ECS Managed Instances", read 2026-11-30.
        """
        return self.ec2 and not self.cluster and partition_of(self.region) == "aws"

    @property
    def providers(self) -> dict[str, str]:
        """The names of those, by the site's settings.

        >>> WantedSite(name="main", region="eu-west-1").providers["gpu_spot_provider"]
        'starburst-main-gpu-spot'
        """
        kinds = ("ec2", "ec2-spot", "gpu", "gpu-spot") if self.on_ec2 else ()
        return {f"{kind.replace('-', '_')}_provider": f"{self.stem}-{kind}" for kind in kinds}

    @property
    def stem(self) -> str:
        """What begins the names of a site's things.

        >>> WantedSite(name="main", region="eu-west-1").stem
        'starburst-main'
        """
        return f"starburst-{self.name}"

    def bucket_name(self, account: str) -> str:
        """Of the bucket: in a name space that is the account's alone where there is one, so that nobody else has it.

        Source: Amazon S3 User Guide, "Namespaces for general purpose buckets", read 2026-11-30.

        >>> WantedSite(name="main", region="eu-west-1").bucket_name("123456789012")
        'starburst-main-123456789012-eu-west-1-an'
        """
        if self.bucket:
            return self.bucket
        return f"{self.stem}-{account}-{self.region}{'-an' if self.own_names else ''}"

    @property
    def own_names(self) -> bool:
        """Whether buckets there can have names of the account's own."""
        return partition_of(self.region) == "aws"

    def role_name(self, kind: str) -> str:
        """Of a role: roles are the account's, not a region's.

        >>> WantedSite(name="main", region="eu-west-1").role_name("task")
        'starburst-main-eu-west-1-task'
        """
        return f"{self.stem}-{self.region}-{kind}"

    @property
    def key_name(self) -> str:
        """Of the parameter that holds the signing key."""
        return f"/starburst/{self.name}/signing-key"

    def site(self, account: str, subnets: tuple[str, ...], security_groups: tuple[str, ...]) -> Site:
        """The settings of the site in its network."""
        partition = partition_of(self.region)
        roles = {
            f"{kind}_role": getattr(self, f"{kind}_role")
            or f"arn:{partition}:iam::{account}:role/{self.role_name(kind)}"
            for kind in ROLES
        }
        return Site.of(
            {
                "name": self.name,
                "region": self.region,
                "bucket": self.bucket_name(account),
                "cluster": self.cluster or self.stem,
                "subnets": subnets,
                "security_groups": security_groups,
                "assign_public_ip": not self.private,
                "signing_secret": f"arn:{partition}:ssm:{self.region}:{account}:parameter{self.key_name}",
                "image": self.image,
                "kms_key": self.kms_key,
                "tags": self.tags,
                "architecture": self.architecture,
                "log_days": self.log_days,
                "max_hourly_cost": self.max_hourly_cost,
                **self.providers,
                **({"instance_types": self.instance_types} if self.instance_types else {}),
                **({"gpu_types": self.gpu_types} if self.gpu_types else {}),
                "monthly_budget": self.monthly_budget,
                "alert_at": self.alert_at,
                **roles,
            },
            "setup",
        )

    def parts(self, account: str) -> list[SitePart]:
        """What setup makes, in that order; what was given is not among it."""
        made = [
            (not self.bucket, "bucket", self.bucket_name(account)),
            (True, "signing key", self.key_name),
            (self.network == "made", "network", self.stem),
            (not self.security_groups, "security group", self.stem),
            *((not getattr(self, f"{kind}_role"), "role", self.role_name(kind)) for kind in ROLES),
            *((self.on_ec2, "role", self.role_name(kind)) for kind in MANAGED_ROLES),
            (self.on_ec2, "instance profile", self.role_name("instance")),
            (True, "log group", f"/starburst/{self.name}"),
            (True, "repository", self.stem),
            (not self.cluster, "cluster", self.cluster or self.stem),
            *((True, "capacity provider", name) for name in self.providers.values()),
        ]
        return [SitePart(kind, name) for ours, kind, name in made if ours]


def _wrong_values(given: dict[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        if value in ("", ()) and name not in ("name", "region"):
            continue
        rules = (*(SITE[name].rules if name in SITE else ()), *_SHAPES.get(name, ()))
        if wrong := next((rule.wrong for rule in rules if not rule.fits(value)), ""):
            named = ", ".join(map(told, value)) if isinstance(value, tuple) else told(value)
            yield f"--{option_of(name)} {named}{wrong}"


def _wrong_together(wanted: WantedSite) -> Iterator[str]:
    if wanted.subnets and wanted.network == "made":
        yield "--network made and --subnet: give either"
    if wanted.task_role and wanted.task_role == wanted.execution_role:
        yield "--execution-role and --task-role: give two, for functions have the second, and the first reads the key"
    if wanted.private and not wanted.subnets:
        yield "--private: name the private subnets with --subnet"
    if wanted.security_groups and not wanted.subnets:
        yield "--security-group: name the subnets of its network too, with --subnet"
    if wanted.instance_types + wanted.gpu_types and not wanted.on_ec2:
        yield "--instance-type, --gpu-type: not with --no-ec2, nor with --cluster, whose providers are yours"


def option_of(name: str) -> str:
    """What the command calls it.

    >>> option_of("max_hourly_cost"), option_of("tags")
    ('max-hourly-cost', 'tag')
    """
    return _OPTIONS.get(name, name.replace("_", "-"))

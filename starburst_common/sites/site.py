"""What setup made in one AWS account and region, as the settings tell it; checked before anything is asked of AWS."""

# no annotations as text here: `rows` reads them
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self

from starburst_common.alerts import ALERTS, DEFAULT
from starburst_common.errors import BadInput
from starburst_common.instances import GPU_TYPES, TYPES
from starburst_common.model import NATS, NO_NAT, Tariff
from starburst_common.phrases import told
from starburst_common.rows import TEXT, Row, Rule, number, of_type, rows, shaped, texts

_ROLE = shaped(r"(arn:aws[a-z-]*:iam::\d{12}:role/.+)?", "the ARN of a role")
#: Source: Amazon ECS API reference, Tag, read 2026-11-30. Of the 50 that a task may have, some are AWS's and ours.
_TAG = re.compile(r"[\w .:/+@-]{1,128}=[\w .:/=+@-]{0,256}")
#: Source: Amazon CloudWatch Logs API reference, PutRetentionPolicy, read 2026-11-30.
_LOG_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
_PROVIDER = shaped(r"[A-Za-z0-9_-]{0,255}", "the name of a capacity provider")
#: A monthly budget: a tag with its value, or "*" for all runs, and US dollars.
MONTHLY = re.compile(r"(?P<tag>\*|[^=:\s]+=[^:]*):\s*(?P<usd>\d{1,9}(\.\d{1,6})?)")
_TAKEN = re.compile(r"aws:|starburst:", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One account and region. Everything starburst makes there is named after the site and tagged with it."""

    name: Annotated[
        str,
        Row(
            "what starburst makes is named starburst-<name>-… and tagged starburst:site=<name>",
            (
                TEXT,
                shaped(
                    r"(?=.{1,20}$)[a-z0-9]+(-[a-z0-9]+)*",
                    "up to 20 lower-case letters and digits, with single hyphens between them",
                ),
            ),
        ),
    ]
    region: Annotated[
        str,
        Row(
            "the AWS region, such as us-east-1",
            (TEXT, shaped(r"[a-z]{2,}(-[a-z]+)+-\d", "an AWS region such as us-east-1")),
        ),
    ]
    bucket: Annotated[
        str,
        Row(
            "in S3, for items, outcomes and code",
            (TEXT, shaped(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of an S3 bucket")),
        ),
    ]
    cluster: Annotated[
        str,
        Row(
            "in ECS, with the capacity providers FARGATE and FARGATE_SPOT",
            (TEXT, shaped(r"[A-Za-z0-9_-]{1,255}", "the name of an ECS cluster")),
        ),
    ]
    subnets: Annotated[
        tuple[str, ...], Row("of the workers, ids, at most 16", (texts(), texts("a list of at most 16 ids", 16)))
    ]
    execution_role: Annotated[
        str, Row("for ECS, as an ARN: pulls the image, writes logs, reads the secret", (TEXT, _ROLE))
    ]
    task_role: Annotated[str, Row("for the workers, as an ARN: the bucket and the queues", (TEXT, _ROLE))]
    signing_secret: Annotated[
        str,
        Row(
            "the ARN of a Secrets Manager secret or a secure SSM parameter",
            (TEXT, shaped(r"arn:aws[a-z-]*:(secretsmanager|ssm):.+", "the ARN of a secret or of a secure parameter")),
        ),
    ]
    image: Annotated[
        str, Row("for every run that names no other; empty: one is made for each environment", (TEXT,))
    ] = ""
    repository: Annotated[
        str,
        Row(
            "in ECR, of those images; default: starburst-<name>",
            (TEXT, shaped(r"([a-z0-9]+([._/-][a-z0-9]+)*)?", "the name of an ECR repository")),
        ),
    ] = ""
    build_role: Annotated[
        str, Row("for AWS CodeBuild, as an ARN, where images are to be built there", (TEXT, _ROLE))
    ] = ""
    kms_key: Annotated[
        str,
        Row(
            "in KMS, as an ARN, where bucket or signing key are encrypted with one of yours: for the policies",
            (TEXT, shaped(r"(arn:aws[a-z-]*:kms:.+)?", "the ARN of a key")),
        ),
    ] = ""
    security_groups: Annotated[
        tuple[str, ...],
        Row(
            "of the workers, ids, at most 5; outgoing HTTPS is all that is needed",
            (texts(), texts("a list of at most 5 ids", 5)),
        ),
    ] = ()
    log_group: Annotated[
        str, Row("of the workers' lines, made at the first launch; default: /starburst/<name>", (TEXT,))
    ] = ""
    log_days: Annotated[
        int,
        Row(
            "for which a log group that starburst made keeps its lines",
            (
                of_type(int, "a whole number"),
                Rule(lambda value: value in _LOG_DAYS, f": CloudWatch takes {', '.join(map(str, _LOG_DAYS))}"),
            ),
        ),
    ] = 14
    assign_public_ip: Annotated[
        bool, Row("needed in public subnets, which have no NAT gateway", (of_type(bool, "true or false"),))
    ] = True
    nat_gateway: Annotated[
        str,
        Row(
            "what of workers' bytes goes through one, for costs: none, all, or but-s3, where S3 has a gateway endpoint",
            (TEXT, shaped("|".join(NATS), "none, all or but-s3")),
        ),
    ] = NO_NAT
    tags: Annotated[
        tuple[str, ...],
        Row(
            "KEY=VALUE each, of all that is made there, queues and tasks of runs included",
            (
                texts(),
                texts("at most 45 of them", 45),
                Rule(lambda value: all(map(_TAG.fullmatch, value)), ": give KEY=VALUE, of what AWS takes in a tag"),
                Rule(
                    lambda value: not any(map(_TAKEN.match, value)),
                    ": names that begin with aws: or starburst: are taken",
                ),
                Rule(
                    lambda value: len({each.partition("=")[0] for each in value}) == len(value),
                    ": a thing has one tag of a name: leave one of the two out",
                ),
            ),
        ),
    ] = ()
    max_hourly_cost: Annotated[
        float,
        Row(
            "USD that all workers of the site together may cost an hour; no more are started beyond that; 0: no limit",
            (number(lambda value: value >= 0, "US dollars, or 0 for no limit"),),
        ),
    ] = 0.0
    ec2_provider: Annotated[
        str, Row("in ECS, the capacity provider of workers on EC2; empty: there is none", (TEXT, _PROVIDER))
    ] = ""
    ec2_spot_provider: Annotated[str, Row("the same on Spot", (TEXT, _PROVIDER))] = ""
    gpu_provider: Annotated[str, Row("the same of workers with GPUs", (TEXT, _PROVIDER))] = ""
    gpu_spot_provider: Annotated[str, Row("the same of those on Spot", (TEXT, _PROVIDER))] = ""
    instance_types: Annotated[
        tuple[str, ...],
        Row('of EC2 that workers may run on, "*" for anything', (texts(), texts("a list of at most 400", 400))),
    ] = TYPES
    gpu_types: Annotated[
        tuple[str, ...], Row("the same of workers with GPUs", (texts(), texts("a list of at most 400", 400)))
    ] = GPU_TYPES
    monthly_budget: Annotated[
        tuple[str, ...],
        Row(
            'USD that runs with a tag may cost in a month (UTC), such as "team=a: 200"; "*: 1000" is of all runs',
            (
                texts(),
                Rule(lambda value: all(map(MONTHLY.fullmatch, value)), ': give TAG=VALUE: USD, such as "team=a: 200"'),
            ),
        ),
    ] = ()
    alert_at: Annotated[
        str,
        Row(
            "per cent of a budget, a month's or a run's, at which the log says how much is used, such as \"50, 80\"; "
            '"none": it never does',
            (TEXT, ALERTS),
        ),
    ] = DEFAULT
    architecture: Annotated[
        str, Row("of the workers: X86_64 or ARM64", (TEXT, shaped(r"X86_64|ARM64", "X86_64 or ARM64")))
    ] = "X86_64"

    @classmethod
    def of(cls, table: Mapping[str, Any], source: str) -> Self:
        """From a settings table. Raises `BadInput` naming the source, the field and what it should be.

        >>> Site.of({"name": "Mine"}, "config.toml")
        Traceback (most recent call last):
        starburst_common.errors.BadInput: config.toml: [site] lacks region, bucket, cluster, subnets, execution_role, \
task_role, signing_secret
        """
        if not isinstance(table, Mapping):
            raise BadInput(f"{source}: site={told(table)} is no table: write [site], and its lines below")
        if unknown := [name for name in table if name not in SITE]:
            raise BadInput(f"{source}: [site] has no {told(unknown[0])}: known are {', '.join(SITE)}")
        if lacking := [name for name, row in SITE.items() if row.needed and not table.get(name)]:
            raise BadInput(f"{source}: [site] lacks {', '.join(lacking)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
        }
        for name, value in values.items():
            if wrong := SITE[name].wrong(value):
                raise BadInput(f"{source}: [site] {name}={told(table[name])}{wrong}")
        values["log_group"] = values.get("log_group") or f"/starburst/{values['name']}"
        values["repository"] = values.get("repository") or f"starburst-{values['name']}"
        return cls(**values)

    @property
    def account(self) -> str:
        """Whose it is: the twelve digits in its workers' role, which ECS takes from its own account alone."""
        return self.task_role.split(":")[4]

    @property
    def providers(self) -> tuple[str, ...]:
        """The capacity providers of its workers on EC2."""
        named = (self.ec2_provider, self.ec2_spot_provider, self.gpu_provider, self.gpu_spot_provider)
        return tuple(dict.fromkeys(filter(None, named)))

    @property
    def own_providers(self) -> tuple[str, ...]:
        """Those of them whose instances ECS starts and ends for the site alone, as setup makes them."""
        return tuple(filter(self._managed, self.providers))

    @property
    def spot_providers(self) -> tuple[str, ...]:
        """Those of them on Spot."""
        return tuple(filter(None, (self.ec2_spot_provider, self.gpu_spot_provider)))

    def provider(self, *, gpus: int, spot: bool) -> str:
        """That of such workers on EC2, on demand in place of Spot where it has no Spot; empty where it has none."""
        own = (self.gpu_provider, self.gpu_spot_provider) if gpus else (self.ec2_provider, self.ec2_spot_provider)
        return (own[1] if spot else "") or own[0]

    def falls_back(self, *, gpus: int) -> bool:
        """Whether such workers may be on demand in place of Spot: it has a capacity provider for either."""
        on_demand, spot = (self.provider(gpus=gpus, spot=spot) for spot in (False, True))
        return bool(on_demand) and spot != on_demand

    @property
    def tariff(self) -> Tariff:
        """By which its workers are charged for."""
        return Tariff(
            site=self.name,
            region=self.region,
            arch="arm" if self.architecture == "ARM64" else "x86",
            public_ipv4=self.assign_public_ip,
            nat=self.nat_gateway,
            types=self.instance_types,
            gpu_types=self.gpu_types,
            managed=self._managed(self.ec2_provider or self.ec2_spot_provider),
            gpus_managed=self._managed(self.gpu_provider or self.gpu_spot_provider),
        )

    def _managed(self, provider: str) -> bool:
        """Whether it is one that setup makes; who names one has a group of instances, as we say, which costs no fee."""
        return not provider or provider.startswith(f"starburst-{self.name}-")

    def table(self) -> dict[str, Any]:
        """The inverse of `of`, for JSON."""
        return asdict(self)


#: The settings of a site by name.
SITE = rows(Site)

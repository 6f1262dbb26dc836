"""What a user names of an account in; all that is wrong with it, each with what to do, out. Nothing is made.

What these credentials may not look at is told as such, and taken as it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, is_gone, speaking
from starburst_common.aws.keys import signing_key
from starburst_common.aws.roads import Roads
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.inventory import Inventory
from starburst_common.aws.setup.network import default_place
from starburst_common.aws.setup.permissions import role_permissions
from starburst_common.aws.setup.things import CAPACITY, SigningKey
from starburst_common.aws.ways import lost_told, unsure_told
from starburst_common.errors import BadInput, Denied
from starburst_common.sites.arns import in_ecr
from starburst_common.sites.policies import TRUSTED, trusts
from starburst_common.sites.wanted import ROLES, WantedSite

_FILTERED = 200  #: values of a filter. Source: Amazon EC2 API reference, "List and filter your resources"


class Findings(NamedTuple):
    """What of it cannot be, and what nobody could look at."""

    wrong: list[str]
    unsure: list[str]


def looked_at(account: AwsAccount, wanted: WantedSite) -> Findings:
    """All at once."""
    found = Findings([], [])
    for look in (_bucket, _signing, _cluster, _network, _groups, _roles, _boundary, _key, _image, _types):
        try:
            found.wrong.extend(look(account, wanted))
        except Denied as error:
            found.unsure.append(str(error))
    if not found.wrong:
        _roads(account, wanted, found)
    return found


def _roads(account: AwsAccount, wanted: WantedSite, found: Findings) -> None:
    """Of subnets that are named: workers without a way out cannot start. Behind other networks there may be one."""
    if not wanted.subnets:
        return
    site = wanted.site(account.id, wanted.subnets, wanted.security_groups)
    try:
        roads = Roads(account.clients.ec2, site)
    except Denied as error:
        found.unsure.append(f"where the subnets lead: {error}")
        return
    lost, elsewhere = roads.lost, roads.elsewhere
    if sure := {subnet: ways for subnet, ways in lost.items() if subnet not in elsewhere}:
        found.wrong.append(f"--subnet: {lost_told(sure, site)}")
    if unsure := {subnet: ways for subnet, ways in lost.items() if subnet in elsewhere}:
        found.unsure.append(f"where the subnets lead: {unsure_told(unsure, site)}")


def _bucket(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    name = wanted.bucket_name(account.id)
    where = _region_of(account, name)
    if not wanted.bucket:
        key = SigningKey(account, wanted.key_name)
        if where is None and key.there() and key.ours():
            yield (
                f"site {wanted.name} has a signing key, {key.name}, and no bucket {name}: name the bucket that it was "
                "set up with by --bucket; or, if that is gone, remove the parameter"
            )
    elif where is None:
        yield f"--bucket {name}: there is no such bucket: make it, or leave --bucket out, and one is made"
    elif where == "":
        yield (
            f"--bucket {name}: it is another account's, or these credentials may not look at it (s3:ListBucket): give "
            "one of yours, or leave --bucket out, and one is made"
        )
    elif where != account.region:
        yield f"--bucket {name}: it is in {where}, and the site is to be in {account.region}: give one there"
    else:
        yield from _refused(Inventory(account, name).refuse_others)


def _signing(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    """What the parameter says that is there already: nothing works by what is no key."""
    key = SigningKey(account, wanted.key_name)
    if key.there() and key.ours():
        arn = account.arn("ssm", f"parameter{wanted.key_name}")
        wrong = _refused(lambda: signing_key(account.clients, arn))
        yield from (f"{each}; or remove the parameter, and setup makes one" for each in wrong)


def _region_of(account: AwsAccount, bucket: str) -> str | None:
    """Where a bucket is; None where there is none, empty where it may not be looked at."""
    with speaking(f"s3:HeadBucket {bucket}"):
        try:
            found = account.clients.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account.id)
            return str(found.get("BucketRegion") or account.region)
        except ClientError as error:
            if error_code(error) in ("404", "NoSuchBucket"):
                return None
            if error_code(error) in ("400", "403", "AccessDenied"):
                return ""
            raise


def _cluster(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    if not wanted.cluster:
        return
    with speaking(f"ecs:DescribeClusters {wanted.cluster}"):
        found = account.clients.ecs.describe_clusters(clusters=[wanted.cluster])["clusters"]
    there = next((each for each in found if each["status"] == "ACTIVE"), None)
    if there is None:
        yield (
            f"--cluster {wanted.cluster}: there is none in {account.region}: make it, or leave --cluster out, and one "
            "is made"
        )
    elif lacking := [each for each in CAPACITY if each not in there.get("capacityProviders", [])]:
        yield (
            f"--cluster {wanted.cluster}: it lacks the capacity providers {', '.join(lacking)}: give it both by `aws "
            "ecs put-cluster-capacity-providers`"
        )


def _network(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    if wanted.subnets:
        there = _described(account, "subnet", wanted.subnets)
        if lacking := [each for each in wanted.subnets if each not in there]:
            yield f"--subnet {', '.join(lacking)}: not in {account.region}: name subnets there"
        if len(networks := sorted({*there.values()})) > 1:
            yield f"--subnet: they are of {len(networks)} networks, {', '.join(networks)}: name those of one"
    elif wanted.network == "default" and default_place(account) is None:
        yield (
            f"{account.region} has no default network: --network made makes one for the site, which costs nothing; "
            "or name subnets with --subnet"
        )


def _groups(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    if not wanted.security_groups:
        return
    groups = _described(account, "security-group", wanted.security_groups)
    if lacking := [each for each in wanted.security_groups if each not in groups]:
        yield f"--security-group {', '.join(lacking)}: not in {account.region}: name one of the subnets' network"
    networks = {*_described(account, "subnet", wanted.subnets).values()}
    if networks and (others := [each for each, network in groups.items() if network not in networks]):
        yield (
            f"--security-group {', '.join(sorted(others))}: of another network than the subnets, which are of "
            f"{', '.join(sorted(networks))}: name one of that, or leave it out, and one is made"
        )


def _described(account: AwsAccount, kind: str, ids: Sequence[str]) -> dict[str, str]:
    """Those that are there, with the network of each; a filter, unlike a list of ids, tells of all at once."""
    ec2, subnets = account.clients.ec2, kind == "subnet"
    with speaking("ec2:DescribeSubnets" if subnets else "ec2:DescribeSecurityGroups"):
        if subnets:
            found = ec2.describe_subnets(Filters=[{"Name": "subnet-id", "Values": [*ids]}])["Subnets"]
        else:
            found = ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": [*ids]}])["SecurityGroups"]
        return {each["SubnetId" if subnets else "GroupId"]: each["VpcId"] for each in found}


def _roles(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    for kind in ROLES:
        if arn := getattr(wanted, f"{kind}_role"):
            wrong = [*_role(account, kind, arn)] or [*_may(account, wanted, kind)]
            yield from (f"--{kind}-role {arn}: {each}" for each in wrong)


def _may(account: AwsAccount, wanted: WantedSite, kind: str) -> Iterator[str]:
    """What a role that is given lacks, as IAM reckons it. Raises `Denied` where that may not be asked."""
    site = wanted.site(account.id, wanted.subnets or ("subnet-0",), wanted.security_groups)
    rulings = role_permissions(account, site, kind)
    if lacks := sorted({each.permission.action for each in rulings if not each.allowed}):
        yield f"it may not {', '.join(lacks)}: allow it what `{_printing(wanted, kind)}` prints"


def _printing(wanted: WantedSite, kind: str) -> str:
    """The command that prints a policy of a site that need not be there yet."""
    given = {"bucket": wanted.bucket, "cluster": wanted.cluster, "kms-key": wanted.kms_key}
    more = "".join(f" --{name} {value}" for name, value in given.items() if value)
    return f"starburst iam-policy {kind} --site {wanted.name} --region {wanted.region}{more}"


def _role(account: AwsAccount, kind: str, arn: str) -> Iterator[str]:
    if arn.split(":")[4] != account.id:
        yield f"of another account than {account.id}, and AWS takes none but its own: name one of that"
        return
    with speaking(f"iam:GetRole {arn}"):
        found = _or_none(account.clients.iam.get_role, RoleName=arn.rpartition("/")[2])
    if found is None or found["Role"]["Arn"] != arn:
        yield "there is no such role: make it, or leave it out, and one is made"
    elif not trusts(found["Role"].get("AssumeRolePolicyDocument"), TRUSTED[kind]):
        yield f"it does not trust {TRUSTED[kind]}: allow that sts:AssumeRole in its trust policy"


def _boundary(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    if wanted.boundary:
        with speaking(f"iam:GetPolicy {wanted.boundary}"):
            found = _or_none(account.clients.iam.get_policy, PolicyArn=wanted.boundary)
        if found is None:
            yield f"--boundary {wanted.boundary}: there is no such policy: give the ARN of one"


def _key(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    arn = wanted.kms_key
    if not arn:
        return
    if arn.split(":")[3] != account.region:
        yield f"--kms-key {arn}: of another region than {account.region}, and S3 takes none but its own: name one there"
        return
    with speaking(f"kms:DescribeKey {arn}"):
        found = _or_none(account.clients.kms.describe_key, KeyId=arn)
    if found is None:
        yield f"--kms-key {arn}: there is no such key: name one that there is"
        return
    key = found["KeyMetadata"]
    if key.get("KeyState") != "Enabled":
        yield f"--kms-key {arn}: its state is {key.get('KeyState')}: enable it, or name another"
    elif key.get("KeySpec", "SYMMETRIC_DEFAULT") != "SYMMETRIC_DEFAULT" or key.get("KeyUsage") != "ENCRYPT_DECRYPT":
        yield f"--kms-key {arn}: S3 takes symmetric keys for encryption only: name one of those"


def _image(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    """Of one in this account and region; what other registries have, only a worker finds."""
    place = in_ecr(wanted.image)
    if place is None or place[:2] != (account.id, account.region):
        return
    name, _, digest = wanted.image.partition("/")[2].partition("@")
    repository, _, tag = name.partition(":")
    asked: dict[str, str] = {"imageDigest": digest} if digest else {"imageTag": tag or "latest"}
    with speaking(f"ecr:DescribeImages {repository}"):
        found = _or_none(account.clients.ecr.describe_images, repositoryName=repository, imageIds=[asked])
    if found is None:
        yield f"--image {wanted.image}: there is no such image in ECR: push it, or name another"


def _types(account: AwsAccount, wanted: WantedSite) -> Iterator[str]:
    machine = {"ARM64": "arm64"}.get(wanted.architecture, "x86_64")
    for option, patterns in (("instance-type", wanted.instance_types), ("gpu-type", wanted.gpu_types)):
        there = [*_offered(account, patterns, machine, gpus=option == "gpu-type")]
        fitting = f"of {machine} with NVIDIA GPUs" if option == "gpu-type" else f"of {machine} and a current generation"
        for pattern in patterns:
            if not any(fnmatchcase(each, pattern) for each in there):
                yield (
                    f"--{option} {pattern}: no type in {account.region} that is called so is {fitting}, and "
                    "not burstable: name others, or leave it out"
                )


def _offered(account: AwsAccount, patterns: Sequence[str], machine: str, *, gpus: bool) -> Iterator[str]:
    """Types that ECS would choose among. Source: Amazon EC2 API reference, DescribeInstanceTypes, read 2026-12-01."""
    needs = {"processor-info.supported-architecture": [machine], "burstable-performance-supported": ["false"]}
    if not gpus:
        needs["current-generation"] = ["true"]
    for at in range(0, len(patterns), _FILTERED):
        asked = {**needs, "instance-type": [*patterns[at : at + _FILTERED]], "bare-metal": ["false"]}
        filters = [{"Name": name, "Values": values} for name, values in asked.items()]
        with speaking("ec2:DescribeInstanceTypes"):
            for page in account.clients.ec2.get_paginator("describe_instance_types").paginate(Filters=filters):
                for each in page["InstanceTypes"]:
                    makers = {gpu.get("Manufacturer") for gpu in each.get("GpuInfo", {}).get("Gpus", [])}
                    if ("NVIDIA" in makers) if gpus else not makers:
                        yield str(each["InstanceType"])


def _or_none(ask: Callable[..., Any], **asked: Any) -> Any:
    """What AWS answers; None where there is no such thing."""
    try:
        return ask(**asked)
    except ClientError as error:
        if is_gone(error) or error_code(error) in ("NoSuchEntity", "NotFoundException", "ImageNotFoundException"):
            return None
        raise


def _refused(look: Callable[[], object]) -> Iterable[str]:
    try:
        look()
    except BadInput as error:
        return [str(error)]
    return []

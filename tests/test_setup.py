"""A site set up in an account, used and taken away: what there is afterwards, whatever went wrong on the way."""

from __future__ import annotations

import json
import os
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from starburst_common import BadInput, Cluster, StarburstError, starburst_map
from starburst_common.aws import aws_backend
from starburst_common.aws.reach import site_parts
from starburst_common.aws.sessions import known_regions
from starburst_common.aws.setup.account import AdminClients, AwsAccount
from starburst_common.aws.setup.clearing import inventoried, tear_down
from starburst_common.aws.setup.kept import write_site
from starburst_common.aws.setup.making import planned, set_up
from starburst_common.aws.setup.rotation import change_key
from starburst_common.config import settings
from starburst_common.errors import RunStopped
from starburst_common.names import BUILDS
from starburst_common.sites.administrator import administrator
from starburst_common.sites.asked import AskedSite, what_is_asked
from starburst_common.sites.policies import POLICIES, trust
from starburst_common.sites.site import Site
from starburst_common.sites.wanted import WantedSite
from starburst_common.wire.keys import secret_of
from tests.places import AWS_PACE
from tests.policies import DOCTORS, actions_of, allow
from tests.test_cli import COMMAND, Shell, shell_in
from tests.testbed.bed import Bed as Aws
from tests.testbed.conditions import ACCOUNT
from tests.testbed.private import private_network

REGION = "us-east-1"


def setting_up(aws: Aws, folder: Path) -> dict[str, str]:
    """What who sets up has in its environment, and drivers there too."""
    aws.grant(WantedSite(name="main", region=REGION).site(ACCOUNT, ("subnet-1",), ()).table(), setup=True)
    return {**aws.as_user("setup"), "STARBURST_CONFIG": str(folder / "config.toml")}


def quiet(_: str) -> None:
    """Who is told nothing."""


@cache
def clients(endpoint: str) -> AdminClients:
    """Those of one bed: they are slow to make."""
    return AdminClients(REGION)


def account_of(site: str = "main", tags: tuple[str, ...] = ()) -> AwsAccount:
    return AwsAccount.of(clients(os.environ["AWS_ENDPOINT_URL"]), site, tags)


def made(site: str = "main", **asked: Any) -> Site:
    return set_up(account_of(site, asked.get("tags", ())), WantedSite.of(name=site, region=REGION, **asked), quiet)


def gone(site: str = "main", *, with_data: bool = True) -> list[Any]:
    account, wanted = account_of(site), WantedSite(name=site, region=REGION)
    return tear_down(account, wanted.bucket_name(account.id), wanted.stem, with_data=with_data, tell=quiet)


def things(aws: Aws) -> dict[str, set[str]]:
    """All that is in the account, by kind; networks by how many of each part."""
    ec2, iam = aws.boto("ec2"), aws.boto("iam")
    clusters = aws.boto("ecs").describe_clusters(clusters=aws.boto("ecs").list_clusters()["clusterArns"])["clusters"]
    return {
        "buckets": {each["Name"] for each in aws.boto("s3").list_buckets()["Buckets"]},
        "roles": {each["RoleName"] for each in iam.list_roles()["Roles"] if "aws-service-role" not in each["Path"]},
        "parameters": {each["Name"] for each in aws.boto("ssm").describe_parameters()["Parameters"]},
        "groups": {each["logGroupName"] for each in aws.boto("logs").describe_log_groups()["logGroups"]},
        "repositories": {each["repositoryName"] for each in aws.boto("ecr").describe_repositories()["repositories"]},
        "clusters": {each["clusterName"] for each in clusters if each["status"] == "ACTIVE"},
        "providers": {
            provider["name"]
            for each in clusters
            if each["status"] == "ACTIVE"
            for provider in aws.boto("ecs").describe_capacity_providers(cluster=each["clusterName"])[
                "capacityProviders"
            ]
        },
        "profiles": {each["InstanceProfileName"] for each in iam.list_instance_profiles()["InstanceProfiles"]},
        "definitions": set(aws.boto("ecs").list_task_definitions(status="ACTIVE")["taskDefinitionArns"]),
        "queues": set(aws.boto("sqs").list_queues().get("QueueUrls", [])),
        "projects": set(aws.boto("codebuild").list_projects()["projects"]),
        "vpcs": {each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"]},
        "subnets": {each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]},
        "gateways": {each["InternetGatewayId"] for each in ec2.describe_internet_gateways()["InternetGateways"]},
        "tables": {each["RouteTableId"] for each in ec2.describe_route_tables()["RouteTables"]},
        "security": {each["GroupId"] for each in ec2.describe_security_groups()["SecurityGroups"]},
        "endpoints": {
            each["VpcEndpointId"]
            for each in ec2.describe_vpc_endpoints()["VpcEndpoints"]
            if each["State"] not in ("deleted", "deleting")
        },
    }


def counted(aws: Aws) -> dict[str, int]:
    return {kind: len(found) for kind, found in things(aws).items()}


@pytest.fixture
def account(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """The bed's account, which must be as before when the test is over."""
    for name, value in setting_up(aws, tmp_path).items():
        monkeypatch.setenv(name, value)
    aws.set(throttling=False)  # nobody sets up as many sites a minute
    before = things(aws)
    yield aws
    aws.clear_faults()
    left = {kind: found - before[kind] for kind, found in things(aws).items()}
    assert not any(left.values()), left


def test_from_an_account_to_a_map_and_back_to_nothing(account: Aws, tmp_path: Path) -> None:
    """The shell sets up, and tries; a program and a shell map there; then all is as before, but for data at first."""
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    shown = shell("setup", "--dry-run")
    assert shown.returncode == 0 and "bucket starburst-main-123456789012-us-east-1-an: to be made" in shown.stderr
    assert shell("sites", "--json").stdout.strip() == "[]"
    done = shell("setup", "--yes", "--image", account.site["image"], "--tag", "team=x")
    assert done.returncode == 0, done.stderr
    assert "It works: [1.0, 2.0, 3.0]. That cost about $" in done.stderr
    assert settings().site is not None
    assert starburst_map(abs, [-1, -2], workers=1, backend="aws", progress=False) == [1, 2]
    mapped = shell("map", "math:sqrt", "-i", "-", "--workers", "1", stdin="4\n")
    assert (mapped.returncode, mapped.stdout) == (0, "2.0\n"), mapped.stderr
    assert json.loads(shell("sites", "--json").stdout)[0]["ready"]
    (definition,) = [each for each in things(account)["definitions"] if "starburst-main" in each]
    told = account.boto("ecs").describe_task_definition(taskDefinition=definition, include=["TAGS"])["tags"]
    assert {"key": "team", "value": "x"} in told
    bucket = settings().site.bucket
    rules = account.boto("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [rule["Filter"]["Prefix"] for rule in rules if "Expiration" in rule] == [BUILDS]  # and nothing of a run
    (stream, *_) = account.boto("logs").describe_log_streams(logGroupName="/starburst/main")["logStreams"]
    assert stream["logStreamName"].rpartition("/")[0] == "worker/worker"  # prefix, container; then the task's id
    assert stream["logStreamName"].rpartition("/")[2] in {task["arn"].rpartition("/")[2] for task in account.tasks()}
    going = json.loads(shell("teardown", "--dry-run", "--json").stdout)
    assert {"kind": "bucket", "name": "starburst-main-123456789012-us-east-1-an", "goes": False} in going["parts"]
    assert len(going["task_definitions"]) == 1 and going["objects"] > 10 and going["bytes"] > 1000
    assert (going["runs"], going["builds"]) == ([], [])
    other = {"STARBURST_CONFIG": str(tmp_path / "other" / "config.toml")}
    assert "say where another is by --region" in shell("teardown", **other).stderr
    assert json.loads(shell("teardown", "--region", REGION, "--dry-run", "--json", **other).stdout) == going
    stays = shell("teardown", "--yes")
    assert stays.returncode == 0 and "What holds data stays: /starburst/main/signing-key" in stays.stderr
    assert len([line for line in shell("sites").stdout.splitlines() if "not whole" in line]) == 1
    assert json.loads(shell("teardown", "--yes", "--with-data", "--json").stdout) == {"left": []}
    (tmp_path / "sites" / "broken.setup.json").write_text("{")
    listed = shell("sites", "--json")
    assert listed.stdout.strip() == "[]" and "sites/broken.setup.json cannot be read: " in listed.stderr
    assert {*(tmp_path / "sites").iterdir()} == {tmp_path / "sites" / "broken.setup.json"}


def test_set_up_twice_is_as_once_and_what_was_changed_is_mended(account: Aws) -> None:
    """With a network of its own: no part of it is made again; roles and capacity are as they should be, and tags.

    ECS knows a role that is made anew no sooner for having known the one before.
    """
    first = made(network="made", tags=("team=x",))
    before = counted(account)
    assert untagged(account, first, {"team": "x", "starburst:site": "main"}) == []
    iam, role = account.boto("iam"), first.task_role.rpartition("/")[2]
    iam.delete_role_policy(RoleName=role, PolicyName="starburst")
    account.boto("ecs").put_cluster_capacity_providers(
        cluster=first.cluster, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
    )
    theirs = f"starburst-main-{REGION}-infrastructure"
    for policy in iam.list_role_policies(RoleName=theirs)["PolicyNames"]:
        iam.delete_role_policy(RoleName=theirs, PolicyName=policy)
    iam.delete_role(RoleName=theirs)
    assert made(network="made", tags=("team=x",)) == first
    assert counted(account) == before
    assert iam.get_role_policy(RoleName=role, PolicyName="starburst")["PolicyDocument"] == POLICIES["task"](first)
    (cluster,) = account.boto("ecs").describe_clusters(clusters=[first.cluster])["clusters"]
    assert {*cluster["capacityProviders"]} == {"FARGATE", "FARGATE_SPOT", *first.providers}
    routes = account.boto("ec2").describe_route_tables(Filters=[{"Name": "tag:starburst:site", "Values": ["main"]}])
    (table,) = routes["RouteTables"]
    assert {each.get("SubnetId") for each in table["Associations"]} == {*first.subnets} and len(first.subnets) == 3
    ec2, name = account.boto("ec2"), "starburst-main"
    (before_it,) = ec2.describe_subnets(SubnetIds=[first.subnets[1]])["Subnets"]
    ec2.delete_subnet(SubnetId=first.subnets[1])  # as where it was made while other zones had none
    marks = [{"Key": "starburst:site", "Value": "main"}, {"Key": "Name", "Value": name}]
    where = {"VpcId": before_it["VpcId"], "CidrBlock": before_it["CidrBlock"], "AvailabilityZone": f"{REGION}f"}
    ec2.create_subnet(**where, TagSpecifications=[{"ResourceType": "subnet", "Tags": marks}])
    assert len(made(network="made", tags=("team=x",)).subnets) == 3
    gone()
    made()  # and again from nothing
    gone()


def test_what_is_asked_anew_is_had_by_what_is_there_and_what_others_changed_is_mended(account: Aws) -> None:
    """Boundary, tags, retention and key of roles, parameter, log group, repository, cluster and all else; a group that
    lets in, or no more out. It is told, once; what nobody here asked for stays.
    """
    iam, allowing = account.boto("iam"), {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowing]})
    bound = iam.create_policy(PolicyName="user-s-bound", PolicyDocument=document)["Policy"]["Arn"]
    key = account.boto("kms").create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["Arn"]
    allow(account, ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"], key, user="setup")
    asked: dict[str, Any] = {"network": "made", "tags": ("team=x",)}
    before = made(**asked, ec2=False)
    name, ssm = before.task_role.rpartition("/")[2], account.boto("ssm")
    secret = {"Name": before.signing_secret.partition(":parameter")[2], "WithDecryption": True}
    signs = ssm.get_parameter(**secret)["Parameter"]["Value"]
    iam.tag_role(RoleName=name, Tags=[{"Key": "of-others", "Value": "1"}])
    spoilt(account, before)
    earlier = {"Bucket": before.bucket, "Key": "sites/main/asked"}  # as setup wrote it before it kept what once was
    written = json.loads(account.boto("s3").get_object(**earlier)["Body"].read())
    assert written.pop("once")["tags"] == ["team"]
    account.boto("s3").put_object(**earlier, Body=json.dumps(written).encode())
    site = made(network="made", tags=("owner=me",), boundary=bound, log_days=30, kms_key=key, ec2=False)
    roles = [
        iam.get_role(RoleName=f"starburst-main-{REGION}-{kind}")["Role"] for kind in ("execution", "task", "build")
    ]
    assert {each["PermissionsBoundary"]["PermissionsBoundaryArn"] for each in roles} == {bound}
    assert untagged(account, site, {"owner": "me", "starburst:site": "main"}) == []
    assert len(untagged(account, site, {"team": "x"})) > 15
    assert {"Key": "of-others", "Value": "1"} in iam.get_role(RoleName=name)["Role"]["Tags"]
    (group,) = account.boto("logs").describe_log_groups(logGroupNamePrefix=site.log_group)["logGroups"]
    assert group["retentionInDays"] == 30
    (rules,) = account.boto("ec2").describe_security_groups(GroupIds=[*site.security_groups])["SecurityGroups"]
    assert not rules["IpPermissions"] and rules["IpPermissionsEgress"][0]["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}]
    filters = [{"Key": "Name", "Values": [secret["Name"]]}]
    assert ssm.describe_parameters(ParameterFilters=filters)["Parameters"][0]["KeyId"] == key
    assert ssm.get_parameter(**secret)["Parameter"]["Value"] == signs
    told: list[str] = []
    wanted = WantedSite.of(name="main", region=REGION, network="made", ec2=False)
    set_up(account_of(), wanted, told.append)
    assert f"role {name}: mended: its boundary, which is no more; tags owner, which are no more; its policy" in told
    assert "log group /starburst/main: mended: how long it keeps lines, 30 and not 14 days" in " ".join(told)
    assert "PermissionsBoundary" not in iam.get_role(RoleName=name)["Role"]
    assert ssm.describe_parameters(ParameterFilters=filters)["Parameters"][0]["KeyId"] == "alias/aws/ssm"
    told.clear()
    set_up(account_of(), wanted, told.append)
    assert [line for line in told if not line.endswith(": there already")] == []
    gone()
    iam.delete_policy(PolicyArn=bound)


def test_what_is_not_as_asked_is_named_and_stays_until_setup(account: Aws, tmp_path: Path) -> None:
    """By the doctor, who needs no more than the operator's policy for it, and by setup's dry run, part by part."""
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    site = made(network="made", tags=("team=x",))
    write_site(site)
    account.grant(site.table(), setup=True)
    assert amiss(shell, account) == {"as asked of setup": "17 parts, with their tags and settings"}
    unused = {*actions_of(POLICIES["operator"](site))} - {*actions_of(POLICIES["driver"](site))}
    unused -= {action for kind, action in account.allowed() if kind == "operator"}
    assert [each for each in unused if each.partition(":")[2].startswith(DOCTORS)] == []
    ecs, on_demand = account.boto("ecs"), site.ec2_provider
    (spoiled,) = ecs.describe_capacity_providers(cluster=site.cluster, capacityProviders=[on_demand])[
        "capacityProviders"
    ]
    asked = spoiled["managedInstancesProvider"]
    asked["infrastructureOptimization"] = {"scaleInAfter": -1}
    asked["instanceLaunchTemplate"]["instanceRequirements"]["allowedInstanceTypes"] = ["m7i.*"]
    asked["instanceLaunchTemplate"]["monitoring"] = "DETAILED"  # which setup says nothing of
    del asked["instanceLaunchTemplate"]["capacityOptionType"]
    ecs.update_capacity_provider(name=on_demand, cluster=site.cluster, managedInstancesProvider=asked)
    spoilt(account, site)
    account.boto("s3").delete_bucket_policy(Bucket=site.bucket)
    account.boto("s3").put_bucket_tagging(
        Bucket=site.bucket, Tagging={"TagSet": [{"Key": "starburst:site", "Value": "main"}]}
    )
    account.boto("ecs").put_cluster_capacity_providers(
        cluster=site.cluster, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
    )
    account.boto("ecr").delete_repository(repositoryName=site.repository)
    account.boto("ec2").delete_subnet(SubnetId=site.subnets[1])
    s3, of = account.boto("s3"), {"Bucket": site.bucket}
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "runs/"}, "Expiration": {"Days": 90}}
    s3.put_bucket_lifecycle_configuration(**of, LifecycleConfiguration={"Rules": [rule]})
    s3.delete_public_access_block(**of)
    s3.delete_bucket_encryption(**of)
    mends, names = "`starburst setup --site main` mends it", f"starburst-main-{REGION}"
    what = {
        f"capacity provider {on_demand}": "its allowedInstanceTypes, scaleInAfter",
        f"bucket {site.bucket}": "tags team; how it is closed to the public; how it encrypts; its policy, by which it "
        "takes TLS only; what goes from it by itself",
        f"role {names}-task": "whom it trusts",
        "log group /starburst/main": "how long it keeps lines, for ever and not 14 days",
        "network starburst-main": "its lack of a subnet in us-east-1b",
        "cluster starburst-main": "its lack of FARGATE_SPOT",
    }
    told = {part: f"not as asked of setup: {each}: {mends}" for part, each in what.items()}
    told["repository starburst-main"] = "it is gone: `starburst setup --site main` makes it"
    found = amiss(shell, account)
    group = found.pop("security group starburst-main")
    assert "lets in, tcp 22-22 from 0.0.0.0/0; what sg-" in group and found == told
    assert amiss(shell, account, "driver")["as asked of setup"].endswith(
        "`starburst iam-policy operator` prints what it takes"
    )
    shown = shell("setup", "--dry-run", "--json")
    parts = {f"{each['kind']} {each['name']}": each for each in json.loads(shown.stdout)["parts"]}
    assert {name for name, each in parts.items() if each["mended"]} == {*told, "security group starburst-main"} - {
        "repository starburst-main"
    }
    assert not parts["repository starburst-main"]["there"] and shown.stderr.count(": is there\n") == 9
    assert f"role {names}-task: to be mended: whom it trusts\n" in shown.stderr
    done = shell("setup", "--yes", "--no-try")
    assert done.returncode == 0 and f"role {names}-task: mended: whom it trusts\n" in done.stderr
    rules = s3.get_bucket_lifecycle_configuration(**of)["Rules"]
    assert rule in rules and len(rules) == 3
    marked = {"ResourceType": "Parameter", "ResourceId": "/starburst/main/signing-key"}
    account.boto("ssm").remove_tags_from_resource(**marked, TagKeys=["starburst:site"])
    lacks = "it lacks the tag starburst:site=main, by which setup knows it: tag it"
    assert amiss(shell, account) == {"signing key /starburst/main/signing-key": lacks}
    account.boto("ssm").add_tags_to_resource(**marked, Tags=[{"Key": "starburst:site", "Value": "main"}])
    gone()


def amiss(shell: Shell, aws: Aws, who: str = "operator") -> dict[str, str]:
    """What the doctor says of what setup has made."""
    parts = json.loads(shell("doctor", "--json", **aws.as_user(who)).stdout)
    kinds = ("bucket ", "signing key ", "security group ", "role ", "log group ", "repository ", "cluster ", "network ")
    kinds = (*kinds, "capacity provider ")
    return {
        each["part"]: each["told"]
        for each in parts
        if each["part"].startswith((*kinds, "as asked", "capacity ", "instance "))
    }


def spoilt(aws: Aws, site: Site) -> None:
    """What others do to a site's things by hand."""
    ec2, group = aws.boto("ec2"), site.security_groups[0]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    everywhere = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[everywhere])
    aws.boto("logs").delete_retention_policy(logGroupName=site.log_group)
    aws.boto("ecr").put_image_tag_mutability(repositoryName=site.repository, imageTagMutability="MUTABLE")
    role = site.task_role.rpartition("/")[2]
    others = trust("instance", ACCOUNT, "aws", REGION)
    aws.boto("iam").update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(others))


def untagged(aws: Aws, site: Site, tags: dict[str, str]) -> list[str]:
    """What of all that setup has made lacks some of these tags."""
    pairs: dict[str, Any] = {"bucket": aws.boto("s3").get_bucket_tagging(Bucket=site.bucket)["TagSet"]}
    for role in (site.execution_role, site.task_role, site.build_role):
        pairs[role] = aws.boto("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]["Tags"]
    named = {"ResourceType": "Parameter", "ResourceId": site.signing_secret.partition(":parameter")[2]}
    pairs["signing key"] = aws.boto("ssm").list_tags_for_resource(**named)["TagList"]
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{site.log_group}"
    pairs["log group"] = aws.boto("logs").list_tags_for_resource(resourceArn=group)["tags"]
    repository = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{site.repository}"
    pairs["repository"] = aws.boto("ecr").list_tags_for_resource(resourceArn=repository)["tags"]
    (cluster,) = aws.boto("ecs").describe_clusters(clusters=[site.cluster], include=["TAGS"])["clusters"]
    pairs["cluster"] = cluster["tags"]
    if names := [*site.providers]:
        asked: Any = {"capacityProviders": names, "cluster": site.cluster, "include": ["TAGS"]}
        told = aws.boto("ecs").describe_capacity_providers(**asked)["capacityProviders"]
        pairs |= {each["name"]: each["tags"] for each in told}
    ec2, ours = aws.boto("ec2"), [{"Name": "tag:starburst:site", "Values": ["main"]}]
    for kind in ("vpcs", "subnets", "internet_gateways", "route_tables", "security_groups", "vpc_endpoints"):
        answer = getattr(ec2, f"describe_{kind}")(Filters=ours)
        (there,) = [value for name, value in answer.items() if name not in ("ResponseMetadata", "NextToken")]
        found = [each for each in there if str(each.get("State")).lower() != "deleted"]  # as endpoints are for a while
        assert found, kind
        pairs |= {f"{kind} {number}": each["Tags"] for number, each in enumerate(found)}
    lowered = {
        name: each
        if isinstance(each, dict)
        else {(p.get("Key") or p["key"]): p.get("Value", p.get("value")) for p in each}
        for name, each in pairs.items()
    }
    return [name for name, each in lowered.items() if not tags.items() <= each.items()]


def calls(aws: Aws, do: Callable[[], Any]) -> int:
    aws.requests(reset=True)
    do()
    return sum(aws.requests(reset=True).values())


def test_halfway(account: Aws) -> None:
    """Setup and teardown stopped at calls along their way, before or after those are done: again is all it takes."""
    each_call(account, share=44)


@pytest.mark.rest
@pytest.mark.parametrize("part", range(8))
def test_halfway_at_every_call(account: Aws, part: int) -> None:
    """The same at each, before and after it is done; an eighth of them a test."""
    each_call(account, share=8, first=part)


def each_call(account: Aws, *, share: int, first: int | None = None) -> None:
    empty = counted(account)
    making = calls(account, lambda: made(network="made"))
    whole = counted(account)
    taking = calls(account, gone)
    assert making > 50 and taking > 40
    for number in range(first or 0, max(making, taking), share):
        for after in (False, True) if first is not None else (number % 4 == 0,):
            stopped(account, lambda: made(network="made"), number, after=after)
            made(network="made")
            assert counted(account) == whole, number
            stopped(account, gone, number, after=after)
            gone()
            assert counted(account) == empty, number


def stopped(account: Aws, do: Callable[[], Any], number: int, *, after: bool) -> None:
    """Done until a call fails, as if somebody was killed there; or to its end, where it has fewer calls."""
    account.fault(skip=number, code="Injected", after=after)
    with suppress(StarburstError):
        do()
    account.clear_faults()


def test_two_who_set_up_at_once_make_one_site(account: Aws) -> None:
    """Also its network, which has no name that AWS would refuse a second time."""
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: made(network="made"), range(2))
    assert first == second
    found = account.boto("ec2").describe_vpcs(Filters=[{"Name": "tag:starburst:site", "Values": ["main"]}])["Vpcs"]
    assert len(found) == 1
    gone()


@pytest.mark.rest
def test_two_commands_at_once_make_one_site(account: Aws, tmp_path: Path) -> None:
    """As two users do, each with settings of his own, which then say the same; what the one maps the other reads."""
    users = [Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path / name)}) for name in "ab"]
    asked = [*COMMAND, "setup", "--yes", "--no-try", "--network", "made", "--image", account.site["image"]]
    both = [subprocess.Popen(asked, cwd=tmp_path, env=user.environment()) for user in users]
    assert [each.wait(120) for each in both] == [0, 0]
    first, second = ((tmp_path / name / "sites" / "main.toml").read_text() for name in "ab")
    assert first == second
    found = account.boto("ec2").describe_vpcs(Filters=[{"Name": "tag:starburst:site", "Values": ["main"]}])["Vpcs"]
    assert len(found) == 1
    one, other = users
    assert one("map", "math:sqrt", "-i", "-", "--workers", "1", stdin="4\n").stdout == "2.0\n"
    assert other("results", "last").stdout == "2.0\n"
    works_beside(account, one, other)
    kept_warm(account, one)
    done = other("teardown", "--yes", "--with-data")
    assert done.returncode == 0, done.stderr
    assert not [task for task in account.tasks() if task["desired_status"] == "RUNNING"]
    gone = one("map", "math:sqrt", "-i", "-", "--workers", "1", stdin="4\n")
    assert (gone.returncode, len(gone.stderr.splitlines())) == (2, 1), gone.stderr
    assert "correct the site's region or signing_secret in the settings" in gone.stderr
    assert one("teardown", "--yes", "--with-data").returncode == 0
    assert one("sites", "--json").stdout == "[]\n"


def works_beside(aws: Aws, one: Shell, other: Shell) -> None:
    """What one's map goes on with stays, whatever the other maps, clears away and signs by; he cancels his own."""
    asked = [*COMMAND, "map", "time:sleep", "-i", "-", "--workers", "1", "--label", "one-s"]
    going = subprocess.Popen(asked, cwd=one.folder, env=one.environment(), stdin=subprocess.PIPE, text=True)
    try:
        assert going.stdin is not None
        going.stdin.write("600\n")
        going.stdin.close()
        aws.until(lambda: any(task["last_status"] == "RUNNING" for task in aws.tasks()))
        assert other("rotate-key").returncode == 0
        assert other("map", "math:sqrt", "-i", "-", "--workers", "1", stdin="9\n").stdout == "3.0\n"
        cleared = other("gc", "--older-than", "0s")
        assert cleared.returncode == 0, cleared.stderr
        told = json.loads(other("runs", "--json").stdout)
        (run,) = [each["id"] for each in told if each.get("label") == "one-s"]
        assert one("cancel", run).returncode == 0
        assert going.wait(120) != 0
    finally:
        going.kill()
        going.wait()


def kept_warm(aws: Aws, user: Shell) -> None:
    """A fleet whose key nobody knows any more, as where who revoked it was stopped: its worker is there still."""
    asked = ("map", "math:sqrt", "-i", "-", "--workers", "1", "--keep-warm", "600")
    assert user(*asked, stdin="4\n").stdout == "2.0\n"
    secret = {"Name": "/starburst/main/signing-key", "Value": secret_of([b"new" * 11])}
    aws.boto("ssm").put_parameter(**secret, Type="SecureString", Overwrite=True)
    assert [task["desired_status"] for task in aws.tasks() if task["last_status"] == "RUNNING"] == ["RUNNING"]
    assert "nobody: its key is no longer valid" in user("fleets").stdout


def test_two_sites_do_not_touch_each_other(account: Aws) -> None:
    """Though one's name begins as the other's does; a queue that looks like the first's stays with the second.

    One's key is changed, and the other's stays.
    """
    first, second = made("a"), made("a-b")
    key, ssm = second.signing_secret.partition(":parameter")[2], account.boto("ssm")
    before = ssm.get_parameter(Name=key)["Parameter"]["Version"]
    assert change_key(first, revoke=True, tell=quiet) == 0
    assert ssm.get_parameter(Name=key)["Parameter"]["Version"] == before
    queue = account.boto("sqs").create_queue(QueueName="starburst-a-b-q", tags={"starburst:site": "a-b"})["QueueUrl"]
    assert first.bucket != second.bucket and first.task_role != second.task_role
    gone("a")
    assert queue in things(account)["queues"]
    assert {second.bucket} <= things(account)["buckets"] and "starburst-a" not in things(account)["clusters"]
    assert next(part.kind for part in inventoried(account_of("a-b"), second.bucket)) == "capacity provider"
    gone("a-b")


def test_a_cluster_that_others_use_stays_until_they_have_ended(account: Aws, tmp_path: Path) -> None:
    """With what it needs and what says that it is to go; whose tasks are there is told first. Then nothing is left."""
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    image = ("--image", account.site["image"])
    assert shell("setup", "--yes", "--no-try", *image).returncode == 0
    asked = ("setup", "--site", "w2", "--cluster", "starburst-main", *image, "--yes", "--no-try")
    assert shell(*asked).returncode == 0
    w2 = settings(backend="aws", env={**os.environ, "STARBURST_SITE": "w2"}).site
    assert w2 is not None
    account.grant(w2.table(), setup=True)
    run = Cluster(backend=aws_backend(w2).paced(**AWS_PACE), workers=1, progress=False).start(time.sleep, [600])
    account.until(lambda: any(task["last_status"] == "RUNNING" for task in account.tasks()))
    shown = shell("teardown", "--with-data", "--dry-run", "--json")
    told = json.loads(shown.stdout)
    assert told["others"] == ["1 task of site w2"] and "which has 1 task of site w2: it stays" in shown.stderr
    stay = {part["kind"] for part in told["parts"] if not part["goes"]}
    assert {"cluster", "capacity provider", "bucket", "signing key"} <= stay and "repository" not in stay
    done = shell("teardown", "--with-data", "--yes")
    assert done.returncode == 0 and "the same command takes it once they end" in done.stderr, done.stderr
    assert "starburst-main" in things(account)["clusters"] and "starburst-main" not in things(account)["repositories"]
    (task,) = [task["arn"] for task in account.tasks() if task["last_status"] == "RUNNING"]
    account.set(provisioning_max=0)  # it starts no other
    account.boto("ecs").stop_task(cluster="starburst-main", task=task)
    account.until(lambda: not any(task["last_status"] != "STOPPED" for task in account.tasks()))
    gone = shell("teardown", "--with-data", "--yes", "--json")
    assert json.loads(gone.stdout) == {"left": []}, gone.stderr
    with pytest.raises(RunStopped, match="the site names a cluster that is not there: make it, or correct"):
        run.results()
    assert shell("teardown", "--site", "w2", "--with-data", "--yes").returncode == 0


def test_with_a_key_of_the_user_s_the_printed_policy_suffices(account: Aws, tmp_path: Path) -> None:
    """The one that is printed with the key: for setup, a change of the signing key, and teardown; no other is granted.

    Whoever has the one without the key is told what lacks, and where to read it.
    """
    key = account.boto("kms").create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["Arn"]
    shell = Shell(tmp_path, env={**account.env, "STARBURST_CONFIG": str(tmp_path / "config.toml")})
    setup, asked = account.as_user("setup"), ("--kms-key", key, "--image", account.site["image"], "--yes", "--no-try")
    refused = shell("setup", "--site", "keyed", *asked, **setup)
    assert (
        refused.returncode == 5
        and f"resource: {key} because" in refused.stderr
        and "with --kms-key for a key" in refused.stderr
    )
    printed = shell("iam-policy", "setup", "--kms-key", key)
    assert shell("iam-policy", "prices", "--kms-key", key).returncode == 2
    of = {"UserName": "setup", "PolicyName": "keyed"}
    account.boto("iam").put_user_policy(**of, PolicyDocument=printed.stdout)
    done = shell("setup", "--site", "keyed", *asked, **setup)
    assert done.returncode == 0, done.stderr
    site = settings(backend="aws", env={**os.environ, "STARBURST_SITE": "keyed"}).site
    assert site is not None and site.kms_key == key
    account.grant(site.table())
    assert "2.0" in shell("map", "math:sqrt", "-i", "-", "--workers", "1", stdin="4\n", STARBURST_SITE="keyed").stdout
    task, worker = (shell("iam-policy", whose, STARBURST_SITE="keyed").stdout for whose in ("task", "worker"))
    assert task == worker and key in task
    changed = shell("rotate-key", STARBURST_SITE="keyed", **setup)
    assert changed.returncode == 0, changed.stderr
    taken = shell("teardown", "--site", "keyed", "--with-data", "--yes", **setup)
    account.boto("iam").delete_user_policy(**of)
    assert taken.returncode == 0 and "not cancelled" not in taken.stderr, taken.stderr


@pytest.mark.rest
def test_more_goes_than_aws_takes_at_once(account: Aws) -> None:
    """Of task definitions ECS lets 20 go at once and deletes 5, then one a second: teardown waits, and ends."""
    made()
    account.set(throttling=False)
    for number in range(40):
        container = {"name": "worker", "image": "i", "memory": 128, "essential": True}
        family = f"starburst-main-{number:012x}"
        account.boto("ecs").register_task_definition(family=family, containerDefinitions=[container])
    account.set(throttling=True)
    account.requests(reset=True)
    gone()
    assert account.requests()["ecs", "DeleteTaskDefinitions"] > 40


def test_a_bucket_of_that_name_that_holds_something_is_somebodys(account: Aws) -> None:
    """Without the site's mark it is neither taken over nor away; an empty one was made by who was stopped then."""
    s3, name = account.boto("s3"), f"starburst-main-{account.site['execution_role'].split(':')[4]}-us-east-1-an"
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="x", Body=b"theirs")
    with pytest.raises(BadInput):
        made()
    assert s3.get_object(Bucket=name, Key="x")["Body"].read() == b"theirs"
    s3.delete_object(Bucket=name, Key="x")
    assert made().bucket == name
    gone()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AWS_PROFILE": "nope"}, "(nope) could not be found: run `aws configure`, set AWS_PROFILE, or"),
        ({"AWS_CONFIG_FILE": "broken"}, "broken: mend that file, or name another in AWS_CONFIG_FILE"),
    ],
)
def test_settings_of_aws_that_are_wrong_are_told(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    """Before anybody is asked for anything."""
    shell = shell_in(tmp_path)
    (shell.folder / "broken").write_text("[default")
    done = shell("setup", "--dry-run", **settings)
    assert done.returncode == 5 and said in done.stderr, done.stderr


def test_what_was_asked_before_is_asked_still(account: Aws, tmp_path: Path) -> None:
    """By whoever set the site up, from wherever: it is said first, and goes only where somebody says so."""
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    asked = ("--tag", "team=x", "--monthly-budget", "team=x: 5", "--no-ec2", "--log-days", "7")
    assert shell("setup", *asked, "--yes", "--no-try").returncode == 0
    elsewhere = {"STARBURST_CONFIG": str(tmp_path / "elsewhere" / "config.toml")}
    again = shell("setup", "--dry-run", "--json", "--log-days", "30", "--forget", "tag", **elsewhere)
    assert again.stderr.splitlines()[2:6] == [
        "  --monthly-budget 'team=x: 5': as asked before",
        "  --no-ec2: as asked before",
        "  --log-days 30: in place of --log-days 7",
        "  --tag team=x: no more",
    ]
    told = json.loads(again.stdout)
    assert told["asked"] == {"log_days": 30, "monthly_budget": ["team=x: 5"], "ec2": False}
    cluster = next(part for part in told["parts"] if part["kind"] == "cluster")
    assert cluster["there"] and cluster["mended"] == ["tags team, which are no more"]
    assert not (tmp_path / "elsewhere").exists()
    assert shell("setup", "--forget", "tag", "--yes", "--no-try", **elsewhere).returncode == 0
    written = (tmp_path / "elsewhere" / "sites" / "main.toml").read_text()
    assert "team=x: 5" in written and "tags" not in written and "log_days = 7" in written
    here = json.loads(shell("setup", "--dry-run", "--json").stdout)
    assert here["asked"] == {"log_days": 7, "monthly_budget": ["team=x: 5"], "ec2": False}
    assert shell("teardown", "--with-data", "--yes").returncode == 0


@pytest.mark.parametrize(
    ("before", "given", "forget", "wanted"),
    [
        ({"image": "i:1", "log_days": 7}, {"log_days": 14}, [], {"image": "i:1"}),
        ({"max_hourly_cost": 2.0}, {"max_hourly_cost": 0.0}, [], {}),
        ({"image": "i:1", "ec2": False}, {}, ["--image", "no-ec2"], {}),
        ({"network": "made"}, {"subnets": ("subnet-1",)}, [], {"subnets": ("subnet-1",)}),
        ({"subnets": ["subnet-1"], "private": True}, {"network": "default"}, [], {}),
        ({"image": 5, "nonsense": "x", "tags": "a=b", "name": "other"}, {}, [], {}),
    ],
)
def test_what_is_wanted_of_what_was_asked(
    before: dict[str, Any], given: dict[str, Any], forget: list[str], wanted: dict[str, Any]
) -> None:
    """What is named now counts, else what was before; another network has nothing of the one before."""
    assert what_is_asked(AskedSite.of("main", REGION, given, before, forget).wanted) == wanted


@pytest.mark.parametrize(
    ("before", "given", "forget", "said"),
    [
        ({}, {}, ["imag"], "--forget 'imag': did you mean image"),
        ({}, {"image": "i:1"}, ["image"], "--forget image and --image: give either"),
        ({"gpu_types": ["g6.*"]}, {"cluster": "c"}, [], r"of before there is --gpu-type 'g6\.\*': --forget OPTION"),
    ],
)
def test_what_goes_not_together_with_what_was_asked(
    before: dict[str, Any], given: dict[str, Any], forget: list[str], said: str
) -> None:
    """It is refused, with what of before has to go."""
    with pytest.raises(BadInput, match=said):
        AskedSite.of("main", REGION, given, before, forget)


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_written(account: Aws, tmp_path: Path) -> None:
    """Each name that is not there, or is of another kind, with what to do; then nothing is asked, made or kept."""
    before = things(account)
    role, key = f"arn:aws:iam::{ACCOUNT}:role/", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/nope"
    elsewhere, here = account.boto("ec2").describe_subnets()["Subnets"][0]["SubnetId"], account.site["subnets"][0]
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    given = {
        "--bucket": "nope-nope",
        "--subnet": "subnet-0123",
        "--security-group": "sg-0123",
        "--execution-role": f"{role}nope",
        "--task-role": account.build_role,
        "--build-role": "arn:aws:iam::999999999999:role/theirs",
        "--boundary": f"arn:aws:iam::{ACCOUNT}:policy/nope",
        "--kms-key": key,
        "--image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/nope:1",
        "--gpu-type": "p5.*",
        "--instance-type": "t3.*",
    }
    asked = [word for option, value in given.items() for word in (option, value)]
    done = shell("setup", *asked, "--arm", "--subnet", elsewhere, "--subnet", here, "--yes", "--no-try")
    wrong = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and [line.split(":")[1].split()[0] for line in wrong].count("--subnet") == 2
    assert {line.split()[1].rstrip(":") for line in wrong} == {*given}, wrong
    assert f"--task-role {account.build_role}: it does not trust ecs-tasks.amazonaws.com" in done.stderr
    assert "--build-role arn:aws:iam::999999999999:role/theirs: of another account than" in done.stderr
    assert "--gpu-type p5.*: no type in us-east-1 that is called so is of arm64 with NVIDIA GPUs" in done.stderr
    assert things(account) == before and not (tmp_path / "sites").exists()
    assert shell("setup", "--cluster", "nope", "--dry-run").returncode == 2


def test_a_role_that_may_not_what_workers_must_is_refused_before_anything_is_made(account: Aws) -> None:
    """Where IAM may be asked; else that is told."""
    iam, (name, role) = account.boto("iam"), theirs(account)
    wanted, before = WantedSite.of(name="main", region=REGION, task_role=role), things(account)
    (said,) = planned(account_of(), wanted).wrong
    assert said.startswith(
        f"--task-role {role}: it may not s3:AbortMultipartUpload, s3:GetObject, s3:ListBucket, s3:Put"
    )
    printed = f"starburst iam-policy task --site main --region {REGION}"
    assert said.endswith(f"allow it what `{printed}` prints") and things(account) == before
    site = wanted.site(ACCOUNT, ("subnet-1",), ())
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(POLICIES["task"](site)))
    assert planned(account_of(), wanted)[1:3] == ([], [])
    forbid(account, "iam:SimulatePrincipalPolicy")
    account.until(lambda: planned(account_of(), wanted).unsure)
    plan = planned(account_of(), wanted)
    account.boto("iam").delete_user_policy(UserName="setup", PolicyName="forbidden")
    assert not plan.wrong and "iam:SimulatePrincipalPolicy" in plan.unsure[0]
    iam.delete_role_policy(RoleName=name, PolicyName="p")
    iam.delete_role(RoleName=name)


@pytest.mark.rest
def test_a_role_that_may_not_what_workers_must_is_found_by_the_map_that_setup_tries(
    account: Aws, tmp_path: Path
) -> None:
    """Where IAM may not be asked: it ends after three workers with what lacks, in a sentence."""
    iam, (name, role) = account.boto("iam"), theirs(account)
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    allow(account, "iam:PassRole", role, user="setup")
    forbid(account, "iam:SimulatePrincipalPolicy")
    tried = shell("setup", "--task-role", role, "--image", account.site["image"], "--yes")
    iam.delete_user_policy(UserName="setup", PolicyName="forbidden")
    assert tried.returncode == 4 and "Traceback" not in tried.stderr, tried.stderr
    (line,) = [each for each in tried.stderr.splitlines() if each.startswith("error: ")]
    assert "3 workers could not work, nor could others: the task role may not do sqs:ReceiveMessage on arn:" in line
    assert line.count(": allow it what `starburst iam-policy task` prints") == 1
    gone()
    iam.delete_role(RoleName=name)


def theirs(aws: Aws) -> tuple[str, str]:
    """A role of the user's that ECS may take, and that may do nothing: its name, and its ARN."""
    trusted = json.dumps(trust("task", ACCOUNT, "aws", REGION))
    role = aws.boto("iam").create_role(RoleName="user-s-task", AssumeRolePolicyDocument=trusted)["Role"]
    return role["RoleName"], role["Arn"]


def test_two_sites_have_two_buckets(account: Aws, tmp_path: Path) -> None:
    """Keys do not say whose they are: the second is refused, by the command's dry run too, and makes nothing."""
    bucket = account.site["bucket"]
    made("a", bucket=bucket)
    before = things(account)
    said = rf"--bucket {bucket}: site a has its runs there, .*: give another --bucket, or leave it out"
    with pytest.raises(BadInput, match=said):
        made("b", bucket=bucket)
    assert things(account) == before
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    shown = shell("setup", "--site", "b", "--bucket", bucket, "--dry-run")
    assert (shown.returncode, f"--bucket {bucket}: site a has its runs there" in shown.stderr) == (2, True)
    assert made("a", bucket=bucket).bucket == bucket
    tear_down(account_of("a"), bucket, "starburst-a", with_data=True, tell=quiet)
    made("b", bucket=bucket)  # it is free again
    tear_down(account_of("b"), bucket, "starburst-b", with_data=True, tell=quiet)


def test_what_is_given_is_used_and_stays(account: Aws) -> None:
    """A private network, roles, a bucket and a cluster of the user's: teardown takes what setup made, and not those."""
    bed = account.site
    with private_network(account) as network:
        given = {
            "bucket": bed["bucket"],
            "cluster": bed["cluster"],
            "subnets": tuple(network.subnets),
            "image": bed["image"],
        }
        roles = {f"{kind}_role": bed[f"{kind}_role"] for kind in ("execution", "task")}
        site = made(**given, **roles, build_role=account.build_role, private=True, tags=("team=x",))
        assert not site.assign_public_ip and site.subnets == given["subnets"] and site.task_role == bed["task_role"]
        account.grant(site.table(), setup=True)
        with Cluster(backend=aws_backend(site), workers=1, progress=False) as cluster:
            assert cluster.map(abs, [-1]) == [1]
        (group,) = account.boto("ec2").describe_security_groups(GroupIds=[*site.security_groups])["SecurityGroups"]
        assert not group["IpPermissions"]
        wanted = account_of()
        parts = inventoried(wanted, site.bucket)
        assert {part.kind for part in parts} == {"security group", "signing key", "log group", "repository"}
        assert tear_down(wanted, site.bucket, site.cluster, with_data=True, tell=quiet) == []


def test_a_network_of_their_own_without_a_way_out_is_refused_before_anything_is_made(
    account: Aws, tmp_path: Path
) -> None:
    """Once, with what lacks. Where routes lead to other networks, where there may be one, or the caller may not look,
    it is told and not refused. What goes through a NAT gateway is known afterwards.
    """
    with private_network(account, ["s3", "ecr.api", "ecr.dkr", "logs"]) as network:
        before, subnets = things(account), tuple(network.subnets)
        wanted = WantedSite.of(name="main", region=REGION, subnets=subnets, private=True)
        (said,) = planned(account_of(), wanted).wrong
        assert said.startswith(f"--subnet: {', '.join(sorted(subnets))} do not lead to Systems Manager and SQS: give ")
        assert "endpoint com.amazonaws.us-east-1.ssm and an interface endpoint com.amazonaws.us-east-1.sqs" in said
        (public,) = planned(account_of(), WantedSite.of(name="main", region=REGION, subnets=subnets)).wrong
        assert "a route to an internet gateway" in public and "assign_public_ip" not in public
        shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
        for asked in (["--dry-run"], ["--yes"]):
            done = shell("setup", "--private", *(word for each in subnets for word in ("--subnet", each)), *asked)
            assert (done.returncode, done.stderr.count("do not lead")) == (2, 1), done.stderr
        assert things(account) == before
        ec2 = account.boto("ec2")
        peer = ec2.create_vpc_peering_connection(VpcId=network.vpc, PeerVpcId=network.vpc)["VpcPeeringConnection"]
        beyond = {"RouteTableId": network.table, "DestinationCidrBlock": "10.9.0.0/16"}
        ec2.create_route(**beyond, VpcPeeringConnectionId=peer["VpcPeeringConnectionId"])
        plan = planned(account_of(), wanted)
        behind = "what answers there EC2 does not tell: `starburst doctor --from-worker` shows"
        assert not plan.wrong and "other networks" in plan.unsure[0] and behind in plan.unsure[0]
        looked = site_parts(wanted.site(ACCOUNT, wanted.subnets, ()))
        (way,) = [part for part in looked if part.part == "network"]
        assert way.fine is None and behind in way.told and "do not lead to" in way.told
        ec2.delete_route(**beyond)
        nat = ec2.create_nat_gateway(SubnetId=subnets[0], ConnectivityType="private")["NatGateway"]
        out = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": nat["NatGatewayId"]}
        ec2.create_route(RouteTableId=network.table, **out)
        assert set_up(account_of(), wanted, quiet).nat_gateway == "but-s3"  # S3 has an endpoint
        ec2.delete_route(RouteTableId=network.table, DestinationCidrBlock="0.0.0.0/0")
        ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])
        forbid(account, "ec2:DescribeRouteTables")
        try:
            plan = planned(account_of(), wanted)
            assert not plan.wrong and "ec2:DescribeRouteTables" in plan.unsure[0]
            set_up(account_of(), wanted, quiet)
        finally:
            account.boto("iam").delete_user_policy(UserName="setup", PolicyName="forbidden")
        gone()


def forbid(aws: Aws, action: str) -> None:
    """To who sets up."""
    statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.boto("iam").put_user_policy(UserName="setup", PolicyName="forbidden", PolicyDocument=document)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"name": "Main"}, "--site 'Main': give up to 20 lower-case letters"),
        ({"region": "mars"}, "--region 'mars': give an AWS region"),
        ({"network": "own"}, "--network 'own': give one of default, made"),
        ({"private": True}, "--private: name the private subnets with --subnet"),
        ({"subnets": ("subnet-1",), "network": "made"}, "--network made and --subnet: give either"),
        ({"task_role": "me"}, "--task-role 'me': give the ARN of a role"),
        ({"tags": ("aws:x=1",)}, "--tag .*: names that begin with aws: or starburst: are taken"),
        ({"tags": ("x",)}, "--tag .*: give KEY=VALUE"),
        ({"log_days": 10}, "--log-days 10: CloudWatch takes 1, 3, 5, 7, 14, 30"),
        ({"image": 1}, "--image 1: give a text"),
        ({"name": "a-"}, "--site 'a-': give up to 20 lower-case letters and digits"),
        ({"name": "a--b"}, "--site 'a--b': "),
        ({"name": "a" * 21}, "--site 'a+': "),
        ({"cluster": "arn:aws:ecs:x"}, "--cluster 'arn:aws:ecs:x': give the name of an ECS cluster"),
        ({"image": "Repo:1"}, "--image 'Repo:1': give an image such as"),
        ({"kms_key": "arn:aws:kms:us-east-1:123456789012:alias/a"}, "--kms-key .*: give the ARN of a key, and not"),
        ({"boundary": "me"}, "--boundary 'me': give the ARN of a policy"),
        ({"gpu_types": ("p5 *",)}, "--gpu-type .*: give names of types"),
        ({"tags": ("a=1", "a=2")}, "--tag .*: a thing has one tag of a name: leave one of the two out"),
        ({"tags": ("a=1", "A=1")}, "--tag 'a=1', 'A=1': roles have no two tags whose names differ by case alone"),
        ({"monthly_budget": ("foo",)}, "--monthly-budget 'foo': give TAG=VALUE: USD"),
        (dict.fromkeys(("execution_role", "task_role"), f"arn:aws:iam::{ACCOUNT}:role/r"), "-role: give two, for "),
        ({"name": "B", "log_days": 2}, "--site 'B': .*; --log-days 2: "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(asked: dict[str, Any], said: str) -> None:
    """Each in a line that says what would be right."""
    with pytest.raises(BadInput, match=said):
        WantedSite.of(**{"name": "main", "region": REGION, **asked})


def test_a_region_is_asked_for_at_a_terminal(account: Aws, tmp_path: Path) -> None:
    """Where none is set, until one is typed that there is; one that is set wrongly, or nobody to ask, is an error."""
    nowhere = {"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": "none"}
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path), **nowhere})
    assert shell("setup", "--dry-run").stderr.startswith("error: no region: give --region, such as us-east-1")
    wrong = shell("setup", "--dry-run", AWS_REGION="cn-nort-1")
    assert (wrong.returncode, "did you mean cn-north-1" in wrong.stderr) == (2, True)
    code, shown = at_a_terminal(shell, "setup", "--dry-run", typed="us-east-9\nus-east-1\n")
    assert code == 0 and shown.count("In which AWS region? [us-east-1]: ") == 2
    assert "'us-east-9' is no region with Amazon ECS that boto3 knows: did you mean us-east-" in shown
    assert "Site main in us-east-1, account 123456789012" in shown
    assert {"us-east-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1"} <= {*known_regions()}


def test_of_a_new_site_what_was_not_said_is_asked_for_at_a_terminal(account: Aws, tmp_path: Path) -> None:
    """Its name, its network where there is none, what it may cost: until that can be; then it is told as options."""
    ec2 = account.boto("ec2", region_name="eu-west-1")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    typed = "A b\n\nsubnet-1\n\n0\n50\nn\n"
    code, shown = at_a_terminal(shell, "setup", "--region", "eu-west-1", "--try", "--tag", "team=a b", typed=typed)
    assert code == 0 and not (tmp_path / "sites").exists()
    asked = "What is the site to be called? [main]: "
    assert shown.startswith(f"{asked}'A b': give up to 20 lower-case letters and digits, with single hyphens")
    assert shown.count(asked) == 2 and "eu-west-1 has no default network. One is made for the site, for free" in shown
    assert "[make one]: The subnet ID 'subnet-1' does not exist: name subnets in eu-west-1 Which subnets" in shown
    assert "in USD? [none]: '0': give an amount such as 50, or none for no limit What may all" in shown
    options = "--site main --region eu-west-1 --network made --monthly-budget '*: 50' --tag 'team=a b' --yes"
    assert f"Without questions: starburst setup {options} Make it? [y/N]:" in shown
    named = ("setup", "--site", "b", "--network", "made", "--monthly-budget", "*: 5")
    assert at_a_terminal(shell, *named, typed="n\n")[1].startswith("Site b in us-east-1, ")


def at_a_terminal(shell: Shell, *words: str, typed: str) -> tuple[int, str]:
    """The exit code, and what is shown, without breaks and what is typed."""
    near, far = os.openpty()
    silent = termios.tcgetattr(far)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(far, termios.TCSANOW, silent)
    asked = subprocess.Popen(
        [*COMMAND, *words], stdin=far, stdout=far, stderr=far, cwd=shell.folder, env=shell.environment()
    )
    os.write(near, typed.encode())
    code = asked.wait(60)
    os.close(far)
    shown = os.read(near, 10_000).decode()
    os.close(near)
    return code, " ".join(shown.split())


def test_what_is_another_s_is_refused_and_left(account: Aws, tmp_path: Path) -> None:
    """A role under the name of ours, without our tag: nothing is made, and nothing taken away."""
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    iam, name = account.boto("iam"), "starburst-main-us-east-1-task"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    before = things(account)
    done = shell("setup", "--yes", "--no-try")
    iam.delete_role(RoleName=name)
    assert done.returncode == 2
    assert f"there is a role {name} that lacks the tag starburst:site=main: give it by --task-role" in done.stderr
    assert {name} == before["roles"] - things(account)["roles"]
    assert {**things(account), "roles": set()} == {**before, "roles": set()}
    refused = shell("setup", "--dry-run", **account.as_user("driver"))
    assert refused.returncode == 5 and "`starburst iam-policy setup` prints what who sets sites up" in refused.stderr
    unknown = shell("setup", "--dry-run", AWS_ACCESS_KEY_ID="AKIAXXXXXXXXXXXXXXXX")
    assert unknown.returncode == 5
    assert unknown.stderr.endswith("invalid: AWS does not take these credentials: renew them, or use others\n")
    assert shell("setup", "--no-try").stderr.splitlines()[-1].startswith("error: nobody can be asked here: say --yes")
    assert shell("teardown", "--yes").returncode == 2


def test_a_new_account_without_a_default_network_is_told_what_to_do(account: Aws) -> None:
    """Another region of the bed's has none once it is taken away; one is made there then."""
    ec2 = account.boto("ec2", region_name="eu-west-1")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    there = AwsAccount.of(AdminClients("eu-west-1"), "far")
    with pytest.raises(BadInput, match="eu-west-1 has no default network: --network made makes one"):
        set_up(there, WantedSite.of(name="far", region="eu-west-1"), quiet)
    tear_down(there, WantedSite(name="far", region="eu-west-1").bucket_name(there.id), "", with_data=True, tell=quiet)


def test_all_that_runs_left_is_taken_and_no_more_is_needed_than_the_policy_says(account: Aws) -> None:
    """A worker, its instance, queues, definitions, a project, an upload; each allowed call is called, and no other."""
    site = made(network="made", image=account.site["image"])
    account.boto("ecs").put_cluster_capacity_providers(
        cluster=site.cluster, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
    )
    spoilt(account, site)
    iam = account.boto("iam")
    bound = iam.create_policy(PolicyName="user-s", PolicyDocument=json.dumps(POLICIES["task"](site)))["Policy"]["Arn"]
    made(network="made", image=account.site["image"], tags=("team=x",), boundary=bound)
    assert untagged(account, site, {"team": "x"}) == []
    made(network="made", image=account.site["image"])
    backend = aws_backend(site)
    run = Cluster(backend=backend, workers=1, progress=False, capacity="ec2").start(time.sleep, [600])
    account.until(lambda: any(task["last_status"] == "RUNNING" for task in account.tasks()))
    run.cancel()  # as the command does first: whoever drives it would start workers anew
    run.wait()
    iam.attach_role_policy(RoleName=site.task_role.rpartition("/")[2], PolicyArn=bound)
    account.boto("s3").create_multipart_upload(Bucket=site.bucket, Key="k")
    account.boto("codebuild").create_project(
        name="starburst-main",
        source={"type": "NO_SOURCE", "buildspec": "{}"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=site.build_role,
    )
    gone()
    key = account.boto("kms").create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["Arn"]
    given = {"boundary": bound, "kms_key": key, "image": account.site["image"], "gpu_types": ("g6.*",)}
    named = WantedSite.of(name="main", region=REGION, bucket=account.site["bucket"], **given)
    assert planned(account_of(), named)[1:3] == ([], [])
    theirs = WantedSite.of(name="main", region=REGION, task_role=account.site["task_role"])
    assert "--task-role" in planned(account_of(), theirs).wrong[0]  # it is for another bucket
    iam.delete_policy(PolicyArn=bound)
    used = {action for kind, action in account.allowed() if kind == "setup"}
    unused = {*actions_of(administrator())} - used
    assert unused - {"ecs:StopTask"} == {"sts:GetCallerIdentity"}  # a worker may have ended by itself; all may ask that

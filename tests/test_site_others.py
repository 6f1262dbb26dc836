"""What others have set on a site's things: doctor and setup tell it; what holds a bucket's objects is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from starburst_common.aws.setup.bucket import SiteBucket
from starburst_common.aws.setup.kept import write_site
from starburst_common.errors import StarburstError
from starburst_common.sites.policies import POLICIES
from starburst_common.sites.wanted import WantedSite
from tests.test_cli import Shell
from tests.test_setup import account as account
from tests.test_setup import account_of, amiss, gone, made, setting_up
from tests.testbed.bed import Bed as Aws
from tests.testbed.conditions import ACCOUNT

ANYBODY = {
    "Version": "2012-10-17",
    "Statement": [{"Sid": "open", "Effect": "Allow", "Principal": "*", "Action": "ecr:*"}],
}


def test_what_others_may_do_to_a_site_or_lose_of_it_is_told_by_doctor_and_setup(account: Aws, tmp_path: Path) -> None:
    """Who may push to the repository, what goes of the bucket and what stays there: nothing of it is touched. That tags
    may be moved is mended. All by the printed policies.
    """
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    site = made()
    write_site(site)
    account.grant(site.table(), setup=True)
    assert {*amiss(shell, account)} == {"as asked of setup"}
    ecr, s3, name = account.boto("ecr"), account.boto("s3"), "starburst-main"
    ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="MUTABLE")
    ecr.set_repository_policy(repositoryName=name, policyText=json.dumps(ANYBODY))
    s3.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    rules = [
        {"ID": "soon", "Status": "Enabled", "Filter": {"Prefix": "runs/"}, "Expiration": {"Days": 3}},
        {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 400}},
        {"ID": "late", "Status": "Enabled", "Filter": {"Prefix": "runs/"}, "Expiration": {"Days": 90}},
        {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}},
    ]
    kept = s3.get_bucket_lifecycle_configuration(Bucket=site.bucket)["Rules"]
    s3.put_bucket_lifecycle_configuration(Bucket=site.bucket, LifecycleConfiguration={"Rules": [*kept, *rules]})
    rows = json.loads(shell("doctor", "--json", **account.as_user("operator")).stdout)
    of_bucket = [row for row in rows if row["part"] == f"bucket {site.bucket}"]
    assert [row["fine"] for row in of_bucket] == [False, False, None]
    assert "rule 'soon' removes what begins with 'runs/' after 3 days" in of_bucket[0]["told"]
    assert "with it runs with their results; runs are kept 7 days" in of_bucket[0]["told"]
    assert (
        "rule 'all' " in of_bucket[1]["told"] and "what runs have cost, what setup and teardown" in of_bucket[1]["told"]
    )
    assert of_bucket[2]["told"].startswith("versioning is on: what starburst removes stays")
    tags, pushed = [row for row in rows if row["part"] == f"repository {name}"]
    assert "not as asked of setup: its tags, which may be moved to other images" in tags["told"]
    assert pushed["fine"] is False and "lets others push to it" in pushed["told"]
    done = shell("setup", "--yes", "--no-try")
    assert done.returncode == 0, done.stderr
    assert f"repository {name}: mended: its tags, which may be moved to other images" in done.stderr
    warned = json.loads(shell("setup", "--dry-run", "--json").stdout)["warnings"]
    assert [*map(str, warned)] == [*(f"{row['part']}: {row['told']}" for row in (*of_bucket, pushed))]
    assert all(text in " ".join(done.stderr.split()) for text in warned)
    assert json.loads(ecr.get_repository_policy(repositoryName=name)["policyText"]) == ANYBODY
    (described,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    assert described["imageTagMutability"] == "IMMUTABLE"
    rule = {"rulePriority": 1, "action": {"type": "expire"}, "selection": {"tagStatus": "any"}}
    rule["selection"] |= {"countType": "imageCountMoreThan", "countNumber": 1}  # type: ignore[index]
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps({"rules": [rule]}))
    assert "its lifecycle policy is not starburst's" in shell("doctor", **account.as_user("operator")).stdout
    gone()


def test_a_key_that_is_none_is_told_with_what_puts_another_there(account: Aws, tmp_path: Path) -> None:
    """By what reads runs, and by setup, which calls nothing ready then. One that is gone is told once."""
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    site = made(ec2=False)
    write_site(site)
    account.grant(site.table(), setup=True)
    ssm, name = account.boto("ssm"), "/starburst/main/signing-key"
    ssm.put_parameter(Name=name, Value="short", Type="SecureString", Overwrite=True)
    said = "has 5 bytes, and a signing key has 32 at least, as text: put back what it was, or have `starburst rotate"
    for command in (("rotate-key",), ("setup", "--yes", "--no-try")):
        done = shell(*command)
        assert done.returncode == 2 and said in " ".join(done.stderr.split()), done.stderr
        assert "is ready" not in done.stderr
    assert shell("rotate-key", "--revoke", "--yes").returncode == 0
    assert shell("runs").returncode == 0
    ssm.delete_parameter(Name=name)
    (gone_key,) = [row for row in json.loads(shell("doctor", "--json").stdout) if row["part"].startswith("signing key")]
    assert "have `starburst setup` make a new one, which reads no earlier run" in gone_key["told"]
    assert "have `starburst setup` make a new one" in shell("rotate-key", "--revoke", "--yes").stderr
    assert shell("setup", "--yes", "--no-try").returncode == 0
    assert shell("runs").returncode == 0
    gone()


def test_policies_are_printed_before_there_is_a_site(account: Aws, tmp_path: Path) -> None:
    """As it will be called, in the account of these credentials or of a given one; with what it is to have."""
    shell = Shell(tmp_path, env={**account.env, **setting_up(account, tmp_path)})
    site = WantedSite(name="new", region="us-east-1").site(ACCOUNT, ("subnet-0",), ())
    for whose in ("task", "driver"):
        assert json.loads(shell("iam-policy", whose, "--site", "new", "--json").stdout) == POLICIES[whose](site)
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    asked = ("iam-policy", "task", "--site", "new", "--region", "eu-west-1", "--account")
    elsewhere = WantedSite(name="new", region="eu-west-1", bucket="mine").site("210987654321", ("subnet-0",), ())
    printed = shell(*asked, "210987654321", "--bucket", "mine", **nobody)
    assert json.loads(printed.stdout) == POLICIES["task"](elsewhere)
    refused = shell(*asked, "2109", **nobody)
    assert refused.returncode == 2 and "give the twelve digits of an AWS account" in refused.stderr


def test_a_bucket_with_more_versions_than_go_at_once_is_emptied(account: Aws) -> None:
    """Markers of removed objects, too."""
    site, s3 = made(ec2=False), account.boto("s3")
    versioned(s3, site.bucket, 420)
    gone()


def versioned(s3: Any, bucket: str, keys: int) -> None:
    """So many objects, each with two versions and a marker."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(keys):
        for body in (b"a", b"b"):
            s3.put_object(Bucket=bucket, Key=f"runs/{number:05}", Body=body)
    named = [{"Key": f"runs/{number:05}"} for number in range(keys)]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})


def test_what_holds_a_bucket_s_objects_is_told(account: Aws) -> None:
    """By the first that S3 does not let go, and how many there are."""
    name, s3 = "starburst-held", account.boto("s3")
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    put = s3.put_object(Bucket=name, Key="runs/a", Body=b"a")
    version = {"Bucket": name, "Key": "runs/a", "VersionId": put["VersionId"]}
    s3.put_object_legal_hold(**version, LegalHold={"Status": "ON"})
    with pytest.raises(StarburstError, match=r"runs/a: AccessDenied: .*: 1 object stays: see to what holds"):
        SiteBucket(account_of(), name).remove()
    s3.put_object_legal_hold(**version, LegalHold={"Status": "OFF"})
    SiteBucket(account_of(), name).remove()

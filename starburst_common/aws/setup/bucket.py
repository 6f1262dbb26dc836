"""The bucket of a site: encrypted, by TLS only, closed to the public; what killed processes leave goes by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.drift import Drift, holds, mended, of_tags, pairs, plain
from starburst_common.errors import BadInput, StarburstError
from starburst_common.names import BUILDS

_CLOSED = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
#: An upload costs money though nobody sees it; what builds read may hold passwords of package indexes.
_LIFECYCLE: list[dict[str, Any]] = [
    {
        "ID": "starburst: uploads that were not ended",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
    {
        "ID": "starburst: sources of builds",
        "Status": "Enabled",
        "Filter": {"Prefix": BUILDS},
        "Expiration": {"Days": 1},
    },
]
#: What S3 says of a setting that nobody has made. Source: Amazon S3 API reference, "List of error codes"
_UNSET = {
    "NoSuchPublicAccessBlockConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
}
_AT_ONCE = 1000  #: that DeleteObjects takes. Source: Amazon S3 API reference
_NO_REGION = "us-east-1"  #: which CreateBucket takes without being told. Source: Amazon S3 API reference


class SiteBucket:
    """The bucket of a site, by its name."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._s3 = account, name, account.clients.s3
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is. Raises `BadInput` where another account has that name."""
        with speaking(f"s3:HeadBucket {self.name}"):
            try:
                self._s3.head_bucket(Bucket=self.name, ExpectedBucketOwner=self._account.id)
            except ClientError as error:
                if error_code(error) in ("403", "AccessDenied"):
                    raise BadInput(
                        f"the bucket {self.name} may not be looked at: it is another account's, or these credentials "
                        "lack s3:ListBucket there"
                    ) from error
                if error_code(error) in ("404", "NoSuchBucket"):
                    return False
                raise
        return True

    def ours(self) -> bool:
        """Whether it is marked as this site's; an empty one without any mark is, by its name: it was just made."""
        with speaking(f"s3:GetBucketTagging {self.name}"):
            try:
                return self._account.is_ours(self._s3.get_bucket_tagging(Bucket=self.name)["TagSet"])
            except ClientError as error:
                if error_code(error) == "NoSuchTagSet":
                    named = self.name.startswith(f"starburst-{self._account.site}-{self._account.id}-")
                    return named and not self._s3.list_objects_v2(Bucket=self.name, MaxKeys=1).get("KeyCount")
                if error_code(error) == "NoSuchBucket":
                    return False
                raise

    def make(self, *, own_names: bool, kms_key: str) -> None:
        """Have it, as it is to be."""
        if self.there():
            self.mended = mended(self.drifts(kms_key))
        else:
            self._create(own_names=own_names)
            mended(self.drifts(kms_key))

    def drifts(self, kms_key: str) -> Iterator[Drift]:
        """What of its tags and settings is not as it is to be. Tags are put all at once; others' rules stay."""
        with speaking(f"s3:GetBucket… {self.name}"):
            found = self._tags()
            marks, once = {**self._account.marks}, {*self._account.tags_once}
            wanted = {**{name: value for name, value in found.items() if name not in once}, **marks}
            yield from of_tags(self._account, found, lambda _: self._tag(wanted), lambda _: self._tag(wanted))
            if not holds(self._setting("public_access_block", "PublicAccessBlockConfiguration"), _CLOSED):
                yield Drift("how it is closed to the public", self._close)
            encryption = {"Rules": [_encryption(kms_key)]}
            if not holds(self._setting("bucket_encryption", "ServerSideEncryptionConfiguration"), encryption):
                yield Drift("how it encrypts", lambda: self._encrypt(encryption))
            if json.loads(self._setting("bucket_policy", "Policy") or "{}") != self._by_tls_only():
                yield Drift("its policy, by which it takes TLS only", self._take_tls_only)
            rules = self.lifecycle()
            if not all(any(holds(rule, ours) for rule in rules) for ours in _LIFECYCLE):
                theirs = [rule for rule in rules if not is_ours(rule)]
                yield Drift("what goes from it by itself", lambda: self._have_go([*theirs, *_LIFECYCLE]))

    def lifecycle(self) -> list[Any]:
        """The rules by which objects go by themselves, others' too."""
        with speaking(f"s3:GetLifecycleConfiguration {self.name}"):
            return self._setting("bucket_lifecycle_configuration", "Rules") or []

    def versioned(self) -> bool:
        """Whether what is removed stays, as an old version."""
        with speaking(f"s3:GetBucketVersioning {self.name}"):
            return self._s3.get_bucket_versioning(Bucket=self.name).get("Status") == "Enabled"

    def _setting(self, of: str, answer: str) -> Any:
        """One of its settings; None where nobody has made one."""
        try:
            return getattr(self._s3, f"get_{of}")(Bucket=self.name)[answer]
        except ClientError as error:
            if error_code(error) in _UNSET:
                return None
            raise

    def _tag(self, tags: Mapping[str, str]) -> None:
        with speaking(f"s3:PutBucketTagging {self.name}"):
            self._s3.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": pairs(tags)})

    def _close(self) -> None:
        with speaking(f"s3:PutBucketPublicAccessBlock {self.name}"):
            self._s3.put_public_access_block(Bucket=self.name, PublicAccessBlockConfiguration=_CLOSED)  # type: ignore[arg-type]

    def _encrypt(self, how: Any) -> None:
        with speaking(f"s3:PutEncryptionConfiguration {self.name}"):
            self._s3.put_bucket_encryption(Bucket=self.name, ServerSideEncryptionConfiguration=how)

    def _take_tls_only(self) -> None:
        with speaking(f"s3:PutBucketPolicy {self.name}"):
            self._s3.put_bucket_policy(Bucket=self.name, Policy=json.dumps(self._by_tls_only()))

    def _have_go(self, rules: Any) -> None:
        with speaking(f"s3:PutLifecycleConfiguration {self.name}"):
            self._s3.put_bucket_lifecycle_configuration(Bucket=self.name, LifecycleConfiguration={"Rules": rules})

    def _tags(self) -> dict[str, str]:
        try:
            return plain(self._s3.get_bucket_tagging(Bucket=self.name)["TagSet"])
        except ClientError as error:
            if error_code(error) == "NoSuchTagSet":
                return {}
            raise

    def _create(self, *, own_names: bool) -> None:
        asked: dict[str, Any] = {"Bucket": self.name, "ObjectOwnership": "BucketOwnerEnforced"}
        if own_names:
            asked["BucketNamespace"] = "account-regional"
        if self._account.region != _NO_REGION:
            asked["CreateBucketConfiguration"] = {"LocationConstraint": self._account.region}
        with speaking(f"s3:CreateBucket {self.name}"):
            try:
                self._s3.create_bucket(**asked)
            except ClientError as error:
                if error_code(error) == "BucketAlreadyOwnedByYou":  # by who sets up at the same time
                    return
                if error_code(error) == "BucketAlreadyExists":
                    raise BadInput(f"the bucket {self.name} is somebody else's: give another --bucket") from error
                raise

    def remove(self) -> None:
        """With all that lies in it."""
        with speaking(f"s3:DeleteBucket {self.name}"):
            while found := self._versions():
                answer = self._s3.delete_objects(Bucket=self.name, Delete={"Objects": found, "Quiet": True})
                if len(refused := answer.get("Errors", [])) == len(found):
                    raise StarburstError(_stay(self.name, refused))
            for uploads in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.name):
                for each in uploads.get("Uploads", []):
                    self._s3.abort_multipart_upload(Bucket=self.name, Key=each["Key"], UploadId=each["UploadId"])
            self._s3.delete_bucket(Bucket=self.name)

    def _versions(self) -> list[Any]:
        """As many as go at once: a listing that goes on while they go may miss some."""
        page = self._s3.list_object_versions(Bucket=self.name, MaxKeys=_AT_ONCE)
        found: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        return [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found[:_AT_ONCE]]

    def _by_tls_only(self) -> dict[str, Any]:
        arn = f"arn:{self._account.partition}:s3:::{self.name}"
        statement = {
            "Sid": "starburst",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        return {"Version": "2012-10-17", "Statement": [statement]}


def is_ours(rule: Mapping[str, Any]) -> bool:
    """Whether setup has made a rule of a bucket's lifecycle."""
    return rule.get("ID") in {ours["ID"] for ours in _LIFECYCLE}


def _stay(bucket: str, refused: Sequence[Mapping[str, Any]]) -> str:
    """What S3 says of objects that it does not remove."""
    first, many = refused[0], f"{len(refused):,} object{'s' * (len(refused) != 1)} stay{'s' * (len(refused) == 1)}"
    why = f"{first.get('Code')}: {first.get('Message')}"
    return (
        f"s3:DeleteObject {bucket}/{first.get('Key')}: {why}: {many}: see to what holds them, such as a legal hold, "
        "and call it again"
    )


def _encryption(kms_key: str) -> Any:
    if not kms_key:
        return {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    by = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key}
    return {"ApplyServerSideEncryptionByDefault": by, "BucketKeyEnabled": True}

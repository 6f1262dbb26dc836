"""The group that a site's workers are in: made, and its rules kept as they are to be."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.drift import Drift, mended, tags_in_ec2
from starburst_common.aws.setup.network import named, when_free
from starburst_common.errors import BadInput

_ALL = "-1"  #: protocols. Source: Amazon EC2 API reference, IpPermission
_ANYWHERE = "0.0.0.0/0"


class SecurityGroup:
    """The group that workers are in: nothing comes in, all goes out."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ec2 = account, name, account.clients.ec2
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is, in any network."""
        return bool(self._found())

    def ours(self) -> bool:
        """It is found by that mark."""
        return self.there()

    def make(self, vpc: str) -> str:
        """Have it in a network, whatever others it was in; its id."""
        here = [each["GroupId"] for each in self._found() if each["VpcId"] == vpc]
        self.mended = mended(self.drifts())
        if here:
            return str(here[0])
        tags = [*self._account.pairs, named(self.name)]
        with speaking("ec2:CreateSecurityGroup"):
            try:
                made = self._ec2.create_security_group(
                    GroupName=self.name,
                    Description="starburst workers: nothing comes in",
                    VpcId=vpc,
                    TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
                )
            except ClientError as error:
                if error_code(error) == "InvalidGroup.Duplicate":
                    raise BadInput(
                        f"the network {vpc} has a security group {self.name} that is not this site's: remove it, or "
                        "give --security-group"
                    ) from error
                raise
        return str(made["GroupId"])

    def drifts(self) -> Iterator[Drift]:
        """What of its rules and tags is not as it is to be, wherever it is."""
        for group in self._found():
            yield from self._rules(group)
            yield from tags_in_ec2(self._account, self._ec2, group["GroupId"], group["Tags"])

    def _rules(self, group: Any) -> Iterator[Drift]:
        id, inward = group["GroupId"], group.get("IpPermissions", [])
        if inward:
            yield Drift(f"what {id} lets in, {', '.join(map(_told, inward))}", lambda: self._close(id, inward))
        outward = (
            each["CidrIp"]
            for rule in group.get("IpPermissionsEgress", [])
            if rule["IpProtocol"] == _ALL
            for each in rule.get("IpRanges", [])
        )
        if _ANYWHERE not in outward:
            yield Drift(f"what {id} lets out", lambda: self._open(id))

    def _close(self, id: str, rules: Any) -> None:
        with speaking("ec2:RevokeSecurityGroupIngress"):
            self._ec2.revoke_security_group_ingress(GroupId=id, IpPermissions=rules)

    def _open(self, id: str) -> None:
        """To all over IPv4, as a group lets out that is made."""
        rule: Any = {"IpProtocol": _ALL, "IpRanges": [{"CidrIp": _ANYWHERE}]}
        with speaking("ec2:AuthorizeSecurityGroupEgress"):
            self._ec2.authorize_security_group_egress(GroupId=id, IpPermissions=[rule])

    def remove(self) -> None:
        """Wherever it is."""
        for each in self._found():
            with speaking("ec2:DeleteSecurityGroup"):
                when_free(partial(self._ec2.delete_security_group, GroupId=each["GroupId"]))

    def _found(self) -> list[Any]:
        marked = [
            {"Name": "tag:starburst:site", "Values": [self._account.site]},
            {"Name": "group-name", "Values": [self.name]},
        ]
        with speaking("ec2:DescribeSecurityGroups"):
            found = self._ec2.describe_security_groups(Filters=marked)["SecurityGroups"]
        return sorted(found, key=lambda each: each["GroupId"])


def _told(rule: Any) -> str:
    ports = "all" if rule["IpProtocol"] == _ALL else f"{rule['IpProtocol']} {rule.get('FromPort')}-{rule.get('ToPort')}"
    ranges = [each["CidrIp"] for each in rule.get("IpRanges", [])]
    ranges += [each["CidrIpv6"] for each in rule.get("Ipv6Ranges", [])]
    ranges += [each["GroupId"] for each in rule.get("UserIdGroupPairs", [])]
    return f"{ports} from {', '.join(ranges) or 'a list of prefixes'}"

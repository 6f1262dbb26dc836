"""Clients and a site in; where its workers' subnets do not lead, and what goes through a NAT gateway, as far as EC2
tells, out.
"""

from __future__ import annotations

from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.ways import Way, gated, lacking, leads_elsewhere, table_of
from starburst_common.model import NATS
from starburst_common.sites.site import Site


class Roads:
    """Out of a site's subnets."""

    def __init__(self, ec2: Any, site: Site) -> None:
        self._site = site
        with speaking("ec2:DescribeSubnets"):
            self._subnets = ec2.describe_subnets(SubnetIds=[*site.subnets])["Subnets"]
            here: Any = [{"Name": "vpc-id", "Values": sorted({each["VpcId"] for each in self._subnets})}]
        with speaking("ec2:DescribeRouteTables"):
            self._tables = [
                each for page in ec2.get_paginator("describe_route_tables").paginate(Filters=here)
                for each in page["RouteTables"]
            ]  # fmt: skip
        with speaking("ec2:DescribeVpcEndpoints"):
            self._ends = [
                each for page in ec2.get_paginator("describe_vpc_endpoints").paginate(Filters=here)
                for each in page["VpcEndpoints"]
            ]  # fmt: skip

    @property
    def lost(self) -> dict[str, list[Way]]:
        """What does not answer, for each of the subnets for which something does not."""
        found = {each["SubnetId"]: lacking(self._site, each, self._tables, self._ends) for each in self._subnets}
        return {subnet: ways for subnet, ways in sorted(found.items()) if ways}

    @property
    def elsewhere(self) -> set[str]:
        """The subnets with routes to other networks, of which EC2 does not tell from here what answers there."""
        tables = {each["SubnetId"]: table_of(each["SubnetId"], self._tables) for each in self._subnets}
        return {subnet for subnet, table in tables.items() if table is not None and leads_elsewhere(table)}

    @property
    def nat(self) -> str:
        """What goes through a NAT gateway: the most that does from any of the subnets."""
        through = {gated(each, self._tables, self._ends) for each in self._subnets}
        return max(through, key=NATS.index)

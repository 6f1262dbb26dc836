"""Clients and a site in; which services its workers' subnets do not lead to, as far as EC2 tells, out."""

from __future__ import annotations

from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.ways import Way, lacking
from starburst_common.sites.site import Site


def lost_ways(ec2: Any, site: Site) -> dict[str, list[Way]]:
    """What does not answer, for each of the subnets for which something does not."""
    with speaking("ec2:DescribeSubnets"):
        subnets = ec2.describe_subnets(SubnetIds=[*site.subnets])["Subnets"]
        here: Any = [{"Name": "vpc-id", "Values": sorted({each["VpcId"] for each in subnets})}]
    with speaking("ec2:DescribeRouteTables"):
        tables = [
            each for page in ec2.get_paginator("describe_route_tables").paginate(Filters=here)
            for each in page["RouteTables"]
        ]  # fmt: skip
    with speaking("ec2:DescribeVpcEndpoints"):
        ends = [
            each for page in ec2.get_paginator("describe_vpc_endpoints").paginate(Filters=here)
            for each in page["VpcEndpoints"]
        ]  # fmt: skip
    found = {each["SubnetId"]: lacking(site, each, tables, ends) for each in subnets}
    return {subnet: ways for subnet, ways in sorted(found.items()) if ways}

"""Cost Explorer: what was put on the bill, as conditions say, a few lines a page.

Sources: AWS Cost Management API reference, GetCostAndUsage, ListCostAllocationTags; AWS Billing User Guide, "Using
user-defined cost allocation tags"; read 2026-11-30.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

from tests.testbed.calls import Call
from tests.testbed.conditions import Conditions
from tests.testbed.refusals import Refused

_PAGE = 3  #: days


class Bill:
    """The account's, by tag."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def call(self, call: Call) -> dict[str, Any]:
        """One request."""
        asked = json.loads(call.body)
        if call.operation == "ListCostAllocationTags":
            status = {True: "Active", False: "Inactive"}[self._conditions.bill_active]
            return {
                "CostAllocationTags": [
                    {"TagKey": tag, "Type": "UserDefined", "Status": status} for tag in asked["TagKeys"]
                ]
            }
        begin, end = (date.fromisoformat(asked["TimePeriod"][name]) for name in ("Start", "End"))
        if begin >= end:
            raise Refused("ValidationException", "Start date (and hour) should be before end date (and hour)")
        tag = asked["Filter"]["Tags"]
        days = [(begin + timedelta(days=at)).isoformat() for at in range((end - begin).days)]
        first = int(asked.get("NextPageToken", "0"))
        page = [self._day(day, tag["Key"], tag["Values"]) for day in days[first : first + _PAGE]]
        more = {"NextPageToken": str(first + _PAGE)} if first + _PAGE < len(days) else {}
        return {"ResultsByTime": page, "GroupDefinitions": asked["GroupBy"], "DimensionValueAttributes": [], **more}

    def _day(self, day: str, key: str, values: list[str]) -> dict[str, Any]:
        """What has no use is not told; nor is anything by a tag that was not activated."""
        lines = self._conditions.bill.get(day, {}) if self._conditions.bill_active else {}
        tags = tuple(f"{key}={value}|" for value in values)
        known = {name.partition("|")[2]: usd for name, usd in lines.items() if name.startswith(tags)}
        until = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
        return {
            "TimePeriod": {"Start": day, "End": until},
            "Total": {},
            "Groups": [
                {"Keys": [service], "Metrics": {"UnblendedCost": {"Amount": usd, "Unit": "USD"}}}
                for service, usd in known.items()
            ],
            "Estimated": True,
        }

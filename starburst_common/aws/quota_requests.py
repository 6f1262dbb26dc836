"""A quota in; what was ever asked about it, or a request for more of it, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.vcpu_quotas import VcpuQuota
from starburst_common.errors import BadInput, StarburstError

#: Not decided yet. Source: Service Quotas API reference, RequestedServiceQuotaChange, read 2026-11-30.
_OPEN = {"PENDING", "CASE_OPENED"}
_GRANTED = {"APPROVED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRequest:
    """One, as AWS keeps it for 90 days."""

    id: str
    quota: str  #: its name, for people
    vcpu: float  #: wanted
    status: str  #: AWS's word
    made_at: float  #: wall clock
    case: str = ""  #: of AWS Support, where somebody there decides

    @property
    def open(self) -> bool:
        """Whether it is still to be decided."""
        return self.status in _OPEN

    @property
    def granted(self) -> bool:
        """Whether the quota was raised."""
        return self.status in _GRANTED


def quota_requests(clients: Clients, quota: VcpuQuota) -> list[QuotaRequest]:
    """What was asked, the newest first. Raises `Denied`, `Unavailable`."""
    with speaking("servicequotas:ListRequestedServiceQuotaChangeHistoryByQuota"):
        pages = clients.quotas.get_paginator("list_requested_service_quota_change_history_by_quota").paginate(
            ServiceCode=quota.service, QuotaCode=quota.code
        )
        found = [_request(quota, each) for page in pages for each in page["RequestedQuotas"]]
    return sorted(found, key=lambda request: request.made_at, reverse=True)


def request_quota(clients: Clients, quota: VcpuQuota, vcpu: float) -> QuotaRequest:
    """Ask for so many vCPU. Raises `BadInput` where AWS takes no such request, `Denied`, `Unavailable`."""
    try:
        with speaking("servicequotas:RequestServiceQuotaIncrease"):
            made = clients.quotas.request_service_quota_increase(
                ServiceCode=quota.service, QuotaCode=quota.code, DesiredValue=float(vcpu)
            )["RequestedQuota"]
            return _request(quota, made)
    except StarburstError as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and error_code(cause) in _REFUSED:
            raise BadInput(f"{quota.name}: {_REFUSED[error_code(cause)]}: {error}") from None
        raise


#: Source: Service Quotas API reference, RequestServiceQuotaIncrease, "Errors", read 2026-11-30.
_REFUSED = {
    "ResourceAlreadyExistsException": "a request is open: `starburst quota watch` waits for it",
    "IllegalArgumentException": "AWS takes no such value",
    "QuotaExceededException": "too many requests are open: wait for one of them",
    "InvalidResourceStateException": "AWS does not take a request for it now",
}


def _request(quota: VcpuQuota, told: Mapping[str, Any]) -> QuotaRequest:
    return QuotaRequest(
        id=told["Id"],
        quota=quota.name,
        vcpu=float(told["DesiredValue"]),
        status=told["Status"],
        made_at=told["Created"].timestamp(),
        case=told.get("CaseId", ""),
    )

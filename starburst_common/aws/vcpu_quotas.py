"""Which quota of an account holds for which capacity, and what it is where nobody can be asked. Pure.

Sources: Amazon ECS Developer Guide, "AWS Fargate service quotas"; Amazon EC2 User Guide, "On-Demand Instance limits"
and "Spot Instance limits"; codes as Service Quotas lists them; read 2026-11-30. New accounts are given less than older
ones, and the values here are those of new ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

AS_OF = "2026-11-30"
FARGATE = "Fargate"


class VcpuQuota(NamedTuple):
    """One, on the vCPU that run at once in a region."""

    service: str  #: its code
    code: str
    family: str  #: Fargate, or of EC2's instances
    spot: bool
    default: float

    @property
    def name(self) -> str:
        """For people.

        >>> quota_of(FARGATE, spot=True).name, quota_of("G and VT", spot=False).name
        ('Fargate Spot vCPU quota', 'EC2 G and VT vCPU quota')
        """
        kind = self.family if self.family == FARGATE else f"EC2 {self.family}"
        return f"{kind}{' Spot' * self.spot} vCPU quota"

    @property
    def capacity(self) -> str:
        """What Amazon ECS calls the capacity that takes of it; what EC2's are called, whoever makes them says.

        >>> quota_of(FARGATE, spot=True).capacity, quota_of("P", spot=True).capacity
        ('FARGATE_SPOT', 'P Spot')
        """
        if self.family == FARGATE:
            return "FARGATE_SPOT" if self.spot else "FARGATE"
        return f"{self.family}{' Spot' * self.spot}"

    @property
    def path(self) -> str:
        """How it is told apart from all others."""
        return f"{self.service}/{self.code}"


_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"
VCPU_QUOTAS = (
    VcpuQuota("fargate", "L-3032A538", FARGATE, False, 6),
    VcpuQuota("fargate", "L-36FBB829", FARGATE, True, 6),
    VcpuQuota("ec2", "L-1216C47A", _STANDARD, False, 5),
    VcpuQuota("ec2", "L-34B43A08", _STANDARD, True, 5),
    VcpuQuota("ec2", "L-DB2E81BA", "G and VT", False, 0),
    VcpuQuota("ec2", "L-3819A6DF", "G and VT", True, 0),
    VcpuQuota("ec2", "L-417A185B", "P", False, 0),
    VcpuQuota("ec2", "L-7212CCBC", "P", True, 0),
    VcpuQuota("ec2", "L-7295265B", "X", False, 0),
    VcpuQuota("ec2", "L-E3A00192", "X", True, 0),
    VcpuQuota("ec2", "L-1945791B", "Inf", False, 0),
    VcpuQuota("ec2", "L-B5D1601B", "Inf", True, 0),
    VcpuQuota("ec2", "L-2C3B7624", "Trn", False, 0),
    VcpuQuota("ec2", "L-6B0D517C", "Trn", True, 0),
    VcpuQuota("ec2", "L-74FC7D96", "F", False, 0),
    VcpuQuota("ec2", "L-88CF9481", "F", True, 0),
    VcpuQuota("ec2", "L-6E869C2A", "DL", False, 0),
    VcpuQuota("ec2", "L-85EED4F7", "DL", True, 0),
    VcpuQuota("ec2", "L-F7808C92", "HPC", False, 0),
    VcpuQuota("ec2", "L-43DA4232", "High Memory", False, 0),
)


def quota_of(family: str, *, spot: bool) -> VcpuQuota:
    """The one that holds for a family. Raises `KeyError` where none is known."""
    for quota in VCPU_QUOTAS:
        if (quota.family, quota.spot) == (family, spot):
            return quota
    raise KeyError(f"{family}{' Spot' * spot}")


def ec2_quotas(families: Iterable[str], *, spot: bool) -> tuple[VcpuQuota, ...]:
    """Those that instances of such families take of, as `Shape` calls them; none where Spot's is not known.

    >>> [quota.name for quota in ec2_quotas(["G and VT", "HPC"], spot=True)]
    ['EC2 G and VT Spot vCPU quota']
    """
    wanted = {_STANDARD if family == "Standard" else family for family in families}
    return tuple(quota for quota in VCPU_QUOTAS if quota.family in wanted and quota.spot == spot)


def fargate_quotas(*, spot: bool) -> tuple[VcpuQuota, ...]:
    """Those of Fargate's that a worker may come under, in the order in which its capacities are tried."""
    return tuple(quota_of(FARGATE, spot=kind) for kind in ((True, False) if spot else (False,)))

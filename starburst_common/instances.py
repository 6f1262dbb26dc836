"""The name of a type of EC2 instances in; what it has, and which of its account's quotas it takes of, out.

The table is the price book's, with its date; a type that was launched since is not known: nothing is guessed by a name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from starburst_common.model import Tariff

#: Of an instance's memory, what its system takes and ECS does not register as free for tasks: at most, as Karpenter
#: takes it (its setting `vmMemoryOverheadPercent`, 0.075, read 2026-11-30). AWS documents no number.
OVERHEAD = 0.075
TYPES, GPU_TYPES = ("c*", "m*", "r*"), ("g*",)  #: of workers' instances, where a site names no others


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an instance of a type has."""

    type: str
    vcpu: int
    memory_mib: int
    arch: str  #: "x86" or "arm"
    gpus: int
    gpu: str  #: its model; one with gpus=0 has a share of one
    gpu_memory_mib: int  #: of each
    burstable: bool  #: its vCPU are less than whole, in the long run
    quota_family: str  #: of EC2's quotas on vCPU

    @property
    def registered_mib(self) -> int:
        """What of its memory tasks can have, about.

        >>> shapes()["c7g.xlarge"].registered_mib
        7577
        """
        return int(self.memory_mib * (1 - OVERHEAD))

    def share(self, vcpu: float, memory_mib: float, gpus: int = 0) -> float:
        """Which part of it a worker keeps from others, by what it takes most of.

        >>> shapes()["c7g.xlarge"].share(1, 1792), round(shapes()["c7g.xlarge"].share(1, 6000), 2)
        (0.25, 0.79)
        """
        of_gpus = gpus / self.gpus if self.gpus else 0.0
        return min(max(vcpu / self.vcpu, memory_mib / self.registered_mib, of_gpus), 1.0)

    def fits(self, vcpu: float, memory_mib: float, gpus: int = 0) -> bool:
        """Whether it has room for such workers, all together."""
        return vcpu <= self.vcpu and memory_mib <= self.registered_mib and gpus <= self.gpus

    def holds(self, vcpu: float, memory_mib: float, gpus: int = 0) -> int:
        """How many such workers it has room for.

        >>> shapes()["m7g.4xlarge"].holds(4, 14336), shapes()["g5.12xlarge"].holds(4, 14336, 1)
        (4, 4)
        """
        bounds = [math.floor(self.vcpu / vcpu), math.floor(self.registered_mib / memory_mib)]
        return min([*bounds, *([self.gpus // gpus] if gpus else [])])

    def like(self, patterns: tuple[str, ...]) -> bool:
        """Whether one of these names it; "*" stands for anything. Source: EC2 API, `AllowedInstanceTypes`."""
        return any(fnmatchcase(self.type, pattern) for pattern in patterns)


@lru_cache(maxsize=1)
def shapes() -> dict[str, Shape]:
    """All types that have a price somewhere, by name.

    >>> shapes()["g5.xlarge"].gpu, shapes()["c7g.xlarge"].memory_mib, shapes()["g5g.xlarge"].arch
    ('NVIDIA A10G', 8192, 'arm')
    """
    table = Path(__file__).parent / "money" / "book" / "types.csv"
    rows = (line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[1:])
    return {
        name: Shape(
            type=name,
            vcpu=int(vcpu),
            memory_mib=int(memory),
            arch=arch,
            gpus=int(gpus),
            gpu=gpu,
            gpu_memory_mib=int(float(each or 0)),
            burstable=burstable == "yes",
            quota_family=family,
        )
        for name, vcpu, memory, arch, gpus, gpu, each, burstable, family in rows
    }


@lru_cache(maxsize=64)
def suited(patterns: tuple[str, ...], arch: str, *, gpus: bool) -> tuple[Shape, ...]:
    """The types on which workers may be, where a site allows such names; see `sites.managed`, which asks for them.

    >>> [shape.type for shape in suited(("t4g.*", "c7g.*large", "g5.12xlarge"), "arm", gpus=False)][:2]
    ['c7g.12xlarge', 'c7g.16xlarge']
    """
    found = (each for each in shapes().values() if each.arch == arch and each.like(patterns))
    whole = (each for each in found if not each.burstable and ".metal" not in each.type)
    return tuple(each for each in whole if (each.gpus > 0 if gpus else not each.gpu))


@lru_cache(maxsize=64)
def families(patterns: tuple[str, ...], arch: str) -> tuple[str, ...]:
    """The families of quotas of which types with such names take.

    >>> families(("c*", "m*", "r*"), "x86"), families(("g6.*", "p5.*"), "x86"), families(("c7g.*",), "x86")
    (('Standard',), ('G and VT', 'P'), ())
    """
    found = (each.quota_family for each in shapes().values() if each.arch == arch and each.like(patterns))
    return tuple(sorted({*found}))


def allowed(tariff: Tariff, *, gpus: bool) -> tuple[str, ...]:
    """The types of workers' instances, as patterns of names."""
    return (tariff.gpu_types or GPU_TYPES) if gpus else (tariff.types or TYPES)


def of_site(tariff: Tariff, *, gpus: bool) -> tuple[Shape, ...]:
    """The types on which workers may be; all where these are of a group of the user's, which we do not see."""
    known = tariff.gpus_managed if gpus else tariff.managed
    return suited(allowed(tariff, gpus=gpus) if known else ("*",), tariff.arch, gpus=gpus)


@lru_cache(maxsize=64)
def smallest(tariff: Tariff, family: str, vcpu: float, memory_mib: float, gpus: int = 0) -> Shape | None:
    """Of a site's types in a family of quotas, the one that takes least and holds such a worker; None where none does.

    >>> [getattr(smallest(Tariff(), "G and VT", 4, 14336, gpus), "vcpu", None) for gpus in (1, 4, 8, 9)]
    [4, 48, 192, None]
    """
    found = (each for each in of_site(tariff, gpus=gpus > 0) if each.quota_family == family)
    fit = ((each, held) for each in found if (held := each.holds(vcpu, memory_mib, gpus)))
    return min(fit, key=lambda pair: (pair[0].vcpu, -pair[1], pair[0].type), default=(None, 0))[0]

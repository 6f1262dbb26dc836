"""What a slot took at most, and what a worker has, in; the memory that would have done, and what it would save, out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from math import ceil

from starburst_common.dollars import usd_text
from starburst_common.errors import BadInput
from starburst_common.model import Tariff
from starburst_common.money.estimate import ADDRESSES, Estimate, charge
from starburst_common.money.instances import of_site
from starburst_common.resources import FARGATE_MEMORY_MIB, Resources, fits

_WORKER_MIB = 256  #: for a worker beside its slots: measured 80 to 110, and its system's
_SPARE = 1.25  #: as much more as slots took, since the next inputs may need more
_WORTH_USD = Decimal("0.01")


def enough_mib(resources: Resources, peak_mib: float) -> int | None:
    """The least memory of a worker of as many vCPU whose slots may each take a quarter more than that.

    None where it is not known, or more than such a worker can have, and on EC2, where sizes have no steps.

    >>> enough_mib(Resources.of(1, "8GB"), 1126), enough_mib(Resources.of(1), 9000), enough_mib(Resources.of(1), 0)
    (2048, None, None)
    >>> enough_mib(Resources.of(3, "8GB", capacity="ec2"), 100)
    """
    if not peak_mib or resources.on_ec2:
        return None
    needed = resources.slots * peak_mib * _SPARE + _WORKER_MIB
    least, most, step = FARGATE_MEMORY_MIB[resources.cpu]
    return next((mib for mib in range(least, most + 1, step) if mib >= needed and fits(resources.cpu, mib)), None)


def larger(resources: Resources, peak_mib: float = 0.0, tariff: Tariff | None = None) -> Resources:
    """The next size for what ran out of memory: twice as much, or as slots have been known to take if that is more.

    With more vCPU where Fargate sells it so only; on EC2 as much as the largest type has that the site allows. As many
    slots as before. Raises `BadInput` where there is no larger.

    >>> larger(Resources.of(1)).size, larger(Resources.of(1, "8GB")).size
    ('1 vCPU, 4 GB, 1 slot', '2 vCPU, 16 GB, 1 slot')
    >>> larger(Resources.of(1), 5000).size, larger(Resources.of(16, "104GB", slots=1), 9e6).size
    ('1 vCPU, 7 GB, 1 slot', '16 vCPU, 120 GB, 1 slot')
    >>> larger(Resources.of(3, "20GB", capacity="ec2")).size
    '3 vCPU, 40 GB, 3 slots'
    >>> larger(Resources.of(3, "10GB", capacity="ec2"), tariff=Tariff(types=("m7i.xlarge",))).size
    '3 vCPU, 14.7998 GB, 3 slots'
    >>> larger(Resources.of(16, "120GB"))
    Traceback (most recent call last):
    starburst_common.errors.BadInput: escalate: there is no worker with more memory than 120 GB: leave it out
    """
    has = resources.memory_mib
    wanted = max(2 * has, ceil(resources.slots * peak_mib * _SPARE + _WORKER_MIB) if peak_mib else 0)
    if resources.on_ec2:
        holding = [
            shape
            for shape in of_site(tariff or Tariff(), gpus=resources.gpus > 0)
            if shape.fits(resources.cpu, has, resources.gpus)
        ]
        sold = [(resources.cpu, min(wanted, max((shape.registered_mib for shape in holding), default=has)))]
    else:
        sold = [
            (cpu, mib)
            for cpu, (least, most, step) in FARGATE_MEMORY_MIB.items()
            if cpu >= resources.cpu
            for mib in range(least, most + 1, step)
            if mib > has and fits(cpu, mib)
        ]
    if not sold or sold[-1][1] <= has:
        where = " on the site's types of instances" * resources.on_ec2
        raise BadInput(f"escalate: there is no worker with more memory than {size_told(has)}{where}: leave it out")
    cpu, mib = next((size for size in sold if size[1] >= wanted), sold[-1])
    return replace(resources, cpu=cpu, memory_mib=mib, memory_given=True)


def memory_told(resources: Resources, peak_mib: float, cost: Estimate) -> str:
    """What a run's slots took, for a person; and what less memory would have saved of its cost, where that is worth it.

    >>> hours = charge(Resources.of(1, "8GB"), Decimal(130))
    >>> memory_told(Resources.of(1, "8GB"), 1126, hours)
    'at most 1.1 GB a slot, of 8 GB for 1 slot: memory="2GB" would have saved $3.47'
    >>> memory_told(Resources.of(4), 512, hours), memory_told(Resources.of(1), 0, hours)
    ('at most 512 MB a slot, of 8 GB for 4 slots', '')
    """
    if not peak_mib:
        return ""
    slots = f"{resources.slots} slot{'s' * (resources.slots != 1)}"
    told = f"at most {size_told(peak_mib)} a slot, of {size_told(resources.memory_mib)} for {slots}"
    enough = enough_mib(resources, peak_mib)
    if not cost.usd or enough is None or enough >= resources.memory_mib:
        return told
    tariff = Tariff(region=cost.region, arch=cost.arch, public_ipv4=ADDRESSES in cost.parts)
    now = charge(resources, Decimal(1), tariff).usd
    then = charge(replace(resources, memory_mib=enough), Decimal(1), tariff).usd
    if not now or then is None or (saved := cost.usd * (1 - then / now)) < _WORTH_USD:
        return told
    return f'{told}: memory="{enough / 1024:g}GB" would have saved {usd_text(saved)}'


def size_told(mib: float) -> str:
    """Memory for people."""
    return f"{mib:.0f} MB" if mib < 1000 else f"{mib / 1024:.3g} GB" if mib % 1024 == 0 else f"{mib / 1024:.2g} GB"

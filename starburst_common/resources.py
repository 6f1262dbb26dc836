"""What one worker has: vCPU, memory, GPUs and slots, as the user says them in; a size, checked, out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.rows import YES_NO, Rule, is_number, whole
from starburst_common.shapes import is_tags
from starburst_common.sites.tagging import refuse_tags

#: Fargate sizes: vCPU to (least, most, step) of memory in MiB.
#: Source: Amazon ECS Developer Guide, "Task size" for Fargate, read 2026-11-22.
FARGATE_MEMORY_MIB: dict[float, tuple[int, int, int]] = {
    0.25: (512, 2048, 512),
    0.5: (1024, 4096, 1024),
    1: (2048, 8192, 1024),
    2: (4096, 16384, 1024),
    4: (8192, 30720, 1024),
    8: (16384, 61440, 4096),
    16: (32768, 122880, 8192),
}
_NOT_SOLD = (0.25, 1536)  #: the one step that Fargate leaves out
FARGATE, EC2 = "fargate", "ec2"  #: what workers run on
#: vCPU of a task on instances, least and most. Source: Amazon ECS API reference, RegisterTaskDefinition, `cpu`, read
#: 2026-11-30
EC2_VCPU = (0.125, 192)
#: Where no memory is named: so four workers of one vCPU fill an instance of 4 vCPU and 8 GiB, of which ECS has about
#: 7.4 to give, as what its system takes is not registered
EC2_MIB_A_VCPU = 1792
_MOST_SLOTS = 64
STORAGE_GB = (21, 200)  #: least and most. Source: Amazon ECS API reference, EphemeralStorage, read 2026-11-30
#: Of what a launch overrides, 8,192 characters, JSON's own included; the rest is for a worker's orders and its role.
#: Source: Amazon ECS API reference, RunTask, read 2026-11-30
ENV_CHARACTERS = 6000
_OURS = re.compile(
    r"STARBURST_|ECS_|AWS_(ACCESS_KEY|SECRET_|SESSION_TOKEN|SECURITY_TOKEN|CREDENTIAL|PROFILE|DEFAULT_PROFILE|CONFIG_FILE"
    r"|SHARED_CREDENTIALS|CONTAINER_|WEB_IDENTITY|ROLE_|EXECUTION_ENV|EC2_|ENDPOINT_URL|IGNORE_CONFIGURED)"
)
#: Source: IAM User Guide, "IAM and AWS STS quotas": a path of 512 characters and a name of 64. Read 2026-11-30
ROLE = r"arn:aws[a-z-]*:iam::\d{12}:role/[!-~]{1,576}"
_UNIT_MIB = {"T": 1024 * 1024, "G": 1024, "M": 1}
_NO_SIZE = ' is not a size: write "8GB", "512MB" or a number of GB'


def memory_mib(size: str | float) -> int:
    """A memory size in MiB; a bare number is GB. GB and GiB are both 1024 MiB, as ECS counts.

    >>> memory_mib("8GB"), memory_mib(8), memory_mib("512MB"), memory_mib("1.5 GiB"), memory_mib("1TB")
    (8192, 8192, 512, 1536, 1048576)
    >>> memory_mib("8XB")
    Traceback (most recent call last):
    starburst_common.errors.BadInput: memory='8XB' is not a size: write "8GB", "512MB" or a number of GB
    """
    found = _mib(size)
    if found is None:
        raise BadInput(f"memory={told(size)}{_NO_SIZE}")
    return found


def _mib(size: Any) -> int | None:
    given = size if isinstance(size, str) else str(size) if is_number(size) else ""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d+)?)\s*([TGM]I?B?)?\s*", given, re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        return None
    return round(float(match[1]) * _UNIT_MIB[(match[2] or "G")[0].upper()])


def fits(cpu: float, mib: int) -> bool:
    """Whether Fargate has workers of so many vCPU with so much memory."""
    least, most, step = FARGATE_MEMORY_MIB[cpu]
    return least <= mib <= most and mib % step == 0 and (cpu, mib) != _NOT_SOLD


def _sizes(cpu: float) -> str:
    least, most, step = FARGATE_MEMORY_MIB[cpu]
    if cpu == _NOT_SOLD[0]:
        return "512, 1024 or 2048 MiB"
    return f"{least} to {most} MiB in steps of {step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one worker has.

    `cpu` in vCPU and `memory_mib` are a Fargate size, or any on EC2; `slots` is how many items it runs at once, by
    default one a vCPU, or one a GPU.
    `memory_given` tells whether the user named the memory; on a laptop only a named limit is enforced.
    """

    cpu: float
    memory_mib: int
    slots: int
    memory_given: bool = False
    spot: bool = False  #: on capacity that is cheaper and may be taken back; on a laptop it changes nothing
    image: str = ""  #: what its containers are made of; empty for the site's. On a laptop it changes nothing
    storage_gb: int = 0  #: of its own disk, in GiB; 0 for the 20 that all have. On a laptop it changes nothing
    env: dict[str, str] = field(default_factory=dict, hash=False)  #: variables of its environment
    task_role: str = ""  #: ARN, whose permissions it has; empty for the site's. On a laptop it changes nothing
    aws_tags: dict[str, str] = field(default_factory=dict, hash=False)  #: of what it is made of in AWS
    capacity: str = FARGATE  #: or EC2: instances that workers share. On a laptop it changes nothing
    gpus: int = 0  #: of its own. On a laptop it changes nothing
    instance_type: str = ""  #: of the instance that it is on, once that is known: for its price
    managed: bool = True  #: the same of that: it is ECS's to manage, for a fee

    @property
    def on_ec2(self) -> bool:
        """Whether it runs on instances."""
        return self.capacity == EC2

    @property
    def size(self) -> str:
        """In words.

        >>> Resources.of(2, "8GB", slots=1).size
        '2 vCPU, 8 GB, 1 slot'
        >>> Resources.of(4, "15GB", gpus=1).size
        '4 vCPU, 15 GB, 1 GPU, 1 slot'
        """
        gpus = f", {self.gpus} GPU{'s' * (self.gpus != 1)}" if self.gpus else ""
        return f"{self.cpu:g} vCPU, {self.memory_mib / 1024:g} GB{gpus}, {self.slots} slot{'s' * (self.slots != 1)}"

    @classmethod
    def of(
        cls,
        cpu: float = 1,
        memory: str | float | None = None,
        slots: int | None = None,
        *,
        spot: bool = False,
        image: str | None = None,
        storage: str | float | None = None,
        env: Mapping[str, str] | None = None,
        task_role: str | None = None,
        aws_tags: Mapping[str, str] | None = None,
        capacity: str | None = None,
        gpus: int = 0,
    ) -> Resources:
        """Checked against Fargate's table, on every backend, so that what runs on the laptop runs in the cloud.

        >>> Resources.of(4)  # doctest: +NORMALIZE_WHITESPACE
        Resources(cpu=4, memory_mib=8192, slots=4, memory_given=False, spot=False, image='', storage_gb=0, env={},
        task_role='', aws_tags={}, capacity='fargate', gpus=0, instance_type='', managed=True)
        >>> Resources.of(3, capacity="ec2").memory_mib
        5376
        >>> Resources.of(3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        starburst_common.errors.BadInput: cpu=3 is not a Fargate size: use one of 0.25, 0.5, 1, 2, 4, 8, 16; ...
        >>> Resources.of(1, "16GB")  # doctest: +NORMALIZE_WHITESPACE
        Traceback (most recent call last):
        starburst_common.errors.BadInput: memory=16384 MiB does not go with cpu=1: use 2048 to 8192 MiB in steps of
        1024, or cpu=2
        """
        given: dict[str, Any] = {
            "cpu": cpu,
            "memory": memory,
            "slots": slots,
            "spot": spot,
            "image": image,
            "storage": storage,
            "env": env,
            "task_role": task_role,
            "aws_tags": aws_tags,
            "capacity": capacity,
            "gpus": gpus,
        }
        for name, value in given.items():
            if (value is not None or name in ("cpu", "spot", "gpus")) and not RULES[name].fits(value):
                raise BadInput(f"{name}={told(value)}{RULES[name].wrong}")
        _refuse_env(env or {})
        refuse_tags(aws_tags or {})
        on = capacity or (EC2 if gpus else FARGATE)
        mib = _ec2_mib(cpu, memory, storage) if on == EC2 else _fargate_mib(cpu, memory, gpus)
        count = min(gpus or max(1, int(cpu)), _MOST_SLOTS) if slots is None else slots
        return cls(
            cpu=cpu,
            memory_mib=mib,
            slots=count,
            memory_given=memory is not None,
            spot=spot,
            image=image or "",
            storage_gb=0 if storage is None else (_mib(storage) or 0) // 1024,
            env=dict(sorted((env or {}).items())),
            task_role=task_role or "",
            aws_tags=dict(sorted((aws_tags or {}).items())),
            capacity=on,
            gpus=gpus,
        )


def _fargate_mib(cpu: float, memory: str | float | None, gpus: int) -> int:
    """Memory of a worker on Fargate. Raises `BadInput` where it has no such size."""
    if cpu not in FARGATE_MEMORY_MIB:
        raise BadInput(
            f"cpu={cpu} is not a Fargate size: use one of {', '.join(map(str, FARGATE_MEMORY_MIB))}; with "
            'capacity="ec2" any is one'
        )
    if gpus:
        raise BadInput(f'gpus={gpus} with capacity="fargate": Fargate has no GPU: leave out capacity, or say "ec2"')
    mib = FARGATE_MEMORY_MIB[cpu][0] if memory is None else memory_mib(memory)
    if not fits(cpu, mib):
        better = next((f", or cpu={other}" for other in FARGATE_MEMORY_MIB if fits(other, mib)), "")
        raise BadInput(f"memory={mib} MiB does not go with cpu={cpu}: use {_sizes(cpu)}{better}")
    return mib


def _ec2_mib(cpu: float, memory: str | float | None, storage: str | float | None) -> int:
    """Memory of a worker on instances. Raises `BadInput` for what only Fargate has."""
    if storage is not None:
        raise BadInput(
            f'storage={told(storage)} with capacity="ec2": workers share the disk of their instance, 80 GiB or what '
            "the site's capacity provider says: leave it out"
        )
    return round(cpu * EC2_MIB_A_VCPU) if memory is None else memory_mib(memory)


def _refuse_env(env: Mapping[str, str]) -> None:
    """Raise `BadInput` for variables that ECS or we could not set.

    >>> _refuse_env({"AWS_PROFILE": "me"})  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    starburst_common.errors.BadInput: env='AWS_PROFILE': STARBURST_*, ECS_* and what says AWS's credentials and
    endpoints are the worker's own: leave it out
    >>> _refuse_env({"TABLE": "x" * 7000})  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    starburst_common.errors.BadInput: env= has 7,032 characters as JSON, and 6,000 fit beside a worker's orders: send
    what is long with files=, or as an argument
    """
    for name, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise BadInput(f"env={told(name)}: a variable's name has letters, digits and _, and begins with no digit")
        if _OURS.match(name):
            raise BadInput(
                f"env={told(name)}: STARBURST_*, ECS_* and what says AWS's credentials and endpoints are the worker's "
                "own: leave it out"
            )
        if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
            raise BadInput(f"env={told(name)}: its value has a character that no variable can hold: leave that out")
    size = len(json.dumps([{"name": name, "value": value} for name, value in env.items()]))
    if size > ENV_CHARACTERS:
        raise BadInput(
            f"env= has {size:,} characters as JSON, and {ENV_CHARACTERS:,} fit beside a worker's orders: send what is "
            "long with files=, or as an argument"
        )


#: What each has to be, whatever the others are.
RULES = {
    "cpu": Rule(
        lambda value: is_number(value) and EC2_VCPU[0] <= value <= EC2_VCPU[1],
        f" is not a Fargate size: use one of {', '.join(map(str, FARGATE_MEMORY_MIB))}; on EC2 {EC2_VCPU[0]} to "
        f"{EC2_VCPU[1]}, and for more than that, which ECS gives no task, more workers",
    ),
    "capacity": Rule(lambda value: value in (FARGATE, EC2), ': give "fargate", "ec2" or None'),
    "gpus": whole(0, 16),
    "memory": Rule(lambda value: _mib(value) is not None, _NO_SIZE),
    "slots": whole(1, _MOST_SLOTS),
    "spot": YES_NO,
    "storage": Rule(
        lambda value: (_mib(value) or 1) % 1024 == 0 and STORAGE_GB[0] <= (_mib(value) or 0) / 1024 <= STORAGE_GB[1],
        f': give whole GB from {STORAGE_GB[0]} to {STORAGE_GB[1]}, such as "50GB", or None for the 20 that all have',
    ),
    "image": Rule(
        lambda value: isinstance(value, str) and bool(value.strip()),
        ': give an image such as "REGISTRY/REPOSITORY:TAG", or None',
    ),
    "env": Rule(is_tags, ": give a dictionary whose names and values are text"),
    "task_role": Rule(
        lambda value: isinstance(value, str) and re.fullmatch(ROLE, value) is not None,
        ": give the ARN of a role, or None for the site's",
    ),
    "aws_tags": Rule(is_tags, ": give a dictionary whose names and values are text"),
}

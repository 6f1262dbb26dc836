"""The user's words in; checked, frozen options out. Pure: every wrong value is refused before anything is launched."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from starburst_common.errors import BadInput, UnknownOption
from starburst_common.phrases import told

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
MOST_WORKERS = 5000
_MOST_ITEMS = 10**12 - 1  # an index has twelve digits
_LONGEST_S = 10 * 365 * 86400.0
_TEXTS = 100_000  #: characters; whoever looks at a run reads them


def memory_mib(size: str | float) -> int:
    """A memory size in MiB; a bare number is GB. GB and GiB are both 1024 MiB, as ECS counts.

    >>> memory_mib("8GB"), memory_mib(8), memory_mib("512MB"), memory_mib("1.5 GiB")
    (8192, 8192, 512, 1536)
    >>> memory_mib("8XB")
    Traceback (most recent call last):
    starburst_common.errors.BadInput: memory='8XB' is not a size: write "8GB", "512MB" or a number of GB
    """
    given = size if isinstance(size, str) else str(size) if is_number(size) else ""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d+)?)\s*(GI?B?|MI?B?)?\s*", given, re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise BadInput(f'memory={told(size)} is not a size: write "8GB", "512MB" or a number of GB')
    unit = (match[2] or "G")[0].upper()
    return round(float(match[1]) * (1024 if unit == "G" else 1))


def _fits(cpu: float, mib: int) -> bool:
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

    `cpu` in vCPU and `memory_mib` are a Fargate size; `slots` is how many items it runs at once (default: one a vCPU).
    `memory_given` tells whether the user named the memory; on a laptop only a named limit is enforced.
    """

    cpu: float
    memory_mib: int
    slots: int
    memory_given: bool = False
    spot: bool = False  #: on capacity that is cheaper and may be taken back; on a laptop it changes nothing
    image: str = ""  #: what its containers are made of; empty for the site's. On a laptop it changes nothing

    @property
    def size(self) -> str:
        """In words.

        >>> Resources.of(2, "8GB", slots=1).size
        '2 vCPU, 8 GB, 1 slot'
        """
        return f"{self.cpu:g} vCPU, {self.memory_mib / 1024:g} GB, {self.slots} slot{'s' * (self.slots != 1)}"

    @classmethod
    def of(
        cls,
        cpu: float = 1,
        memory: str | float | None = None,
        slots: int | None = None,
        *,
        spot: bool = False,
        image: str | None = None,
    ) -> Resources:
        """Checked against Fargate's table, on every backend, so that what runs on the laptop runs in the cloud.

        >>> Resources.of(4)
        Resources(cpu=4, memory_mib=8192, slots=4, memory_given=False, spot=False, image='')
        >>> Resources.of(3)
        Traceback (most recent call last):
        starburst_common.errors.BadInput: cpu=3 is not a Fargate size: use one of 0.25, 0.5, 1, 2, 4, 8, 16
        >>> Resources.of(1, "16GB")  # doctest: +NORMALIZE_WHITESPACE
        Traceback (most recent call last):
        starburst_common.errors.BadInput: memory=16384 MiB does not go with cpu=1: use 2048 to 8192 MiB in steps of
        1024, or cpu=2
        """
        if not is_number(cpu) or cpu not in FARGATE_MEMORY_MIB:
            raise BadInput(
                f"cpu={told(cpu)} is not a Fargate size: use one of {', '.join(map(str, FARGATE_MEMORY_MIB))}"
            )
        mib = FARGATE_MEMORY_MIB[cpu][0] if memory is None else memory_mib(memory)
        if not _fits(cpu, mib):
            better = next((f", or cpu={other}" for other in FARGATE_MEMORY_MIB if _fits(other, mib)), "")
            raise BadInput(f"memory={mib} MiB does not go with cpu={cpu}: use {_sizes(cpu)}{better}")
        count = max(1, int(cpu)) if slots is None else slots
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 64:
            raise BadInput(f"slots={told(slots)}: give a whole number from 1 to 64")
        if not isinstance(spot, bool):
            raise BadInput(f"spot={told(spot)}: give True or False")
        if image is not None and not (isinstance(image, str) and image.strip()):
            raise BadInput(f'image={told(image)}: give an image such as "REGISTRY/REPOSITORY:TAG", or None')
        return cls(cpu=cpu, memory_mib=mib, slots=count, memory_given=memory is not None, spot=spot, image=image or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How many failures a run may have and go on: a count, or a share of its items.

    >>> Tolerance.of("2%").allows(failed=3, items=100), Tolerance.of(3).allows(failed=3, items=100)
    (False, True)
    """

    count: int | None = None
    percent: float | None = None

    @classmethod
    def of(cls, tolerate: int | str | None) -> Tolerance:
        """From the user's `tolerate`; None means any number of failures."""
        if tolerate is None:
            return cls()
        if isinstance(tolerate, int) and not isinstance(tolerate, bool) and tolerate >= 0:
            return cls(count=tolerate)
        if isinstance(tolerate, str) and re.fullmatch(r"\s*\d{1,9}\s*", tolerate):
            return cls(count=int(tolerate))
        match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d+)?)\s*%\s*", tolerate) if isinstance(tolerate, str) else None
        if match is None or float(match[1]) > 100:
            raise BadInput(f'tolerate={told(tolerate)}: give a count such as 5, or a share such as "2%"')
        return cls(percent=float(match[1]))

    def allows(self, *, failed: int, items: int) -> bool:
        """Whether so many failures among so many items are within it."""
        if self.percent is not None:
            return 100 * failed <= round(self.percent * items, 4)  # floats are not exact, a share of items is
        return self.count is None or failed <= self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run is to be done. Made by `Options.of`, which checks."""

    workers: int | None
    resources: Resources
    chunk_size: int | None
    retries: int
    retry_delay_s: float
    retry_on: tuple[type[BaseException], ...]
    timeout_s: float | None
    return_exceptions: bool
    ordered: bool
    tolerate: Tolerance
    budget_usd: float | None
    seed: int | None
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]
    files: tuple[str, ...]
    progress: bool | None
    label: str
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        workers: int | None = None,
        cpu: float = 1,
        memory: str | float | None = None,
        slots: int | None = None,
        spot: bool = False,
        image: str | None = None,
        chunk_size: int | None = None,
        retries: int = 0,
        retry_delay: float = 0.0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        timeout: float | None = None,
        return_exceptions: bool = False,
        ordered: bool = True,
        tolerate: int | str | None = None,
        budget: float | None = None,
        seed: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        files: str | Path | Sequence[str | Path] = (),
        progress: bool | None = None,
        label: str | None = None,
        tags: dict[str, str] | None = None,
        **unknown: Any,
    ) -> Options:
        """Checked options.

        Where neither `return_exceptions` nor `tolerate` says that failures are wanted, a run is stopped by the circuit
        breaker: when 20 items or more are answered, there are others, and all that are have failed alike.

        Args:
            workers: containers, or processes on the local backend, at most; None is one a core here, and 10 on AWS.
            cpu: vCPU of a worker, a Fargate size: 0.25, 0.5, 1, 2, 4, 8 or 16.
            memory: of a worker: "8GB", "512MB" or a number of GB; None is the least that goes with `cpu`. On the
                local backend only a named limit is enforced, for all slots together, and on Linux.
            slots: items a worker runs at once, each in a process of its own; None is one a vCPU, at least one.
            spot: on capacity that is cheaper and may be taken back; changes nothing on the local backend.
            image: what workers run in, in place of one made for your environment; it must hold the worker. Changes
                nothing on the local backend.
            chunk_size: items leased together; None chooses from how long items take.
            retries: further tries for an item that raises a `retry_on`, or that runs into its `timeout`.
            retry_delay: seconds before each further try of an item that raised; one that timed out is tried at once.
            retry_on: the exception type, or types, that are tried again; those that leave out `ItemTimeout` leave out
                what timed out.
            timeout: seconds one item may run, or the initializer; then its slot is killed.
            return_exceptions: put exceptions in place of the values instead of raising the first. Every item is
                answered then: no failures stop the run, however many are alike.
            ordered: results in the order of the items, else as they complete.
            tolerate: failures that do not stop the run, a count or "2%"; they are returned in place. Up to that many
                may all be alike.
            budget: what the run should cost at most, in USD. It is written down with the run; nothing stops there yet.
            seed: gives each item a seed of its own, which depends on this number and the item's only: `random` starts
                from it, and numpy's global generator; `starburst_common.item_seed()` tells it for others.
            initializer: called as `initializer(*initargs)` once in each slot, before the first item; where it raises
                or runs into `timeout`, the items fail and say so.
            initargs: its arguments, a tuple.
            files: paths and patterns, such as "data/*.csv", of files and folders that are sent to workers on AWS, where
                each lies relative to the working directory as at home; here they are there.
            progress: on stderr, a bar on a terminal and a line every 5 s elsewhere; True gives one line at least, False
                none.
            label: yours, shown in listings.
            tags: yours, names and values as text, shown with the run.

        Raises:
            BadInput: naming the argument, its value, and what it should be.
            UnknownOption: with the option that was probably meant.
        """
        refuse_unknown(unknown, OPTIONS)
        if workers is not None and (
            isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS
        ):
            raise BadInput(f"workers={told(workers)}: give a whole number from 1 to {MOST_WORKERS}")
        if chunk_size is not None and (
            isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or not 1 <= chunk_size <= _MOST_ITEMS
        ):
            raise BadInput(
                f"chunk_size={told(chunk_size)}: give a whole number of items, at least 1, at most {_MOST_ITEMS}"
            )
        if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 100:
            raise BadInput(f"retries={told(retries)}: give a whole number from 0 to 100")
        if not is_number(retry_delay) or not 0 <= retry_delay <= 3600:
            raise BadInput(f"retry_delay={told(retry_delay)}: give seconds from 0 to 3600")
        kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise BadInput(f"retry_on={told(retry_on)}: give an exception type, or a tuple of them")
        if timeout is not None and (not is_number(timeout) or not 0 < timeout <= _LONGEST_S):
            raise BadInput(
                f"timeout={told(timeout)}: give seconds above 0 for one item, at most {_LONGEST_S:.0f}, or None"
            )
        for name, value in (("return_exceptions", return_exceptions), ("ordered", ordered)):
            if not isinstance(value, bool):
                raise BadInput(f"{name}={told(value)}: give True or False")
        if progress is not None and not isinstance(progress, bool):
            raise BadInput(f"progress={told(progress)}: give True, False or None")
        if budget is not None and (not is_number(budget) or budget <= 0):
            raise BadInput(f"budget={told(budget)}: give US dollars above 0, or None")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63):
            raise BadInput(f"seed={told(seed)}: give a whole number from 0 to {2**63 - 1}, or None")
        if initializer is not None and not callable(initializer):
            raise BadInput(f"initializer={told(initializer)}: give a function, or None")
        if not isinstance(initargs, tuple) or (initargs and initializer is None):
            raise BadInput(
                f"initargs={told(initargs)}: give a tuple of the initializer's arguments, with an initializer"
            )
        named = [files] if isinstance(files, str | Path) else files
        if not isinstance(named, list | tuple) or not all(isinstance(name, str | Path) and str(name) for name in named):
            raise BadInput(f'files={told(files)}: give paths or patterns such as "data/*.csv", in a list')
        if label is not None and not isinstance(label, str):
            raise BadInput(f"label={told(label)}: give text")
        if tags is not None and not (
            isinstance(tags, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in tags.items())
        ):
            raise BadInput(f"tags={told(tags)}: give a dictionary whose names and values are text")
        texts = len(label or "") + sum(len(name) + len(value) for name, value in (tags or {}).items())
        if texts > _TEXTS:
            raise BadInput(f"label and tags have {texts:,} characters: give {_TEXTS:,} at most, all together")
        tolerance = Tolerance.of(tolerate)
        return cls(
            workers=workers,
            resources=Resources.of(cpu, memory, slots, spot=spot, image=image),
            chunk_size=chunk_size,
            retries=retries,
            retry_delay_s=float(retry_delay),
            retry_on=kinds,
            timeout_s=None if timeout is None else float(timeout),
            return_exceptions=return_exceptions or tolerate is not None,
            ordered=ordered,
            tolerate=tolerance,
            budget_usd=None if budget is None else float(budget),
            seed=seed,
            initializer=initializer,
            initargs=initargs,
            files=tuple(map(str, named)),
            progress=progress,
            label=label or "",
            tags=dict(tags or {}),
        )


#: The names of all options.
OPTIONS = tuple(name for name in inspect.signature(Options.of).parameters if name != "unknown")


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `UnknownOption` for the first name that is not known, with the one that was probably meant.

    >>> refuse_unknown(["retrys"], OPTIONS)
    Traceback (most recent call last):
    starburst_common.errors.UnknownOption: no option 'retrys': did you mean 'retries'?
    """
    from difflib import get_close_matches

    known = list(known)
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise UnknownOption(f"no option {told(name)}: {hint}")


def is_number(value: Any) -> bool:
    """Whether it is a number that a computation can hold: no bool, no NaN, no infinity."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False

"""A function and a few of its items in; how long they took and what memory they needed, as workers of this machine ran
them, out. Nothing of it is kept.
"""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from starburst_common.errors import BadInput, RunStopped
from starburst_common.phrases import one_line

_MIB = 1 << 20
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  #: of `ru_maxrss`, in bytes
_SPARE = 1.25  #: a slot is given so much more than an item was seen to take
_OWN_MIB = 256  #: what a worker takes beside its slots, about
#: How far the mean of a few lies from that of all, in their standard errors: nineteen of twenty times, where the
#: durations are about normal. Source: Student's t, two-sided 95 %, by degrees of freedom.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
_T_MANY = 2.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A few items, as they were measured.

    >>> few = Sample(seconds=(1.0, 1.2, 0.8, 1.0), peak_mib=300, of=1000)
    >>> few.mean_s, [round(end, 2) for end in few.spread], few.longest_s, few.needs_mib(2)
    (1.0, [0.74, 1.26], 1.2, 1006)
    """

    seconds: tuple[float, ...]
    peak_mib: float  #: the most that a slot's process had, all its imports with it
    of: int | None  #: items in all; None where nobody knows
    failed: int = 0
    why: str = ""  #: the first failure

    @property
    def mean_s(self) -> float:
        """Of an item."""
        return math.fsum(self.seconds) / len(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Between what the mean of all items lies, nineteen of twenty times; of one or two, all that is thinkable."""
        if len(self.seconds) == self.of or len(self.seconds) < 2:
            return (self.mean_s, self.mean_s) if len(self.seconds) == self.of else (self.mean_s / 2, self.mean_s * 2)
        free = len(self.seconds) - 1
        times = _T[free - 1] if free <= len(_T) else _T_MANY
        squares = math.fsum((each - self.mean_s) ** 2 for each in self.seconds)
        off = times * math.sqrt(squares / free / (free + 1))
        return max(self.mean_s - off, min(self.seconds) / 2), self.mean_s + off

    @property
    def longest_s(self) -> float:
        """Of those that were measured."""
        return max(self.seconds)

    def needs_mib(self, slots: int) -> int:
        """What a worker with so many slots needs, with a quarter to spare."""
        return math.ceil(slots * self.peak_mib * _SPARE) + _OWN_MIB


def measured(
    mapping: Callable[..., Sequence[Any]],
    fn: Callable[..., Any],
    items: Iterable[Any],
    *,
    count: int = 5,
    within_s: float = 60.0,
) -> Sample:
    """A few items, from the first to the last evenly, one after another in a worker of this machine.

    `mapping` is `starburst_map`. Raises `BadInput` where none ends in that time, or all fail.
    """
    from starburst_common.local import local_backend

    whole = len(items) if isinstance(items, Sized) else None
    few = [*islice(items, count)] if whole is None else _evenly(items, whole, count)
    if not few:
        raise BadInput("there are no items to measure")
    with tempfile.TemporaryDirectory(prefix="starburst-measured-") as folder:
        backend = local_backend(Path(folder) / "home")
        try:
            answers = mapping(
                partial(probe, fn),
                few,
                workers=1,
                slots=1,
                chunk_size=1,
                deadline=within_s,
                tolerate="100%",
                return_exceptions=True,
                progress=False,
                backend=backend,
            )
        except RunStopped as error:
            raise BadInput(f"no item was measured in {within_s:g} s: {one_line(str(error))}: give --seconds") from None
        finally:
            backend.close()
    good = [answer for answer in answers if isinstance(answer, tuple)]
    bad = [answer for answer in answers if not isinstance(answer, tuple)]
    why = f"{type(bad[0]).__name__}: {one_line(str(bad[0]))}" if bad else ""
    if not good:
        raise BadInput(f"no item of {len(few)} was measured in {within_s:g} s: {why}: give --seconds")
    return Sample(
        seconds=tuple(seconds for seconds, _ in good),
        peak_mib=max(peak for _, peak in good),
        of=whole,
        failed=len(bad),
        why=why,
    )


def probe(fn: Callable[..., Any], item: Any) -> tuple[float, float]:
    """How long a call takes, and the most memory that its process has had by then, in MiB."""
    began = time.perf_counter()
    fn(item)
    took_s = time.perf_counter() - began
    return took_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / _MIB


def _evenly(items: Iterable[Any], whole: int, count: int) -> Sequence[Any]:
    wanted = {round(number * (whole - 1) / max(count - 1, 1)) for number in range(min(count, whole))}
    return [item for index, item in enumerate(items) if index in wanted]

"""A target, a number of inputs and a seed in; what was refused, accepted and wrong, how slow and how large, out."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from starburst_common.errors import StarburstError
from tests.fuzz import tripwire
from tests.fuzz.mutations import Kind, mutated

_SLOW_S = 1.0  #: of this thread's own time, for an input
_STUCK_S = 20  #: by the clock on the wall, which a busy machine makes long
_LARGE_MIB = 64  #: that an input may take, and twenty times itself
_FAULTS = 5  #: a target with so many different ones is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A decoder."""

    name: str
    kind: Kind
    samples: Sequence[bytes]  #: valid ones
    feed: Callable[[bytes], object]  #: to the decoder
    allowed: tuple[type[BaseException], ...] = (StarburstError,)
    signed: bool = False  #: what is fed bears our key's signature
    always: Sequence[bytes] = ()  #: inputs that no chance finds, tried first


@dataclass(slots=True, kw_only=True)
class Found:
    """What became of a target's inputs."""

    target: str
    signed: bool
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    slowest_s: float = 0.0
    extra_mib: float = 0.0
    faults: dict[str, bytes] = field(default_factory=dict)  #: what went wrong, and the least input that does
    said: dict[str, str] = field(default_factory=dict)  #: the same in full

    def __str__(self) -> str:
        how = "signed" if self.signed else "unsigned"
        became = f"{self.inputs:>7,} inputs {self.refused:>7,} refused {self.accepted:>7,} accepted"
        cost = f"slowest {1000 * self.slowest_s:>7.1f} ms {self.extra_mib:>6.1f} MiB more"
        return f"{self.target:<22} {how:<8} {became}  {cost}  {len(self.faults)} faults"


def hunt(target: Target, inputs: int, seed: int) -> Found:
    """Feed it so many inputs; the same seed gives the same ones."""
    found = Found(target=target.name, signed=target.signed)
    before = _peak_mib()
    logging.disable(logging.CRITICAL)
    for sample in _inputs(target, inputs, seed):
        found.inputs += 1
        fault, took_s, refused = fed(target, sample)
        found.slowest_s = max(found.slowest_s, took_s)
        found.refused += refused
        found.accepted += not refused and not fault
        what = fault.partition(":")[0]
        if fault and what not in found.faults:
            found.faults[what] = reduced(target, sample, what)
            found.said[what] = fault
            if len(found.faults) >= _FAULTS:
                break
    logging.disable(logging.NOTSET)
    found.extra_mib = _peak_mib() - before
    return found


def _inputs(target: Target, inputs: int, seed: int) -> Iterator[bytes]:
    yield from [*target.samples, *target.always][:inputs]
    for number in range(len(target.samples) + len(target.always), inputs):
        yield mutated(target.kind, target.samples, Random(f"{seed} {target.name} {number}"))


def fed(target: Target, sample: bytes, *, again: bool = False) -> tuple[str, float, bool]:
    """What was wrong with how it was read, if anything; how long that took, and whether it was refused.

    One that took long is read again: what is made once, for all of them, may have been made for it.
    """
    tripwire.sprung.clear()
    before, began, refused, fault = _peak_mib(), time.thread_time(), False, ""
    try:
        with _not_stuck():
            target.feed(sample)
    except target.allowed:
        refused = True
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        fault = f"{type(error).__name__} at {_where(error)}: {str(error)[:150]}"
    took_s, more_mib = time.thread_time() - began, _peak_mib() - before
    if tripwire.sprung:
        tripwire.sprung.clear()
        fault = fault or "it was unpickled"
    if took_s > _SLOW_S and not (fault or again):
        return fed(target, sample, again=True)
    if took_s > _SLOW_S:
        fault = fault or f"more than {_SLOW_S:g} s"
    if more_mib > _LARGE_MIB + 20 * len(sample) / 2**20:
        fault = fault or f"more than {_LARGE_MIB} MiB"
    return fault, took_s, refused


def reduced(target: Target, sample: bytes, fault: str, tries: int = 300) -> bytes:
    """Less of an input, with which the same goes wrong."""
    if not fault.startswith(("more than", "_Stuck")):  # which is not seen twice, or takes too long
        size = len(sample) // 2
        while size and tries:
            at = 0
            while at < len(sample) and tries:
                tries -= 1
                less = sample[:at] + sample[at + size :]
                if fed(target, less)[0].partition(":")[0] == fault:
                    sample = less
                else:
                    at += size
            size //= 2
    return sample


def _where(error: BaseException) -> str:
    """The last line of ours that it came through."""
    lines = traceback.extract_tb(error.__traceback__)
    ours = [line for line in lines if "starburst" in line.filename and "/tests/" not in line.filename]
    line = (ours or lines)[-1]
    return f"{Path(line.filename).name}:{line.name}"


class _Stuck(BaseException):
    pass


@contextmanager
def _not_stuck() -> Iterator[None]:
    def stuck(number: int, frame: FrameType | None) -> None:
        raise _Stuck(f"after {_STUCK_S} s")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(_STUCK_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak_mib() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)

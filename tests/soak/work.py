"""What a soak's runs compute: a job and an item in; a value or an exception that anybody can foretell, out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


class Unlucky(Exception):
    """What some items raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to be."""

    seed: int
    items: int
    longest_s: float  #: an item takes up to so long
    raising: float  #: share of the items that raise
    value_bytes: int  #: a value has up to so many
    chunk_size: int | None
    ordered: bool

    @classmethod
    def chosen(cls, chance: random.Random) -> Job:
        """A job by chance: some seconds of work for two workers; now and then big values or chunks of one item."""
        longest_s = chance.choice([0.0, 0.01, 0.05])
        value_bytes = chance.choice([0, 0, 0, 500, 100_000])
        chunk_size = chance.choice([None, None, 20, 100] if value_bytes < 100_000 else [None, 5, 80])
        items = {0.0: 2000, 0.01: 1500, 0.05: 600}[longest_s] if value_bytes < 100_000 else 200
        if value_bytes == 0 and chance.random() < 0.15:
            items, chunk_size = 150, 1
        if chance.random() < 0.04:  # outcomes that are stored by multipart upload
            items, chunk_size, value_bytes = 24, 8, 16 << 20
        return cls(
            seed=chance.randrange(1 << 30),
            items=chance.randint(items // 2, items),
            longest_s=longest_s,
            raising=chance.choice([0.0, 0.02]),
            value_bytes=value_bytes,
            chunk_size=chunk_size,
            ordered=chance.random() < 0.5,
        )

    def function(self) -> Callable[[int], tuple[int, bytes]]:
        """What its items are mapped with."""
        job = self

        def work(index: int) -> tuple[int, bytes]:
            time.sleep(random.Random(f"{job.seed} {index} s").random() * job.longest_s)
            return value_of(job, index)

        return work


def value_of(job: Job, index: int) -> tuple[int, bytes]:
    """The item's value. Raises `Unlucky` where the item does."""
    chance = random.Random(f"{job.seed} {index}")
    if chance.random() < job.raising:
        raise Unlucky(f"item {index} of {job.seed}")
    return index * 7 + job.seed, chance.randbytes(chance.randint(0, job.value_bytes))


def foretold(job: Job, index: int, got: object) -> bool:
    """Whether an answer is the right one."""
    try:
        return got == value_of(job, index)
    except Unlucky as error:
        return type(got).__name__ == "Unlucky" and str(got) == str(error)

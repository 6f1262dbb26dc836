"""A backend in; the entries of its accounts out, also those that lack, which are written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, TypeVar

from starburst_common.errors import Denied, NotFound, Refused, Unavailable
from starburst_common.ids import ids, made_at
from starburst_common.model import RunId
from starburst_common.money.accounts import AccountEntry
from starburst_common.money.estimate import fargate_usd
from starburst_common.money.tolls import APART, tolls_usd
from starburst_common.names import ACCOUNTS, RUNS
from starburst_common.phrases import our_log
from starburst_common.ports import Backend
from starburst_common.runs.accounts import keep_entry, read_entry
from starburst_common.runs.remembered import remembered

T = TypeVar("T")

_log = our_log()
_AT_ONCE = 32  #: entries are read so, where each is a request
LATELY_S = 30 * 86_400.0  #: runs of the last month tell what the next is like
_LOOKS = 200  #: of runs, the newest first


def kept(backend: Backend, since: float) -> tuple[set[str], dict[str, str]]:
    """The closed fleets and the runs since then that are in the accounts; entries that lack are written."""
    first = time.strftime("%Y-%m", time.gmtime(max(since, 0.0)))
    store, runs, fleets = backend.store, dict[str, str](), set[str]()
    for month in store.folders(ACCOUNTS):
        if month >= first:
            for key in store.list(f"{ACCOUNTS}{month}/"):
                name = key.rpartition("/")[2]
                if name.startswith("fleet-"):
                    fleets.add(name)
                else:
                    runs[name] = key
    for name in ids(store.folders(RUNS)):
        if name not in runs and _made(name) >= since and (key := keep_entry(backend, RunId(name))):
            runs[name] = key
    return fleets, {name: key for name, key in runs.items() if _made(name) >= since}


def _made(name: str) -> float:
    try:
        return made_at(name)
    except ValueError:
        return 0.0


def abreast(backend: Backend, read: Callable[[str], T], keys: Iterable[str]) -> list[T]:
    """What is read of each; what is gone or cannot be read is left out, and told in a line."""
    refused: list[str] = []

    def one(key: str) -> T | None:
        with suppress(NotFound):
            try:
                return read(key)
            except Refused as error:
                refused.append(str(error))
        return None

    wanted = [*keys]
    if backend.name == "local" or len(wanted) < 2:
        found = [*map(one, wanted)]
    else:
        with ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as pool:
            found = [*pool.map(one, wanted)]
    if refused:
        others = f"; and {len(refused) - 1:,} more" if len(refused) > 1 else ""
        _tell_left_out(f"{min(refused)}{others}")
    return [each for each in found if each is not None]


@lru_cache(maxsize=1024)
def _tell_left_out(why: str) -> None:
    """Once, however often it is read."""
    _log.warning("left out of the costs: %s", why)


class Past(NamedTuple):
    """What an item of a former run was, on average."""

    seconds: float
    beside: dict[str, Decimal]  #: USD by component, of what is charged for beside workers and their images
    dearer: Decimal = Decimal(1)  #: than on workers of its first size, by what share: some items had larger ones


def past_items(backend: Backend, function: str, since: float, most: int = 5, *, before: float = math.inf) -> list[Past]:
    """Of the newest runs of a function that were begun since then, and before. Where nobody can look, nobody knows."""
    found: list[Past] = []
    for entry in _lately(backend, function, since, before):
        if items := entry.succeeded + sum(entry.failed.values()):
            tolls = {kind: count for kind, count in entry.tolls.items() if kind != "image-bytes"}
            beside = tolls_usd(tolls, backend.tariff)
            each = {part: usd / items for part, usd in beside.items()}
            found.append(Past(entry.slot_seconds / items, each, _dearer(entry)))
        if len(found) == most:
            break
    return found


def _dearer(entry: AccountEntry) -> Decimal:
    """By what its later legs had larger workers."""
    workers = sum(entry.workers.values())
    first = fargate_usd(entry.asked, entry.slot_seconds / entry.slots, workers, entry.tariff)
    usd = sum((usd for part, usd in entry.usd.items() if part not in APART), Decimal(0))
    if len(entry.stints) < 2 or not usd or not first.usd or first.as_of != entry.prices_as_of:
        return Decimal(1)
    return usd / first.usd


def most_memory_mib(backend: Backend, function: str, since: float, most: int = 5) -> float:
    """The most that a slot has taken in a function's newest runs since then; 0 where nobody knows."""
    return max((each.memory_peak_mib for each in islice(_lately(backend, function, since), most)), default=0.0)


def _lately(backend: Backend, function: str, since: float, before: float = math.inf) -> Iterator[AccountEntry]:
    """A function's newest runs; none where nobody may or can look."""
    with suppress(Denied, Unavailable):
        backend = remembered(backend)
        _, runs = kept(backend, since)
        for _, key in sorted(runs.items(), reverse=True)[:_LOOKS]:
            with suppress(NotFound, Refused):
                entry = read_entry(backend, key)
                if entry.function == function and entry.created_at < before:
                    yield entry

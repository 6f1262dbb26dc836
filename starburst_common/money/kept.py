"""Prices that this user has had looked up, in a file a region in the user's cache; in force before the book's.

What was in force before is kept, too: what was used then is reckoned by that.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from starburst_common.phrases import oddity, our_log
from starburst_common.trust import own_folder, owner_only, what_others_may

_log = our_log()
_DAY = ContextVar("_DAY", default="")  # prices are to be of; empty for today
_kept = [0]  # times that this process has kept some
_FORMER = "former"

FARGATE, INSTANCES, SPOT = "fargate", "instances", "spot"  #: what is looked up, each for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What AWS has told of one of these in one region."""

    prices: Mapping[str, Decimal]  #: by type of instance, or by what of Fargate
    source: str
    as_of: str  #: the day on which it was asked
    published: str  #: the day that AWS's list is of


def folder() -> Path:
    """Where they are."""
    return user_cache_path("starburst") / "prices"


@contextmanager
def prices_then(at: float) -> Iterator[None]:
    """Reckon with the prices that were in force at that time (wall clock) while the block runs."""
    token = _DAY.set(time.strftime("%Y-%m-%d", time.gmtime(at)))
    try:
        yield
    finally:
        _DAY.reset(token)


def edition(region: str) -> tuple[int, str]:
    """What tells which of a region's prices are in force, for who remembers some: how often they were looked up here,

    and the day of which they are to be, where some were looked up.
    """
    return _kept[0], _DAY.get() if _read(region, "", _kept[0]) else ""


def holds(looked_up: str, book: str) -> bool:
    """Whether prices that were looked up on that day are in force before those of a book of that day."""
    return looked_up >= book or "" < _DAY.get() < book


@lru_cache(maxsize=64)
def tell_lacking(region: str, names: tuple[str, ...]) -> None:
    """Once, that these are not among what was looked up there."""
    file, lacking = folder() / f"{region}.json", ", ".join(names)
    _log.warning("%s lacks %s: the price book is in force for it; `starburst prices update` asks again", file, lacking)


def sheets(region: str) -> dict[str, Sheet]:
    """What was looked up of a region; nothing where it cannot be read, which is said."""
    times, day = edition(region)
    found = _read(region, "", times)
    if not day:
        return found
    former = sorted(path.stem.removeprefix(f"{region}-") for path in (folder() / _FORMER).glob(f"{region}-2*.json"))
    then = [_read(region, each, times) for each in former if each <= day]
    return {
        kind: sheet
        for told in [*then, found]  # the last one holds
        for kind, sheet in told.items()
        if sheet.as_of <= day
    }


@lru_cache(maxsize=64)
def _read(region: str, day: str, times: int) -> dict[str, Sheet]:
    """Those in force, or before they were looked up on a later day than this; after so many times here."""
    file = folder() / _FORMER / f"{region}-{day}.json" if day else folder() / f"{region}.json"
    try:
        text = file.read_text(encoding="utf-8")
        if why := what_others_may(file):
            _log.warning("%s is not believed: %s: the price book is in force", file, why)
            return {}
        return {kind: _sheet(told) for kind, told in json.loads(text).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, InvalidOperation, RecursionError) as error:
        _log.warning(
            "%s cannot be read (%s): the price book is in force; `starburst prices update` writes it anew",
            file,
            oddity(error),
        )
        return {}


def keep(region: str, found: Mapping[str, Sheet]) -> Path:
    """These in place of what was known of the same; in one step, whoever reads meanwhile."""
    before = _read(region, "", _kept[0])
    if day := max((sheet.as_of for sheet in before.values()), default=""):
        _write(own_folder(own_folder(folder()) / _FORMER) / f"{region}-{day}.json", before)
    _kept[0] += 1
    return _write(own_folder(folder()) / f"{region}.json", {**before, **found})


def _write(file: Path, found: Mapping[str, Sheet]) -> Path:
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", opener=owner_only) as opened:
        json.dump({kind: asdict(sheet) for kind, sheet in found.items()}, opened, default=str)
    temporary.replace(file)
    return file


def _sheet(told: dict[str, Any]) -> Sheet:
    prices = {name: Decimal(usd) for name, usd in told["prices"].items()}
    source, as_of, published = (told[name] for name in ("source", "as_of", "published"))
    if not all(usd.is_finite() and usd > 0 for usd in prices.values()):
        raise ValueError("a price that is none")
    if not all(isinstance(each, str) for each in (source, as_of, published)):
        raise TypeError("no text where one belongs")
    if date.fromisoformat(as_of) > date.today() + timedelta(days=1):  # zones differ by one
        raise ValueError(f"it is of {as_of}, which is to come")
    return Sheet(prices=prices, source=source, as_of=as_of, published=published)

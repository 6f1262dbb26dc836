"""Prices that this user has had looked up, in a file a region in the user's cache; in force before the book's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from starburst_common.phrases import oddity, our_log
from starburst_common.trust import own_folder, owner_only, what_others_may

_log = our_log()

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


@lru_cache(maxsize=64)
def sheets(region: str) -> dict[str, Sheet]:
    """What was looked up of a region; nothing where it cannot be read, which is said."""
    file = folder() / f"{region}.json"
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
    file = own_folder(folder()) / f"{region}.json"
    told = {kind: asdict(sheet) for kind, sheet in {**sheets(region), **found}.items()}
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", opener=owner_only) as opened:
        json.dump(told, opened, default=str)
    temporary.replace(file)
    sheets.cache_clear()
    return file


def _sheet(told: dict[str, Any]) -> Sheet:
    prices = {name: Decimal(usd) for name, usd in told["prices"].items()}
    source, as_of, published = (told[name] for name in ("source", "as_of", "published"))
    if not all(usd.is_finite() and usd > 0 for usd in prices.values()):
        raise ValueError("a price that is none")
    if not all(isinstance(each, str) for each in (source, as_of, published)):
        raise TypeError("no text where one belongs")
    return Sheet(prices=prices, source=source, as_of=as_of, published=published)

"""A table of the price book by name in; its rows out: those that come with the package, with their sources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_BOOK = Path(__file__).with_name("book")
FARGATE, EC2, OTHER = "fargate.csv", "ec2.csv", "other.csv"
INTERRUPTIONS = "interruptions.csv"


def rows(table: str, first: str | tuple[str, ...] = "") -> Iterator[list[str]]:
    """The rows of a table below its head, or those that begin with this; others are not parsed."""
    lines = (_BOOK / table).read_text(encoding="utf-8").splitlines()
    wanted = (first,) if isinstance(first, str) else first
    begins = tuple(f"{each}," for each in wanted if each)
    return (line.split(",") for line in lines[0 if begins else 1 :] if not begins or line.startswith(begins))


@lru_cache(maxsize=1)
def sources() -> dict[str, tuple[str, str]]:
    """Where prices are from, and for some the date of all of them, by the word that rows have for it."""
    return {name: (",".join(what).strip('"'), as_of) for name, *what, as_of in rows("sources.csv")}

"""Functions that workers call in the tests of the Airflow provider: they import this module alone."""

from __future__ import annotations

import time
from pathlib import Path


def works(item: int, folder: str) -> int:
    """Leaves a mark for each call; odd items fail until somebody mends them."""
    marks = Path(folder)
    with (marks / f"call-{item}").open("a") as calls:
        calls.write("x")
    if item % 2 and not (marks / "mended").exists():
        raise ValueError(f"item {item}")
    return item * 10


def sleeps(item: float) -> float:
    """Takes as long as it says."""
    time.sleep(item)
    return item


def sums(items: list[int]) -> list[int]:
    """Takes several at once."""
    return [sum(items)] * len(items)


def works_when_told(item: int, folder: str) -> int:
    """The same, but that none fails, and item 2 does not end until somebody tells."""
    marks = Path(folder)
    with (marks / f"call-{item}").open("a") as calls:
        calls.write("x")
    while item == 2 and not (marks / "told").exists():
        time.sleep(0.05)
    return item * 10

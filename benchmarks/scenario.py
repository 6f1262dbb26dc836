"""The nouns of a benchmark: a scenario, its cases, the record of their runs, and targets read off it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple


class Case(NamedTuple):
    """One contender at one size."""

    contender: str
    size: int
    repeats: int


class Spread(NamedTuple):
    """Several measurements of one thing.

    >>> Spread.of([3.0, 1.0, 2.0])
    Spread(median=2.0, least=1.0, most=3.0, runs=3)
    """

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Their median, least and most."""
        return cls(median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Record:
    """What was measured, as it lies in the JSON file.

    `runs` holds one flat mapping a run: contender, size, round, and figures by name.
    """

    scenario: str
    conditions: dict[str, Any]
    runs: list[dict[str, Any]]

    def figures(self, contender: str, size: int, name: str) -> dict[int, float]:
        """One figure of one case, by round; empty where the case has no such figure."""
        runs = [r for r in self.runs if (r["contender"], r["size"]) == (contender, size)]
        return {r["round"]: r[name] for r in runs if name in r}

    def spread(self, contender: str, size: int, name: str) -> Spread | None:
        """One figure over all rounds; None where the case was not run."""
        values = self.figures(contender, size, name)
        return Spread.of(list(values.values())) if values else None

    def ratio(self, size: int, name: str, over: str, under: str) -> Spread | None:
        """One contender's figure over another's, each pair from the same round.

        >>> runs = [{"contender": c, "size": 1, "round": 0, "wall_s": s} for c, s in (("a", 6.0), ("b", 3.0))]
        >>> Record("demo", {}, runs).ratio(1, "wall_s", "a", "b").median
        2.0
        """
        a, b = self.figures(over, size, name), self.figures(under, size, name)
        pairs = [a[i] / b[i] for i in a.keys() & b.keys()]
        return Spread.of(pairs) if pairs else None


@dataclass(frozen=True, slots=True)
class Column:
    """A figure to show: its name in a run, its heading, and how it is written."""

    name: str
    heading: str
    form: str


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about a record: the median of `measured` is at least, or at most, `limit`."""

    text: str
    measured: Callable[[Record], Spread | None]
    limit: float
    at_least: bool = False

    def met(self, spread: Spread) -> bool:
        """Whether the median keeps the promise."""
        return spread.median >= self.limit if self.at_least else spread.median <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A question, the cases that answer it, and how to read the answer.

    `measure(contender, size)` runs in a process of its own and returns figures; the harness adds `wall_s`, from the
    start of that process to its end.
    """

    name: str
    title: str
    about: str
    size_heading: str
    cases: Callable[[bool], list[Case]]  #: given whether the run is a quick one
    measure: Callable[[str, int], dict[str, float]]
    columns: tuple[Column, ...]
    targets: tuple[Target, ...]
    not_run: str = ""

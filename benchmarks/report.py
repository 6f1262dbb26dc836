"""Records in; tables on the terminal and docs/performance.md out. Every figure in the document comes from a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.scenario import Column, Record, Scenario, Spread
from benchmarks.timing import ABSENT, RESULTS, find

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
SCENARIOS = (
    "noop_map",
    "round_trip",
    "uneven",
    "arrays",
    "closure",
    "decisions",
    "prefect_map",
    "aws_calls",
    "aws_arrays",
    "aws_store",
    "container_start",
    "image_build",
    "looks",
)
AIRFLOW = ("airflow_map", "airflow_triggers", "airflow_parse")  #: in an environment of their own
HEAD = """\
# Performance

Written by `make bench` and `make bench-airflow` from the records in `benchmarks/results/`; do not edit. A cell is the
median of its runs, with the least and the most in brackets. Every run is a fresh process; contenders take turns, every
other round in reverse, so that a busy minute hits all. A ratio is taken between runs of the same round. Peers run for
comparison only, with two workers, each as it comes.
"""


def load(name: str) -> Record | None:
    """A scenario's record, if there is one."""
    path = RESULTS / f"{name}.json"
    return Record(**json.loads(path.read_text())) if path.exists() else None


def written(spread: Spread | None, form: str) -> str:
    """A cell.

    >>> written(Spread(2.0, 1.0, 3.0, 3), ".1f"), written(Spread(2.0, 2.0, 2.0, 1), ".1f"), written(None, "")
    ('2.0 (1.0–3.0)', '2.0', '–')
    """
    if spread is None:
        return "–"
    middle = format(spread.median, form)
    return middle if spread.runs == 1 else f"{middle} ({spread.least:{form}}–{spread.most:{form}})"


def cases_table(scenario: Scenario, record: Record) -> Iterator[list[str]]:
    """A heading, then a row a case."""
    yield ["contender", scenario.size_heading, *(column.heading for column in scenario.columns), "runs"]
    for contender, size in sorted({(r["contender"], r["size"]): None for r in record.runs}, key=lambda case: case[1]):
        cells = [written(figure(record, contender, size, column), column.form) for column in scenario.columns]
        yield [contender, f"{size:,}", *cells, str(len(record.figures(contender, size, "wall_s")))]


def figure(record: Record, contender: str, size: int, column: Column) -> Spread | None:
    """A column's figure; speed is derived from the wall time."""
    if column.name != "items_per_s":
        return record.spread(contender, size, column.name)
    return Spread.of([size / wall_s for wall_s in record.figures(contender, size, "wall_s").values()])


def targets_table(scenario: Scenario, record: Record) -> Iterator[list[str]]:
    """A heading, then a row a target, met or not."""
    yield ["target", "wanted", "measured", ""]
    for target in scenario.targets:
        spread = target.measured(record)
        wanted = f"{'≥' if target.at_least else '≤'} {target.limit:g}"
        verdict = "" if spread is None else "met" if target.met(spread) else "**not met**"
        yield [target.text, wanted, written(spread, ".2f"), verdict]


def markdown(rows: Iterator[list[str]]) -> str:
    """A table.

    >>> print(markdown(iter([["a", "b"], ["1", "2"]])))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" if row else "|---" * len(head) + "|" for row in [head, [], *body])


def section(scenario: Scenario, record: Record) -> str:
    """A scenario's part of the document."""
    seen = record.conditions
    there = {name: version for name, version in seen["versions"].items() if version != ABSENT}
    versions = ", ".join(f"{name} {version}" for name, version in there.items())
    measured = (
        f"Measured {seen['date']} on {seen['cpus']} CPUs ({seen['cpu_model']}), load {seen['load_before']} before the "
        f"start, {seen['system']}, Python {seen['python']}; {versions}."
    )
    tables = [markdown(cases_table(scenario, record)), markdown(targets_table(scenario, record))]
    return "\n\n".join([f"## {scenario.title}", scenario.about, *tables, *filter(None, [scenario.not_run]), measured])


def show(scenario: Scenario, record: Record) -> None:
    """The same tables on the terminal."""
    console = Console()
    for rows in (cases_table(scenario, record), targets_table(scenario, record)):
        table = Table(*next(rows), title=scenario.title)
        for row in rows:
            table.add_row(*(cell.strip("*") for cell in row))
        console.print(table)


def document() -> str:
    """docs/performance.md, from what has been recorded."""
    recorded = [(find(name), record) for name in (*SCENARIOS, *AIRFLOW) if (record := load(name))]
    return "\n\n".join([HEAD.strip(), *(section(scenario, record) for scenario, record in recorded)]) + "\n"


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(document())
    print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()

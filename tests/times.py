"""How long each test of a run took, set-up and end included, in a file; and the shares by folder.

A pytest plugin, named in `pyproject.toml`. `python -m tests.times FILE` prints the shares.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

_FOLDER = "times"  #: below pytest's cache folder; one file a run


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--times NAME` names the file, so that each part of the suite keeps its own."""
    parser.addoption("--times", default="last", metavar="NAME", help="keep each test's seconds in a file of this name")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Keep the times, longest first, where they can be compared with the next run's."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] += report.duration
    cache = getattr(config, "cache", None)  # which a plugin brings that may be left out
    if not seconds or cache is None:
        return
    lines = [f"{spent:.3f}\t{name}\n" for name, spent in sorted(seconds.items(), key=lambda each: -each[1])]
    file = cache.mkdir(_FOLDER) / f"{config.getoption('times')}.tsv"
    file.write_text("".join(lines))
    terminalreporter.write_line(f"each test's time: {file}")


def shares(lines: list[str]) -> list[str]:
    r"""Seconds, share and number of tests by folder, most first.

    >>> print(*shares(["3.0\ttests/a/test_x.py::test_1\n", "1.0\ttests/test_y.py::test_2\n"]), sep="\n")
         3.0 s   75 %     1  tests/a
         1.0 s   25 %     1  tests
    """
    spent: defaultdict[str, list[float]] = defaultdict(list)
    for line in lines:
        seconds, name = line.rstrip("\n").split("\t", 1)
        spent[str(Path(name.partition("::")[0]).parent)].append(float(seconds))
    total = sum(map(sum, spent.values())) or 1.0
    return [
        f"{sum(each):8.1f} s  {sum(each) / total:4.0%} {len(each):5}  {folder}".replace("%", " %")
        for folder, each in sorted(spent.items(), key=lambda item: -sum(item[1]))
    ]


if __name__ == "__main__":
    print(*shares(Path(sys.argv[1]).read_text().splitlines()), sep="\n")

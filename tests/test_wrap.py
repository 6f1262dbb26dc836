"""Lines for people are broken at blanks on a terminal, and nowhere else."""

from __future__ import annotations

import io

import pytest

from starburst_common.cli.wrap import wrapped

LINE = "  role starburst-main-us-east-1-infrastructure: it lacks what `starburst iam-policy infrastructure` prints"


class Terminal(io.StringIO):
    """One that is narrow."""

    def isatty(self) -> bool:
        return True


def test_lines_break_at_blanks_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are indented; a word that is longer than the terminal is wide stays whole."""
    monkeypatch.setenv("COLUMNS", "60")
    lines = wrapped(LINE, Terminal()).splitlines()
    assert all(len(line) <= 60 for line in lines) and len(lines) == 2 and lines[1].startswith("    ")
    assert " ".join(map(str.strip, lines)) == LINE.strip()
    assert wrapped("x" * 100, Terminal()) == "x" * 100
    assert wrapped(LINE, Terminal(), indent=0).splitlines()[1][0] != " "


@pytest.mark.parametrize("columns", ["60", "200"])
def test_other_lines_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """Those in a pipe, for who greps them, and those that are short."""
    monkeypatch.setenv("COLUMNS", columns)
    assert wrapped(LINE, io.StringIO()) == LINE
    assert wrapped("short", Terminal()) == "short"

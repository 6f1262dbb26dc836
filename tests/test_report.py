"""The page on a run: what it says, what it leaves out, and where it lies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from starburst_common import Cluster, Resources, attach
from starburst_common.cli.show import run_fields
from starburst_common.local import local_backend
from starburst_common.model import Failure, FailureKind, RunId, RunState, RunStatus, Span
from starburst_common.money.estimate import estimate_of
from starburst_common.runs.events import EventKind, RunEvent
from starburst_common.runs.report import report_page
from starburst_common.runs.tally import Settled
from tests.browser import seen
from tests.calls import add

EVIL = """<script>alert("no")</script> & it's </script>"""


def page_of(
    *,
    items: int | None = 10,
    answered: int = 10,
    failures: int = 0,
    chunks: int = 1,
    events: Sequence[RunEvent] = (),
    **about: str,
) -> str:
    """The page of a run that is made up."""
    status = RunStatus(
        id=RunId("run-1"),
        state=RunState.RUNNING if items is None else RunState.FAILED,
        label="",
        items=items,
        answered=answered,
        failed=failures,
        workers=0,
        created_at=0.0,
        ended_at=90.0,
        slot_seconds=120.0,
    )
    size = answered // max(chunks, 1)
    return report_page(
        status,
        about=about,
        estimate=estimate_of(status, Resources.of(1)),
        settled=[
            Settled(
                span=Span(at * size, (at + 1) * size),
                answered=(Span(at * size, (at + 1) * size),),
                failed=0,
                first_failure=None,
                worker=f"worker-{at % 2}",
                seconds=float(size * (at + 1)),
            )
            for at in range(chunks)
        ],
        events=events,
        failures=[
            Failure(index=at, kind=FailureKind.USER, error="ValueError", message=f"{EVIL} {at}", traceback=EVIL * 1000)
            for at in range(failures)
        ],
        now=0.0,
    )


def embedded(page: str) -> dict[str, Any]:
    """What the page's script knows."""
    found = re.search(r"const run = (.*), chunks = (.*), failures = (.*);\nconst lookupTo = (.*?), field", page)
    assert found is not None
    return dict(zip(("run", "chunks", "failures", "to"), map(json.loads, found.groups()), strict=True))


def test_the_page_tells_how_a_run_stands() -> None:
    """Its figures, its workers, and the price with source and date."""
    page = unescape(page_of(chunks=2, function="score", tags=""))
    for text in (
        "run-1",
        "10 of 10 answered",
        '<th scope="row">function</th><td>score</td>',
        "1 min 30 s",
        "on Fargate in us-east-1 (prices of 20",
        "https://pricing.us-east-1.amazonaws.com/",
        "<code>worker-1</code>",
        "starburst status run-1",
    ):
        assert text in page
    assert "tags" not in page
    assert embedded(page) == {"run": "run-1", "chunks": [[0, 5, "worker-0", "1.0 s"], [5, 10, "worker-1", "2.0 s"]]} | {
        "failures": [],
        "to": None,
    }


def test_workers_durations_and_the_first_of_each_failure_are_shown() -> None:
    """Waves of workers as steps, how long items took as bars, and what was printed first of what failed alike."""
    events = [
        RunEvent(kind=EventKind.WORKERS, at=at, workers=alive, count=alive // 2)
        for at, alive in ((9.0, 2), (45.0, 4), (81.0, 2))
    ]
    page = page_of(chunks=5, failures=3, events=events)
    assert "workers alive, of these at work; at most 4" in page
    steps = "0.0,100.0 100.0,100.0 100.0,50.0 500.0,50.0 500.0,0.0 900.0,0.0 900.0,50.0 1000.0,50.0 1000.0,50.0"
    assert f'class="alive" points="{steps} ' in page
    heights = [float(height) for height in re.findall(r'<div style="height: ([0-9.]+)%" title="', page)]
    assert heights == [50.0, 0.0, 0.0, 50.0, 50.0, 0.0, 100.0]  # 1 to 5 s
    assert page.count('<div class="dim">the first, item 0</div>') == 1


def test_costs_stand_beside_what_the_runs_before_let_expect(tmp_path: Path) -> None:
    """By component; the first run of a function has nothing to be held against. So do `status` and the manifest."""
    backend = local_backend(tmp_path)
    pages, told = [], []
    for number in range(2):
        to = tmp_path / f"out{number}"
        with Cluster(workers=1, backend=backend, progress=False) as cluster:
            run = cluster.start(abs, range(4), results_to=f"{to}/*.jsonl")
            run.wait()
        pages.append(Path(unquote(urlsplit(run.report()).path)).read_text())
        status, manifest = run_fields(run, run.status()), json.loads((to / "manifest.json").read_text())
        assert manifest["cost"]["region"] == "us-east-1" and manifest["cost"]["usd"] > 0
        assert manifest["cost"]["by_component"].keys() == status["aws_estimate"]["by_component"].keys()
        told.append((status["expected"], manifest["cost"]["expected"]))
    assert told[0] == (None, None)
    for expected in told[1]:
        assert expected["runs"] == 1 and expected["usd_between"][0] <= expected["usd"] <= expected["usd_between"][1]
        assert abs(expected["off"]) < 100
    assert re.search(r"\$\S+ expected \(\$\S+ to \$\S+, by 1 run before\): [\d.]+% (cheaper|dearer)", pages[1])
    first, second = ("expected, by the runs before" in page for page in pages)
    assert (first, second) == (False, True)
    assert re.search(r'<th scope="row">compute</th><td class="n">\$[\d.]+</td><td class="n">\$[\d.]+</td>', pages[1])


def test_a_run_that_nothing_is_known_of_has_a_page() -> None:
    """Its items are still being read, and none is answered."""
    assert "0 answered" in page_of(items=None, answered=0, chunks=0)


def test_what_functions_say_is_text() -> None:
    """A message cannot put anything into the page."""
    page = page_of(failures=2)
    assert page.count("<script>") == page.count("</script>") == 1
    assert f"ValueError: {EVIL} 1" in unescape(page)
    assert embedded(page)["failures"][1]["message"] == f"{EVIL} 1"


def test_what_is_no_utf8_is_shown_escaped() -> None:
    """As the name of a file may be that a message tells: such a run has a report, too."""
    page = page_of(failures=1, function="read_\udcff")
    assert "read_\\udcff" in page.encode().decode()


def test_the_page_stays_of_a_size_to_open() -> None:
    """The first thousand failures, the ends of long tracebacks, and the items of five thousand chunks; it says so."""
    page = page_of(items=20_000, answered=20_000, failures=1500, chunks=10_000)
    known = embedded(page)
    assert (len(known["failures"]), len(known["chunks"]), known["to"]) == (1000, 5000, 10_000)
    assert len(known["failures"][0]["traceback"]) < 10_000
    assert "Failures: 1,500" in page
    assert "starburst failures run-1 -n 0" in page


@pytest.mark.parametrize(("scheme", "width", "page"), [("light", 1100, (255, 255, 255)), ("dark", 500, (20, 25, 38))])
def test_a_browser_shows_it_well(tmp_path: Path, scheme: str, width: int, page: tuple[int, int, int]) -> None:
    """With 100,000 items, in light and dark, also in a narrow window: nothing is logged, nothing to be scrolled
    sideways, all text has the contrast that is to be read, and an item is found.
    """
    moments = range(1, 90, 3)
    events = [RunEvent(kind=EventKind.WORKERS, at=at, words="", workers=40, count=min(at, 38)) for at in moments]
    events += [RunEvent(kind=EventKind.SETTLED, at=at, words="", answered=at * 1111) for at in moments]
    events += [RunEvent(kind=EventKind.WAITS, at=3, words="the Fargate vCPU quota")]
    file = tmp_path / "report.html"
    file.write_text(page_of(items=100_000, answered=100_000, failures=200, chunks=6000, events=events, tags="team=a"))
    shown = seen(file, scheme, width, item=7)
    assert (shown.logged, shown.faint, shown.scrolls) == ([], [], 0)
    assert (shown.width, shown.page) == (width, f"rgb{page}")
    assert shown.texts > 500 and shown.found.startswith("Answered by worker-0 with items 0 to 15, ")


def picky(item: int) -> int:
    """Not every item is to its taste."""
    if item == 7:
        raise ValueError("seven")
    return item


@pytest.mark.parametrize("held", [True, False], ids=["its driver", "attached"])
def test_a_runs_report_is_a_file_here(tmp_path: Path, held: bool) -> None:
    """Written anew each time, kept with the run, the same from the process that ran it and from any other."""
    backend = local_backend(tmp_path / "home")
    try:
        with Cluster(workers=1, backend=backend, progress=False, tolerate=1) as cluster:
            run = cluster.start(picky, range(10), label="a <label>")
            before = run.report()
            run.wait()
            run = run if held else attach(run.id, backend=backend)
            url = run.report()
        assert url == before
        page = Path(unquote(urlsplit(url).path)).read_text()
        assert page == bytes(backend.store.get(f"runs/{run.id}/report.html")).decode()
        text = unescape(page)
        assert "a <label> <span" in text and "a <label>" not in page
        assert "10 of 10 answered, 1 failed" in text
        assert "ValueError: seven" in text
        (failure,) = embedded(page)["failures"]
        assert failure["item"] == 7 and 'raise ValueError("seven")' in failure["traceback"]
        assert embedded(page)["chunks"][0][0] == 0
    finally:
        backend.close()


def test_a_report_of_a_run_without_failures(tmp_path: Path) -> None:
    """It speaks of none."""
    backend = local_backend(tmp_path / "home")
    try:
        with Cluster(workers=1, backend=backend, progress=False) as cluster:
            run = cluster.start(add, range(3))
            run.wait()
            page = Path(unquote(urlsplit(run.report()).path)).read_text()
        assert "Failures" not in page
    finally:
        backend.close()


def test_a_run_and_what_ran_its_failures_again_name_each_other(tmp_path: Path) -> None:
    """Who has the one link finds the other page."""
    backend = local_backend(tmp_path / "home")
    try:
        with Cluster(workers=1, backend=backend, progress=False, tolerate=1) as cluster:
            run = cluster.start(picky, range(10))
            run.wait()
            again = run.retry_failed(add)
            again.wait()
            pages = [Path(unquote(urlsplit(each.report()).path)).read_text() for each in (run, again)]
        assert "run again by" in pages[0] and again.id in pages[0] and "retry of" not in pages[0]
        assert "retry of" in pages[1] and run.id in pages[1] and "run again by" not in pages[1]
    finally:
        backend.close()

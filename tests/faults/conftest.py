"""Whole runs with real processes under faults, on each backend from the same tests; after each, nothing may be left."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from starburst_common.local.queue import LocalQueue
from starburst_common.names import FLEETS, RUNS
from starburst_common.ports import Backend
from tests.leftovers import processes_in, staging_files, supervisors_in
from tests.places import aws_text, local_text, open_place
from tests.testbed.bed import Bed as Aws


@dataclass
class Bed:
    """A backend of its own, and a folder in which functions note their calls."""

    backend: Backend
    notes: Path
    text: str  #: names the backend to other processes; see `tests.places.open_place`

    def workers(self) -> list[Any]:
        """The workers that really run now."""
        raise NotImplementedError

    def signal_workers(self, number: int, count: int) -> None:
        """Signal the first process of so many workers."""
        raise NotImplementedError

    def spoil_workers(self, patch: pytest.MonkeyPatch, say: str, code: int) -> None:
        """From now on a worker's program only says something and ends with a code."""
        raise NotImplementedError

    def mend_workers(self) -> None:
        """From now on it is a worker again."""
        raise NotImplementedError

    def hide_logs(self) -> None:
        """From now on nobody can read what the workers there are print."""
        raise NotImplementedError

    def left(self) -> list[str]:
        """What is there that should not be once all runs are over."""
        raise NotImplementedError

    def end(self) -> None:
        """End whatever was started."""
        raise NotImplementedError

    def calls(self) -> Counter[int]:
        """How often each item was run."""
        return Counter(int(line) for file in self.notes.glob("*") for line in file.read_text().split())

    def objects(self) -> list[str]:
        """Every key of the store that belongs to a run or a fleet."""
        return [key for folder in (RUNS, FLEETS) for key in self.backend.store.list(folder)]

    def until(self, there: Callable[[], bool], within_s: float = 120.0) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + within_s
        while not there():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.01)


class LocalBed(Bed):
    """On this machine, in a folder."""

    def __init__(self, folder: Path, notes: Path) -> None:
        self.home = folder
        super().__init__(open_place(local_text(folder)), notes, local_text(folder))

    def workers(self) -> list[Any]:
        return supervisors_in(self.home)

    def signal_workers(self, number: int, count: int) -> None:
        for pid in self.workers()[:count]:
            os.kill(pid, number)

    def spoil_workers(self, patch: pytest.MonkeyPatch, say: str, code: int) -> None:
        folder = self.home.parent / "spoiled"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            "import os, sys\n"
            "if 'starburst_worker' in sys.orig_argv:\n"
            f"    os.write(1, {say.encode()!r})\n"
            f"    os._exit({code})\n"
        )
        patch.setenv("PYTHONPATH", str(folder))

    def mend_workers(self) -> None:
        (self.home.parent / "spoiled" / "sitecustomize.py").unlink()

    def hide_logs(self) -> None:
        for log in (self.home / "workers").glob("*/*.log"):
            log.unlink()
            log.mkdir()  # may not be read by the superuser either

    def left(self) -> list[str]:
        queue = self.backend.queue
        assert isinstance(queue, LocalQueue)
        over = [self.home / "store" / "runs" / run for run in self.backend.store.folders(RUNS)]
        drafts = [draft for run in over if (run / "end").exists() for draft in staging_files(run)]
        return [
            *(f"process {pid}" for pid in processes_in(self.home)),
            *(f"queue {name}" for name in queue.names()),
            *map(str, (self.home / "workers").glob("*")),
            *self.backend.store.list(FLEETS),
            *map(str, drafts),
        ]

    def end(self) -> None:
        for pid in processes_in(self.home):
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(pid, signal.SIGKILL)


class AwsBed(Bed):
    """On the test bed, where each worker is an ECS task that really runs."""

    def __init__(self, aws: Aws, notes: Path, **site: str) -> None:
        self.aws = aws
        aws.grant({**aws.site, **site})
        text = aws_text({**aws.site, **site})
        super().__init__(open_place(text), notes, text)

    def workers(self) -> list[Any]:
        """Those that ECS has not seen stop yet, which may be a moment after they did."""
        return [task["id"] for task in self.aws.tasks() if task["last_status"] != "STOPPED"]

    def signal_workers(self, number: int, count: int) -> None:
        self.aws.signal(number, count=count)

    def spoil_workers(self, patch: pytest.MonkeyPatch, say: str, code: int) -> None:
        program = f"import os; os.write(1, {say.encode()!r}); os._exit({code})"
        self.aws.set(command=["python", "-c", program])

    def mend_workers(self) -> None:
        self.aws.set(command=[])

    def hide_logs(self) -> None:
        self.aws.fault(
            service="logs", operation="GetLogEvents", code="AccessDeniedException", status=400, probability=1.0
        )

    def left(self) -> list[str]:
        found = self.aws.leftovers()
        return [
            *(f"{kind} {name}" for kind in ("tasks", "processes", "queues") for name in found[kind]),
            *(key for key in found["objects"] if key.startswith(FLEETS)),
        ]

    def end(self) -> None:
        self.aws.reset()


def noting(notes: Path, *, seconds: float = 0.0) -> Callable[[int], int]:
    """A function that doubles its item and notes that it ran."""

    def double(item: int) -> int:
        import os
        import time

        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{item}\n")
        if seconds:
            time.sleep(seconds)
        return item * 2

    return double


def held_at(bed: Bed, held: Callable[[int], bool]) -> Callable[[int], int]:
    """The same, which waits at some items until they are let go."""
    double, gate = noting(bed.notes), Path(f"{bed.notes}.go")

    def wait(item: int) -> int:
        import os
        import time

        while held(item) and not gate.exists():
            gate.with_suffix(f".{os.getpid()}").touch()
            time.sleep(0.01)
        return double(item)

    return wait


@contextmanager
def holding(bed: Bed, slots: int) -> Iterator[None]:
    """While so many slots are in the midst of what `held_at` holds; then it is let go."""
    gate = Path(f"{bed.notes}.go")
    bed.until(lambda: len([*gate.parent.glob(f"{gate.stem}.[0-9]*")]) >= slots)
    yield
    gate.touch()


def watched(bed: Bed) -> Iterator[Any]:
    """The bed, with nothing left in it at the end."""
    bed.notes.mkdir()
    yield bed
    try:
        deadline = time.monotonic() + 60.0
        while bed.left() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert bed.left() == []
    finally:
        bed.end()
        bed.backend.close()


#: For tests of a fault of each kind: on AWS, too, before every commit.
on_both = pytest.mark.parametrize("bed", ["local", "aws"], indirect=True)


@pytest.fixture(params=["local", pytest.param("aws", marks=pytest.mark.rest)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    """Each backend in turn; the same code runs on both, so AWS is left to `make test-all` where a test says nothing."""
    notes = tmp_path / "notes"
    if request.param == "local":
        yield from watched(LocalBed(tmp_path / "home", notes))
    else:
        yield from watched(AwsBed(request.getfixturevalue("aws"), notes))


@pytest.fixture
def local_bed(tmp_path: Path) -> Iterator[LocalBed]:
    """This machine, for what is its own."""
    yield from watched(LocalBed(tmp_path / "home", tmp_path / "notes"))


@pytest.fixture
def aws_bed(aws: Aws, tmp_path: Path) -> Iterator[AwsBed]:
    """The test bed, for faults that only AWS has."""
    yield from watched(AwsBed(aws, tmp_path / "notes"))

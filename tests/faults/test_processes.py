"""What an item starts: it can hang nothing, and goes with its slot, whatever ends that."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starburst_common import Cluster, ItemTimeout, OutOfMemory, RunState, WorkerLost, starburst_map
from tests.faults.conftest import Bed, on_both
from tests.leftovers import alive

KINDS = 5  #: how many processes `start_all` notes


def note(folder: Path) -> None:
    """This process runs."""
    draft = folder / f"{os.getpid()}.draft"
    draft.touch()
    draft.rename(folder / f"started-{os.getpid()}")


def start_all(folder: Path) -> Any:
    """A fork that holds all that the slot has, a program, a pool of two, and a daemon that hides; the pool."""
    if os.fork() == 0:
        note(folder)
        time.sleep(600)
    said = f'touch "{folder}/started-$$"; exec sleep 600'
    subprocess.Popen(["sh", "-c", said])
    pool = multiprocessing.get_context("fork").Pool(2, note, (folder,))
    if os.fork() == 0:
        os.setsid()
        os.chdir("/")
        if os.fork() == 0:
            os.closerange(0, 1000)
            os.execve("/bin/sh", ["sh", "-c", said], {"PATH": "/usr/bin:/bin"})
        os._exit(0)
    while len(started(folder)) < KINDS:
        time.sleep(0.01)
    return pool


def started(folder: Path) -> list[int]:
    """The processes that were noted."""
    return [int(file.name.partition("-")[2]) for file in folder.glob("started-*")]


def hang() -> None:
    """In C, with the interpreter's lock: no other thread of the slot can do anything."""
    ctypes.PyDLL(None).sleep(600)


def hoard() -> None:
    """More memory than there is."""
    hoarded = [bytearray(os.urandom(1 << 20) * 8) for _ in range(200)]
    time.sleep(len(hoarded))


def ends(folder: Path, how: Callable[[], object]) -> Callable[[int], int]:
    """A function whose item 0 starts all kinds of processes and then ends in a certain way."""

    def maybe(item: int) -> int:
        if item == 0:
            start_all(folder)
            how()
        return item

    return maybe


@pytest.mark.parametrize(
    ("how", "options", "error", "says"),
    [
        (hang, {"timeout": 2.0}, ItemTimeout, "longer than 2 s"),
        (lambda: os._exit(3), {}, WorkerLost, "exited with code 3"),
        (lambda: os.kill(os.getppid(), signal.SIGKILL) or hang(), {}, WorkerLost, "signal 9"),
        pytest.param(*(hoard, {"cpu": 0.25, "memory": "512MB"}, OutOfMemory, "of its 512 MiB"), marks=pytest.mark.rest),
    ],
    ids=["timeout", "exit", "guard", "memory"],
)
def test_what_an_item_started_goes_with_its_slot(
    bed: Bed, how: Callable[[], object], options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Nothing it started outlives the slot, or hangs the run by what it inherited; the neighbours are answered."""
    got = starburst_map(
        ends(bed.notes, how),
        range(6),
        workers=1,
        backend=bed.backend,
        progress=False,
        return_exceptions=True,
        **options,
    )
    assert got[1:] == [1, 2, 3, 4, 5]
    assert isinstance(got[0], error) and says in str(got[0])
    assert len(started(bed.notes)) >= KINDS
    assert [pid for pid in started(bed.notes) if alive(pid)] == []


@on_both
def test_what_an_item_started_goes_with_a_cancelled_run(bed: Bed) -> None:
    """Though the slot is in C code and hears nothing."""
    with Cluster(workers=1, backend=bed.backend.paced(lease_s=1.5), progress=False) as cluster:
        run = cluster.start(ends(bed.notes, hang), range(2))
        bed.until(lambda: len(started(bed.notes)) == KINDS)
        run.cancel()
        assert run.wait(120).state is RunState.CANCELLED
        bed.until(lambda: not any(map(alive, started(bed.notes))))


def test_what_an_item_started_goes_with_a_killed_worker(local_bed: Bed) -> None:
    """The worker has no time to do anything, and the slot is in C code; another worker does the work.

    On ECS all of this ends with the container, whose first process the worker is.
    """
    bed = local_bed
    first, free = bed.notes, f"{bed.notes}.free"

    def once(item: int) -> int:
        if item == 0 and not Path(free).exists():
            start_all(first)
            hang()
        return item

    with Cluster(workers=1, backend=bed.backend.paced(lease_s=1.5), progress=False) as cluster:
        run = cluster.start(once, range(4))
        bed.until(lambda: len(started(first)) == KINDS)
        Path(free).touch()
        bed.signal_workers(signal.SIGKILL, 1)
        bed.until(lambda: not any(map(alive, started(first))))
        assert run.results() == [0, 1, 2, 3]


def test_what_an_item_leaves_lives_as_long_as_its_slot(bed: Bed) -> None:
    """A pool that a function keeps serves the next item; when the worker goes, so does all that is left.

    The slot is asked to end first, and does what a process does at its end.
    """

    notes, pools = bed.notes, list[Any]()

    def pooled(item: int) -> int:
        if not pools:
            pools.append(start_all(notes))
            atexit.register((notes / "asked").touch)
        return int(pools[0].apply(abs, (item,)))

    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        assert cluster.map(pooled, range(4), chunk_size=1) == [0, 1, 2, 3]
        assert len(started(notes)) == KINDS and all(map(alive, started(notes)))
    bed.until(lambda: not any(map(alive, started(notes))))
    assert (notes / "asked").exists()


def test_a_child_of_a_process_that_has_mapped_maps_too(tmp_path: Path) -> None:
    """However it was started, in the midst of the parent's own work too, with the script's functions and classes."""
    (tmp_path / "maps.py").write_text(
        "import multiprocessing, time, warnings\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from starburst_common import Cluster, StarburstExecutor, starburst_map\n"
        "class Own:\n"
        "    def __init__(self, x): self.x = x\n"
        "def doubled(own): return Own(2 * own.x)\n"
        "def mapped(x):\n"
        "    try:\n"
        "        (got,) = starburst_map(doubled, [Own(x)], workers=1, backend='local', progress=False)\n"
        "        with StarburstExecutor(1, backend='local') as pool: more = pool.submit(doubled, got).result()\n"
        "    except Exception as error: return error\n"
        "    return type(got) is Own, got.x, more.x\n"
        "def in_a(how):\n"
        "    with multiprocessing.get_context(how).Pool(1) as pool: print(pool.map(mapped, [1]))\n"
        "if __name__ == '__main__':\n"
        "    warnings.simplefilter('ignore')\n"
        "    in_a('fork'), print([mapped(1)]), in_a('fork'), in_a('spawn')\n"
        "    with ProcessPoolExecutor(1, multiprocessing.get_context('fork')) as pool:\n"
        "        print([pool.submit(mapped, 1).result()])\n"
        "    with Cluster(workers=1, backend='local', progress=False) as cluster:\n"
        "        run = cluster.start(time.sleep, [0.1] * 20, chunk_size=1)\n"
        "        in_a('fork'), in_a('fork')\n"
        "        print([mapped(1)], len(run.results()))\n"
    )
    done = run_script(tmp_path / "maps.py")
    assert done.stdout.splitlines() == [*7 * ["[(True, 2, 4)]"], "[(True, 2, 4)] 20"]


def test_a_fork_leaves_the_cluster_to_the_process_that_opened_it(tmp_path: Path) -> None:
    """It may leave the `with` block as it likes: it ends as it wanted, and the workers go on for the other."""
    (tmp_path / "forks.py").write_text(
        "import os, sys\n"
        "from starburst_common import Cluster\n"
        "with Cluster(workers=1, backend='local', progress=False) as cluster:\n"
        "    future = cluster.submit(abs, -1)\n"
        "    if (child := os.fork()) == 0: sys.exit(3)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), future.result(), cluster.map(abs, [-2]))\n"
    )
    done = run_script(tmp_path / "forks.py")
    assert (done.stdout, done.stderr) == ("3 1 [2]\n", "")


def test_a_fork_reads_its_parents_run_and_is_told_of_its_executor(tmp_path: Path) -> None:
    """Their threads are not in it: a run it drives on from what is stored, calls that nobody would answer it refuses.

    An executor that was not used yet is the fork's to use; the parent goes on with its own.
    """
    (tmp_path / "forks.py").write_text(
        "import os\n"
        "from starburst_common import Cluster, StarburstExecutor\n"
        "def in_a_fork(does):\n"
        "    if (child := os.fork()) == 0:\n"
        "        try: print(does(), flush=True)\n"
        "        except RuntimeError as error: print(str(error).partition(':')[2], flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "unused = StarburstExecutor(1, backend='local')\n"
        "in_a_fork(lambda: unused.submit(abs, -3).result())\n"
        "with Cluster(workers=1, backend='local', progress=False) as cluster:\n"
        "    run = cluster.start(abs, [-1, -2])\n"
        "    in_a_fork(run.results)\n"
        "    print(run.results(), cluster.submit(abs, -4).result())\n"
        "    in_a_fork(lambda: cluster.submit(abs, -5).result())\n"
        "    print(cluster.submit(abs, -6).result())\n"
    )
    done = run_script(tmp_path / "forks.py")
    assert done.stdout.splitlines() == ["3", "[1, 2]", "[1, 2] 4", " make an executor here", "6"]
    assert done.stderr == ""


def test_threads_of_a_run_import_nothing(tmp_path: Path) -> None:
    """A module that one imports just as its process forks would be half imported in the child, for good."""
    (tmp_path / "imports.py").write_text(
        "import sys, threading, time\n"
        "from starburst_common import Cluster\n"
        "def fails(item): raise ValueError(item)\n"
        "def hears(event, told):\n"
        "    if event == 'import' and threading.current_thread().name.startswith('starburst'): print(told[0])\n"
        "sys.addaudithook(hears)\n"
        "with Cluster(workers=1, backend='local', progress=False) as cluster:\n"
        "    cluster.submit(abs, -4).result()\n"
        "    cluster.start(abs, [-1, -2]).results()\n"
        "    print(len(cluster.start(fails, [1], return_exceptions=True).results()))\n"
        "    run = cluster.start(time.sleep, [9])\n"
        "    run.cancel()\n"
        "    print(run.wait(60).state)\n"
    )
    assert run_script(tmp_path / "imports.py").stdout.splitlines() == ["1", "cancelled"]


def test_a_fork_that_returns_from_the_function_answers_nothing(bed: Bed) -> None:
    """Both processes come back from the function; only the slot goes on."""

    def twice(item: int) -> int:
        if item % 3 == 0:
            os.fork()
        return os.getpid()

    got = starburst_map(twice, range(30), workers=1, backend=bed.backend, progress=False)
    assert len(set(got)) == 1


def run_script(script: Path) -> subprocess.CompletedProcess[str]:
    """It ran to its end, with a home beside it."""
    env = {**os.environ, "STARBURST_HOME": str(script.with_name("home"))}
    line = [sys.executable, "-W", "ignore:This process:DeprecationWarning", script]  # of Python 3.12 on, for a fork
    return subprocess.run(line, env=env, timeout=120, capture_output=True, text=True, check=True)

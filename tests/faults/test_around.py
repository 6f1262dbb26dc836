"""What an item finds around it: where it stands, its streams, its arguments; and what is left of it at the end."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starburst_common import BadInput, Cluster, ItemFailed, item_seed, starburst_map
from tests.faults.conftest import Bed, LocalBed, on_both


@on_both
def test_each_item_begins_in_the_same_folder(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine the caller's, as it is when the run begins; on AWS one of the slot's own, where files stay."""
    (here := bed.notes / "here").mkdir()
    monkeypatch.chdir(here)

    def wander(item: int) -> tuple[str, int]:
        stood, mask = str(Path.cwd()), os.umask(0)
        with Path("visits.txt").open("a") as file:
            file.write(f"{item} ")
        os.chdir("/")
        return stood, mask

    def vanish(item: int) -> None:
        Path("new").touch()
        shutil.rmtree(Path.cwd())

    def told(item: int) -> None:
        Path("data/nothing.csv").read_text()

    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        stood = cluster.map(wander, range(4))
        assert len(set(stood)) == 1 and stood[0][1] != 0
        local = bed.backend.name == "local"
        assert (stood[0][0] == str(here)) is local
        assert not local or (here / "visits.txt").read_text() == "0 1 2 3 "
        assert cluster.map(vanish, range(4)) == 4 * [None]
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        (error,) = cluster.map(told, [0], return_exceptions=True)
    says = f"stands in {here}" if local else "a folder of its own"
    assert isinstance(error, FileNotFoundError) and says in "".join(error.__notes__)


def test_a_slot_has_the_callers_arguments_and_whole_streams(
    local_bed: LocalBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sys.argv` is as at home; stdout and stderr do what a text stream does, and what they are given is kept."""
    monkeypatch.setattr(sys, "argv", ["mine.py", "--fast", "ä\udcff"])

    def facts(item: int) -> Any:
        for stream in (sys.stdout, sys.stderr):
            stream.write("é\ud800 ")
            stream.buffer.write("ü\n".encode())
            stream.writelines(["one ", "two\n"])
            stream.flush()
            stream.reconfigure(line_buffering=True)
            assert stream.writable() and not stream.readable() and not stream.closed and not stream.isatty()
            assert stream.name in ("<stdout>", "<stderr>") and os.fstat(stream.fileno())
            assert stream.buffer.name == stream.name and stream.buffer.raw.fileno() == stream.fileno()
            assert (stream.mode, stream.encoding, stream.errors) == ("w", "utf-8", "backslashreplace")
            assert stream.newlines is None
        with contextlib.redirect_stdout(sys.stderr):
            print("three")
        subprocess.run(["true"], stdout=sys.stdout, stderr=sys.stderr, check=True)
        return sys.argv

    with Cluster(workers=1, backend=local_bed.backend, progress=False) as cluster:
        run = cluster.start(facts, [0])
        assert run.results() == [["mine.py", "--fast", "ä\udcff"]]
        assert dict(run.logs()) == {0: 2 * "é\\ud800 ü\none two\n" + "three\n"}


def test_hashes_are_alike_on_all_workers(local_bed: LocalBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that sets have one order, unless the user wants another seed."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    code = "print(hash('a'))"
    for seed in ("0", "7"):
        wanted = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, stdout=-1)
        with Cluster(workers=2, slots=2, backend=local_bed.backend, progress=False) as cluster:
            assert set(cluster.map(hash, ["a"] * 8, chunk_size=1)) == {int(wanted.stdout)}
        monkeypatch.setenv("PYTHONHASHSEED", "7")


class Asks:
    """Something that is called, and awaited then."""

    async def __call__(self, item: int) -> int:
        return item


def test_coroutine_functions_are_awaited(local_bed: LocalBed) -> None:
    """In one loop a slot, so that what belongs to a loop can be kept; by whichever way a coroutine comes."""
    loops: list[int] = []

    async def awaits(item: int) -> int:
        await asyncio.sleep(0)
        loops.append(id(asyncio.get_running_loop()))
        return len(set(loops))

    async def more(base: int, item: int) -> int:
        return base + await asyncio.to_thread(abs, item)

    async def fails(item: int) -> None:
        raise LookupError(item)

    with Cluster(workers=1, backend=local_bed.backend, progress=False, return_exceptions=True) as cluster:
        assert cluster.map(awaits, range(4)) == [1, 1, 1, 1]
        assert cluster.map(functools.partial(more, 10), [-1, -2]) == [11, 12]
        assert cluster.map(Asks(), [3]) == [3]
        assert repr(cluster.map(fails, [4])) == "[LookupError(4)]"
        assert cluster.submit(more, 1, -1).result() == 2


def test_an_idle_slot_ends_in_order(local_bed: LocalBed) -> None:
    """What it has open is flushed and what it has registered is called, by the time that the map gives its values."""
    notes, files = local_bed.notes, list[Any]()

    def write(item: int) -> None:
        if not files:
            files.append((notes / "kept").open("w"))
            atexit.register((notes / "asked").write_text, "yes")
        files[0].write(f"{item} ")

    starburst_map(write, range(4), workers=1, backend=local_bed.backend, progress=False)
    assert (notes / "kept").read_text() == "0 1 2 3 " and (notes / "asked").read_text() == "yes"


def loaded(item: int) -> Any:
    """What the initializer has set."""
    return item, model[0], len(model)


def load(*what: str) -> None:
    """Sets a global, as for the standard pool; counts its calls."""
    if not what:
        raise OSError("no model")
    model.extend(what)


model: list[str] = []


@on_both
def test_an_initializer_is_called_once_a_slot_before_the_first_item(bed: Bed) -> None:
    """It sets what the function finds; for a map, a cluster's calls and an executor; if it fails the items say so."""
    own: list[int] = []

    def init(first: int) -> None:
        own.append(first)

    async def init_later() -> None:
        own.append(5)

    options: dict[str, Any] = {"workers": 1, "backend": bed.backend}
    with Cluster(initializer=load, initargs=("a",), progress=False, **options) as cluster:
        assert cluster.map(loaded, range(3), chunk_size=1) == [(0, "a", 1), (1, "a", 1), (2, "a", 1)]
        assert cluster.map(loaded, [3]) == [(3, "a", 1)]
        assert cluster.submit(loaded, 4).result() == (4, "a", 1)
        assert cluster.map(lambda item: own, [0], initializer=init, initargs=(7,)) == [[7]]
        assert cluster.map(lambda item: own, [0], initializer=init_later, initargs=()) == [[5]]
        failed = cluster.map(loaded, [0, 1], initializer=load, initargs=(), return_exceptions=True)
    for error in failed:
        assert isinstance(error, ItemFailed) and "in the initializer load: no model" in str(error)


def draw(item: int) -> Any:
    """Numbers from the global generators, and from one of the item's seed."""
    seed = item_seed()
    return random.random(), float(np.random.random()), float(np.random.default_rng(seed).random()), seed


def test_an_items_numbers_depend_on_its_seed_only(local_bed: LocalBed) -> None:
    """However the items are cut up, and in whichever order they run; another seed gives others."""

    def drawn(workers: int, chunk_size: int, seed: int | None) -> Any:
        options: dict[str, Any] = {"workers": workers, "chunk_size": chunk_size, "seed": seed}
        return starburst_map(draw, range(8), progress=False, backend=local_bed.backend, **options)

    first, again, other = drawn(1, 8, 7), drawn(2, 1, 7), drawn(1, 8, 8)
    assert first == again and len({*first, *other}) == 16
    assert [seed for *_, seed in drawn(1, 8, None)] == 8 * [None]
    assert item_seed() is None


@on_both
def test_files_are_where_they_are_at_home(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent by path, folder and pattern, also from above; on this machine they are there, and are missed alike."""
    (here := bed.notes / "project" / "src").mkdir(parents=True)
    for name in (
        "../shared.txt",
        "one.txt",
        "data/a.csv",
        "data/deep/b.csv",
        "data/.env",
        "data/__pycache__/c",
        "x.log",
    ):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    monkeypatch.chdir(here)

    named = ["../shared.txt", "one.txt", "data/deep/b.csv", "data/a.csv"]
    options: dict[str, Any] = {"workers": 1, "backend": bed.backend, "progress": False}
    with Cluster(files=["../*.txt", here / "one.txt", "data"], **options) as cluster:
        assert cluster.map(Path.read_text, map(Path, named)) == named
        local = bed.backend.name == "local"
        assert [cluster.submit(os.path.exists, f"data/{name}").result() for name in ("a.csv", ".env")] == [True, local]
        with pytest.raises(BadInput, match=r"files='nothing/\*': there is no such file"):
            cluster.map(abs, [1], files="nothing/*")
        if not local:
            with pytest.raises(BadInput, match="is not below the working directory"):
                cluster.map(abs, [1], files=["/etc/hosts"])

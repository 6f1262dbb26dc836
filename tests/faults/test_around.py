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
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starburst_common import BadInput, Cluster, ItemFailed, ItemTimeout, StarburstExecutor, item_seed, starburst_map
from starburst_common.errors import EnvironmentMismatch
from starburst_common.runs.replay import stored_call
from tests.faults.conftest import Bed, LocalBed, on_both

ROOT = Path(__file__).parents[2]


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
        if item == 2:
            raise FileNotFoundError("as Arrow does, without a name")
        open(("data/nothing.csv", b"nothing")[item])  # noqa: PTH123, SIM115

    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        stood = cluster.map(wander, range(4))
        assert len(set(stood)) == 1 and stood[0][1] != 0
        local = bed.backend.name == "local"
        assert (stood[0][0] == str(here)) is local
        assert not local or (here / "visits.txt").read_text() == "0 1 2 3 "
        assert cluster.map(vanish, range(4)) == 4 * [None]
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        errors = cluster.map(told, range(3), return_exceptions=True)
    says = f"stands in {here}" if local else "a folder of its own"
    assert all(isinstance(error, FileNotFoundError) and says in "".join(error.__notes__) for error in errors)


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
        (error,) = cluster.map(fails, [4])
        assert repr(error) == "LookupError(4)" and "asyncio" not in (told := str(error.__cause__))
        assert told.count("  File ") == 1 and "in fails" in told
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


def test_an_initializer_that_hangs_or_ends_its_slot_is_named(local_bed: LocalBed) -> None:
    """It has as long as an item; all items that wait for it fail."""
    table: list[tuple[Any, Any, type[Exception], str]] = [
        (time.sleep, 600, ItemTimeout, "the initializer ran longer than 0.5 s and was stopped"),
        (os._exit, 3, EnvironmentMismatch, "its process exited with code 3 while the initializer ran"),
    ]
    with Cluster(workers=1, backend=local_bed.backend, progress=False, return_exceptions=True) as cluster:
        for initializer, argument, kind, says in table:
            options: dict[str, Any] = {"initializer": initializer, "initargs": (argument,), "timeout": 0.5}
            failed = cluster.map(abs, [0, 1], chunk_size=2, **options)
            assert [type(error) for error in failed] == [kind, kind] and says in str(failed[0])


async def later(item: int) -> Any:
    """What the initializer has set, and the item's seed, in a loop."""
    await asyncio.sleep(0)
    return model[-1], random.random(), item_seed(), item


async def load_later(what: str) -> None:
    """As `load`."""
    await asyncio.sleep(0)
    model.append(what)


def test_a_replay_does_what_the_worker_did(local_bed: LocalBed) -> None:
    """Initializer, seed and loop alike, whether function and initializer are imported or go by value."""
    offset: list[int] = []
    table: list[tuple[Any, dict[str, Any]]] = [
        (draw, {"seed": 3}),
        (later, {"seed": 3, "initializer": load_later, "initargs": ("x",)}),
        (lambda item: (item, model[-1]), {"initializer": load, "initargs": ("y",)}),
        (lambda item: (item, offset), {"initializer": lambda: offset.append(1)}),
    ]
    with Cluster(workers=1, backend=local_bed.backend, progress=False) as cluster:
        for function, options in table:
            run = cluster.start(function, range(2), **options)
            values = list(run.results())
            assert [stored_call(local_bed.backend, run.id, item, None)() for item in range(2)] == values


SETS = """
import functools, os, sys
from tests.places import open_place
from starburst_common import Cluster, StarburstExecutor, starburst_map

MODEL, CACHE, calls = None, {}, []


class Config:
    model, cache = None, {}


class Loader:
    def load(self, what):
        self.what = what
        load(what)


def load(what):
    global MODEL
    MODEL = what
    keep(what)
    Config.model = what
    Config.cache["what"] = what
    globals()["LATER"] = what


def keep(what):
    CACHE["what"] = what
    calls.append(os.getpid())


loader, bound = Loader(), functools.partial(load, "m")


def helper():
    return MODEL, CACHE.get("what"), Config.model, Config.cache.get("what"), LATER


def first(item):
    return helper(), len(calls)


def second(item):
    return (MODEL, CACHE["what"], Config.model, Config.cache["what"], LATER), len(calls)


def of_loader(item):
    return loader.what, MODEL, len(calls)


def within():
    state, seen = None, []

    def start(what):
        nonlocal state
        state = what
        seen.append(what)

    return start, lambda item: (state, seen), lambda item: (state, [*seen])


if __name__ == "__main__":
    place = open_place(sys.argv[1])
    found = 5 * ("m",)
    with Cluster(workers=1, slots=2, backend=place, progress=False) as cluster:
        for initializer, initargs in ((load, ("m",)), (bound, ())):
            for function in (first, second, first, lambda item: second(item)):
                values = cluster.map(function, range(8), chunk_size=1, initializer=initializer, initargs=initargs)
                assert values == 8 * [(found, 1)], (function, values)
        for function in (of_loader, lambda item: of_loader(item)):
            values = cluster.map(function, range(8), chunk_size=1, initializer=loader.load, initargs=("m",))
            assert values == 8 * [("m", "m", 1)], values
        start, *functions = within()
        for function in functions:
            values = cluster.map(function, range(4), chunk_size=1, initializer=start, initargs=("m",))
            assert {*map(str, values)} == {"('m', ['m'])"}, values
        other = cluster.map(second, range(4), chunk_size=1, initializer=load, initargs=("n",))
        assert other == 4 * [(5 * ("n",), 1)], other
    with StarburstExecutor(workers=1, slots=2, backend=place, initializer=load,
                           initargs=("m",)) as executor:
        futures = [executor.submit(function, item) for item in range(4) for function in (first, second)]
        assert [future.result() for future in futures] == 8 * [(found, 1)]
"""


def test_what_an_initializer_sets_all_functions_of_its_script_find(local_bed: LocalBed, tmp_path: Path) -> None:
    """Whatever it sets and however, in each slot, after one call; each function has globals of its own."""
    (script := tmp_path / "script.py").write_text(SETS)
    line, env = [sys.executable, script, local_bed.text], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr


def draw(item: int) -> Any:
    """Numbers from the global generators, and from one of the item's seed."""
    seed = item_seed()
    return random.random(), float(np.random.random()), float(np.random.default_rng(seed).random()), seed


def test_an_items_numbers_depend_on_its_seed_only(local_bed: LocalBed) -> None:
    """However items are cut up, in whichever order they run, and if they failed before; another seed gives others."""

    def drawn(workers: int, chunk_size: int, seed: int | None) -> Any:
        options: dict[str, Any] = {"workers": workers, "chunk_size": chunk_size, "seed": seed}
        return starburst_map(draw, range(8), progress=False, backend=local_bed.backend, **options)

    def late(_: int) -> Any:
        from numpy.random import random

        return item_seed(), random()

    ((seed, number),) = starburst_map(late, [0], workers=1, progress=False, backend=local_bed.backend, seed=7)
    assert number == np.random.RandomState(seed % 2**32).random_sample()
    first, again, other = drawn(1, 8, 7), drawn(2, 1, 7), drawn(1, 8, 8)
    assert first == again and len({*first, *other}) == 16
    gate = local_bed.notes / "gate"

    def drawn_later(item: int) -> Any:
        if item in (2, 3, 6) and not gate.exists():
            raise ValueError(item)
        return draw(item)

    with Cluster(workers=1, backend=local_bed.backend, progress=False, seed=7) as cluster:
        run = cluster.start(drawn_later, range(8), chunk_size=4, return_exceptions=True)
        assert run.wait().failed == 3
        gate.touch()
        assert run.retry_failed().results() == first
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
    (here / "data/tool").write_text("#!/bin/sh\necho ran")
    (here / "data/tool").chmod(0o755)
    (here / "data/a.csv").chmod(0o444)

    def as_at_home(item: int) -> Any:
        ran = subprocess.run(["data/tool"], stdout=subprocess.PIPE, text=True, check=True)
        return ran.stdout, [Path("data", name).stat().st_mode & 0o700 for name in ("tool", "a.csv", "deep/b.csv")]

    with pytest.raises(BadInput, match="files='nothing'"), Cluster(files="nothing", backend=bed.backend):
        pass
    with (
        StarburstExecutor(files="nothing", backend=bed.backend) as executor,
        pytest.raises(BadInput, match="files='nothing'"),
    ):
        executor.submit(abs, 1)
    assert not bed.objects()

    named = ["../shared.txt", "one.txt", "data/deep/b.csv", "data/a.csv"]
    options: dict[str, Any] = {"workers": 1, "backend": bed.backend, "progress": False}
    with Cluster(files=["../*.txt", here / "one.txt", "data"], **options) as cluster:
        assert cluster.map(Path.read_text, map(Path, named)) == named
        local = bed.backend.name == "local"
        assert cluster.map(as_at_home, [0]) == [("ran\n", [0o700, 0o400, 0o600])]
        assert [cluster.submit(os.path.exists, f"data/{name}").result() for name in ("a.csv", ".env")] == [True, local]
        with pytest.raises(BadInput, match=r"files='nothing/\*': there is no such file"):
            cluster.map(abs, [1], files="nothing/*")
        if not local:
            with pytest.raises(BadInput, match="is not below the working directory"):
                cluster.map(abs, [1], files=["/etc/hosts"])

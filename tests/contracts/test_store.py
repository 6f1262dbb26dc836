"""Every `ObjectStore` keeps what the port promises."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Thread
from urllib.parse import unquote, unquote_plus

import pytest

from starburst_common.errors import Exists, NotFound, Refused, Unavailable
from starburst_common.local.store import remove_folder
from starburst_common.ports import ObjectStore, is_there
from tests.contracts.conftest import StoreBed
from tests.contracts.rivals import at_once, create_keys, is_whole, killed_after, local_store, signed, write_for_ever
from tests.leftovers import staging_files

MIB = 1 << 20


@pytest.fixture
def store(stores: StoreBed) -> ObjectStore:
    """An adapter on an empty store."""
    return stores.store


# --- writing and reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 12 * MIB])
def test_an_object_is_read_as_it_was_written(store: ObjectStore, size: int) -> None:
    """Whatever its size, by `create` and by `put`, from any kind of buffer."""
    body = secrets.token_bytes(size)
    store.create("a/created", body)
    store.put("a/put", memoryview(bytearray(body)))
    assert bytes(store.get("a/created")) == body
    assert bytes(store.get("a/put")) == body


def test_a_write_is_seen_at_once_by_everybody(stores: StoreBed) -> None:
    """By another reader too, in a get and in a listing, and so is its replacement and its end."""
    other = stores.opener()
    for number in range(20):
        key = f"seen/{number:02d}"
        stores.store.create(key, b"first")
        assert bytes(other.get(key)) == b"first"
        assert key in other.list("seen/")
        stores.store.put(key, b"second")
        assert bytes(other.get(key)) == b"second"
        stores.store.delete([key])
        with pytest.raises(NotFound):
            other.get(key)
        assert key not in other.list("seen/")


def test_a_page_is_published_where_its_url_says(store: ObjectStore) -> None:
    """It is an object like any other, and published again it is replaced; its URL stays."""
    first = store.publish("runs/run 1/report.html", "<p>first</p>")
    url = store.publish("runs/run 1/report.html", "<p>später</p>")
    assert bytes(store.get("runs/run 1/report.html")).decode() == "<p>später</p>"
    assert first == url
    scheme, _, rest = url.partition("://")
    assert scheme in ("file", "https")
    assert unquote_plus(rest).endswith("runs/run 1/report.html")
    if scheme == "file":
        assert Path(unquote(f"/{rest.lstrip('/')}")).read_text() == "<p>später</p>"


def test_put_replaces(store: ObjectStore) -> None:
    """A shorter body leaves nothing of a longer one."""
    store.put("a", b"long" * 1000)
    store.put("a", b"short")
    assert bytes(store.get("a")) == b"short"


def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    """By its key in the message, whole or in part, even an empty part."""
    with pytest.raises(NotFound, match="runs/none"):
        store.get("runs/none")
    with pytest.raises(NotFound, match="runs/none"):
        store.get_range("runs/none", 0, 10)
    with pytest.raises(NotFound, match="runs/none"):
        store.get_range("runs/none", 0, 0)


def test_an_object_that_is_too_large_is_refused(store: ObjectStore) -> None:
    """By its key, its size and the bound; up to the bound it is read, and that it is there can be asked in any case."""
    store.create("a/b", b"0123456789")
    assert bytes(store.get("a/b", 10)) == b"0123456789"
    with pytest.raises(Refused, match="a/b has 10 bytes, more than the 9"):
        store.get("a/b", 9)
    assert is_there(store, "a/b") and not is_there(store, "a/c")


def test_a_range_is_exactly_those_bytes(store: ObjectStore) -> None:
    """`length` bytes from `offset`, at either end and in the middle."""
    body = secrets.token_bytes(1000)
    store.create("a", body)
    for offset, length in ((0, 1), (0, 1000), (1, 998), (999, 1), (500, 0), (0, 0)):
        assert bytes(store.get_range("a", offset, length)) == body[offset : offset + length]


def test_a_range_past_the_end_is_not_found(store: ObjectStore) -> None:
    """By its key and the object's size, whether it begins past the end or only ends there."""
    store.create("runs/a", b"0123456789")
    store.create("runs/empty", b"")
    for offset, length in ((5, 6), (9, 2), (10, 1), (20, 5), (11, 0)):
        with pytest.raises(NotFound, match="runs/a has 10 bytes"):
            store.get_range("runs/a", offset, length)
    with pytest.raises(NotFound, match="runs/empty has 0 bytes"):
        store.get_range("runs/empty", 0, 1)
    assert bytes(store.get_range("runs/empty", 0, 0)) == bytes(store.get_range("runs/a", 10, 0)) == b""


# --- creating ---------------------------------------------------------------------------------------------------------


def test_a_taken_key_is_left_as_it_was(store: ObjectStore) -> None:
    """`create` raises `Exists`, naming the key, whoever wrote it and however; after a delete the key is free."""
    store.create("a/created", b"first")
    store.put("a/put", b"first")
    for key in ("a/created", "a/put"):
        with pytest.raises(Exists, match=key):
            store.create(key, b"second")
        assert bytes(store.get(key)) == b"first"
        store.delete([key])
        store.create(key, b"third")
        assert bytes(store.get(key)) == b"third"


def test_of_16_threads_one_creates(store: ObjectStore) -> None:
    """The others are told `Exists`, and the object is the winner's."""
    rounds, threads = 20, 16
    barrier = Barrier(threads)

    def attempt(who: int) -> list[int]:
        won = []
        for number in range(rounds):
            barrier.wait()
            try:
                store.create(f"race/{number}", f"{who}".encode() * 1000)
            except Exists:
                continue
            won.append(number)
        return won

    with ThreadPoolExecutor(threads) as pool:
        winners = {number: who for who, won in enumerate(pool.map(attempt, range(threads))) for number in won}
        wins = sum(1 for _ in winners)
    assert sorted(winners) == list(range(rounds))
    assert wins == rounds
    for number, who in winners.items():
        assert bytes(store.get(f"race/{number}")) == f"{who}".encode() * 1000


def test_of_two_processes_one_creates(stores: StoreBed) -> None:
    """Every key is won once."""
    keys = [f"race/{number:03d}" for number in range(300)]
    ours, theirs = at_once(create_keys, (stores.opener, "ours", keys), (stores.opener, "theirs", keys))
    assert sorted(ours + theirs) == keys
    for who, won in (("ours", ours), ("theirs", theirs)):
        assert all(bytes(stores.store.get(key)) == who.encode() for key in won)


def test_a_reader_sees_a_new_object_whole_or_not_at_all(stores: StoreBed) -> None:
    """While large objects are created, whoever reads one early is told `NotFound` or has all of it."""
    body, done = signed("whole", 4 * MIB), Event()
    reader = stores.opener()

    def read() -> int:
        seen = 0
        while not (done.is_set() and seen):
            for key in [*reader.list("new/"), f"new/{seen:03d}"]:
                try:
                    got = bytes(reader.get(key))
                except NotFound:
                    continue
                assert is_whole(got)
                seen += 1
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(15):
            stores.store.create(f"new/{number:03d}", body)
        done.set()
        assert all(reader.result() > 0 for reader in readers)


def test_a_reader_sees_one_version_or_the_next(stores: StoreBed) -> None:
    """While an object is replaced by others of another length, every read is of one of them."""
    done = Event()
    stores.store.put("latest", signed("0", MIB))

    def read() -> int:
        seen = 0
        while not (done.is_set() and seen):
            assert is_whole(bytes(stores.store.get("latest")))
            seen += 1
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(30):
            stores.store.put("latest", signed(str(number), MIB + number % 2 * MIB))
        done.set()
        assert all(reader.result() > 0 for reader in readers)


# --- listing ----------------------------------------------------------------------------------------------------------


def test_a_listing_is_whole_and_in_the_order_of_the_text(store: ObjectStore) -> None:
    """Beyond a page of 1000 keys, in folders below too, and in no order of writing."""
    keys = sorted(f"many/{number % 3}/{number * 7919 % 100_003:06d}" for number in range(2300))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), reversed(keys)))
    assert list(store.list("many/")) == keys
    assert list(store.list("many/1/")) == [key for key in keys if key.startswith("many/1/")]


def test_the_order_is_that_of_the_whole_key(store: ObjectStore) -> None:
    """A folder comes where its name belongs as text, not before or after the objects beside it."""
    keys = ["x/a", "x/a-b/c", "x/a.b", "x/a/b", "x/b", "x/b/a/a"]
    files = [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)]
    for key in files:
        store.put(key, b"")
    assert list(store.list("x/")) == sorted(files)


def test_a_prefix_is_a_folder(store: ObjectStore) -> None:
    """A name that merely begins alike is not in it; an empty or unknown folder holds nothing."""
    for key in ("runs/1/a", "runs/10/a", "runs/1-b", "other/1/a"):
        store.put(key, b"")
    assert list(store.list("runs/1/")) == ["runs/1/a"]
    assert list(store.list("nothing/")) == []


def test_folders_are_the_names_that_hold_keys(store: ObjectStore) -> None:
    """In the order of the text; an object is no folder, and a folder whose keys are gone is none any more."""
    for key in ("runs/b/spec", "runs/b/deep/er", "runs/a/spec", "runs/c/spec", "runs/file", "other/d/spec"):
        store.put(key, b"")
    assert store.folders("runs/") == ["a", "b", "c"]
    assert store.folders("runs/b/") == ["deep"]
    assert store.folders("nothing/") == []
    store.delete(["runs/a/spec", "runs/b/spec"])
    store.delete_folder("runs/c/")
    assert store.folders("runs/") == ["b"]


def test_names_that_are_none_of_ours_cost_only_themselves(stores: StoreBed) -> None:
    """What lies beside them is listed as ever, and a folder goes with them in it."""
    store = stores.store
    store.put("fleets/a/held-by/ours", b"")
    for odd in stores.odd:
        stores.foreign(f"fleets/a/held-by/{odd}")
        assert "fleets/a/held-by/ours" in store.list("fleets/a/"), odd
        assert list(store.list("fleets/a/held-by/")) == ["fleets/a/held-by/ours"], odd
        assert "a" in store.folders("fleets/") and "held-by" in store.folders("fleets/a/"), odd
    store.delete_folder("fleets/a/")
    assert list(store.list("fleets/")) == store.folders("fleets/") == []


def test_a_listing_tells_sizes_and_times(stores: StoreBed) -> None:
    """Of every object; a time is the store's, of the last write, and who writes later is never earlier."""
    store, other = stores.store, stores.opener()
    store.create("runs/a", b"123")
    other.put("runs/b/c", b"12345")
    first, second = store.entries("runs/")
    assert (first.key, first.size, second.key, second.size) == ("runs/a", 3, "runs/b/c", 5)
    assert first.written_at <= second.written_at == other.written_at("runs/b/c")
    store.put("runs/a", b"")
    assert other.written_at("runs/a") >= second.written_at
    with pytest.raises(NotFound, match="runs/none"):
        store.written_at("runs/none")


# --- removing ---------------------------------------------------------------------------------------------------------


def test_deleting_removes_what_is_there(store: ObjectStore) -> None:
    """More than a batch of 1000; keys that are not there are no error, and the others go all the same."""
    keys = [f"old/{number:04d}" for number in range(1100)]
    for key in keys[::2]:
        store.put(key, b"")
    store.put("older", b"")
    store.delete(keys)
    store.delete(keys[:3])
    store.delete([])
    assert list(store.list("old/")) == []
    assert bytes(store.get("older")) == b""


def test_deleting_a_folder_leaves_its_neighbours(store: ObjectStore) -> None:
    """Everything under it goes, nothing beside it; one that is not there is no error."""
    for key in ("runs/1/a", "runs/1/deep/b", "runs/10/a", "runs/2/a"):
        store.put(key, b"")
    store.delete_folder("runs/1/")
    store.delete_folder("runs/none/")
    assert list(store.list("runs/")) == ["runs/10/a", "runs/2/a"]
    store.put("runs/1/a", b"again")
    assert bytes(store.get("runs/1/a")) == b"again"


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.0, 0.037])
def test_a_writer_killed_in_the_middle_leaves_a_usable_store(stores: StoreBed, after_s: float) -> None:
    """What it had written is there, every object listed is whole, its keys can be written, and its folder removed.

    A server may still carry out the write that was on its way.
    """
    store = stores.store
    written = killed_after(after_s, write_for_ever, stores.opener, 16 * MIB)
    listed = list(store.list("torn/"))
    assert {f"torn/{int(number):06d}" for number in written} <= set(listed)
    assert all(is_whole(bytes(store.get(key))) for key in listed)
    following = f"torn/{len(listed):06d}"
    store.create(following, b"goes on")
    store.put("torn/latest", b"goes on")
    assert bytes(store.get(following)) == bytes(store.get("torn/latest")) == b"goes on"
    store.delete_folder("torn/")
    if list(store.list("torn/")):
        store.delete_folder("torn/")
    assert list(store.list("torn/")) == []
    assert "torn" not in store.folders("/")


# --- the local store's own --------------------------------------------------------------------------------------------


def test_what_a_killed_writer_staged_is_neither_seen_nor_in_the_way(tmp_path: Path) -> None:
    """A half-written file lies beside its key: nothing shows it, the key is free, and it goes with its folder."""
    store = local_store(tmp_path)
    store.put("run/a", b"whole")
    (tmp_path / "run" / "b#1").write_bytes(b"ha")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "c#1").write_bytes(b"ha")
    assert list(store.list("run/")) == ["run/a"]
    with pytest.raises(NotFound):
        store.get("run/b")
    store.create("run/b", b"whole")
    assert bytes(store.get("run/b")) == b"whole"
    assert store.folders("/") == ["run"]
    store.delete_folder("run/")
    store.delete_folder("gone/")
    assert staging_files(tmp_path) == []


def test_what_cannot_be_removed_is_said(tmp_path: Path) -> None:
    """A folder that stays is no success; one that is not there is."""
    remove_folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be removed"):
        remove_folder(tmp_path / "file")


def test_drafts_are_swept_while_folders_go(tmp_path: Path) -> None:
    """Another process that removes ended runs at the same time is no error; a killed writer's draft goes."""
    store, done = local_store(tmp_path), Event()

    def come_and_go() -> None:
        while not done.is_set():
            for number in range(20):
                store.put(f"runs/{number}/a/b", b"")
            store.delete_folder("runs/")

    other = Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(300):
            store.sweep("runs/", older_than_s=3600)
    finally:
        done.set()
        other.join()

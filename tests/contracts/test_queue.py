"""Every `WorkQueue` keeps what the port promises."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from starburst_common.errors import NotFound, Unavailable
from starburst_common.local.bells import Bells
from starburst_common.local.queue import LocalQueue
from starburst_common.ports import Depth, Leased, WorkQueue
from tests.contracts.conftest import QueueBed
from tests.contracts.rivals import at_once, killed_after, lease_all, lease_and_delete_for_ever, send_for_ever

HOUR_S = 3600.0


@pytest.fixture
def bed(queues: QueueBed) -> QueueBed:
    """An adapter with one queue, `work`, that gives up on a message after three leases."""
    queues.queue.ensure("work", max_receives=3)
    return queues


def lease(bed: QueueBed, *, limit: int = 10, queue: str = "work", wait_s: float = 0.0) -> list[Leased]:
    """A receive with a lease that can be waited for."""
    return bed.queue.receive(queue, limit=limit, lease_s=bed.lease_s, wait_s=wait_s)


def hold(bed: QueueBed, *, limit: int = 10, queue: str = "work", wait_s: float = 0.0) -> list[Leased]:
    """A receive with a lease that outlasts the test."""
    return bed.queue.receive(queue, limit=limit, lease_s=10 * HOUR_S, wait_s=wait_s)


def drain(queue: WorkQueue, name: str, wait_s: float = 0.2) -> Iterator[str]:
    """Every message's body, each deleted."""
    while leased := queue.receive(name, limit=10, lease_s=60, wait_s=wait_s):
        queue.delete(name, [message.receipt for message in leased])
        yield from (message.body for message in leased)


# --- queues -----------------------------------------------------------------------------------------------------------


def test_ensuring_a_queue_twice_keeps_its_messages(bed: QueueBed) -> None:
    """A queue that is there is left as it is, even if another kind is asked for now."""
    bed.queue.send("work", ["a"], group="g")
    bed.queue.ensure("work", max_receives=3)
    bed.queue.ensure("work", max_receives=1)
    bed.queue.ensure("work")
    for _ in range(3):
        (message,) = hold(bed)
        assert message.body == "a"
        bed.queue.extend("work", [message.receipt], 0)
    assert hold(bed) == []
    assert bed.queue.depth(bed.queue.dead("work")) == Depth(1, 0)


def test_a_queue_that_is_not_there_is_not_found(bed: QueueBed) -> None:
    """Sending to it and receiving from it say so; its depth is nothing, and dropping it is no error."""
    with pytest.raises(NotFound, match="nowhere"):
        bed.queue.send("nowhere", ["a"], group="g")
    with pytest.raises(NotFound, match="nowhere"):
        lease(bed, queue="nowhere")
    assert bed.queue.depth("nowhere") == Depth(0, 0)
    bed.queue.drop("nowhere")


def test_queues_are_apart(bed: QueueBed) -> None:
    """A message goes to the queue it was sent to; a receipt of one queue means nothing in another."""
    bed.queue.ensure("other")
    bed.queue.send("work", ["a"], group="g")
    assert hold(bed, queue="other") == []
    (message,) = hold(bed)
    bed.queue.delete("other", [message.receipt])
    assert bed.queue.extend("other", [message.receipt], 60) == [message.receipt]
    assert bed.queue.depth("work") == Depth(0, 1)


def test_a_dropped_queue_takes_everything_along(bed: QueueBed) -> None:
    """Messages waiting, leased and dead are gone, whoever makes the queue again, if its name can be used again."""
    bed.queue.send("work", ["a", "b"], group="g")
    hold(bed, limit=1)
    bed.queue.drop("work")
    bed.elapse(bed.going_s)
    with pytest.raises(NotFound):
        hold(bed)
    with pytest.raises(NotFound):
        hold(bed, queue=bed.queue.dead("work"))
    assert bed.queue.depth("work") == Depth(0, 0)
    if not bed.reusable:
        with pytest.raises(Unavailable):
            bed.queue.ensure("work", max_receives=3)
        return
    bed.queue.ensure("work", max_receives=3)
    assert bed.queue.depth("work") == Depth(0, 0)
    assert hold(bed) == []


def test_a_waiting_receiver_learns_that_the_queue_was_dropped(bed: QueueBed) -> None:
    """`NotFound` comes while it waits, so a worker of a closed fleet does not wait on."""
    dropper = bed.opener()
    thread = Thread(target=lambda: (time.sleep(0.1), dropper.drop("work")))
    began = time.monotonic()
    thread.start()
    with pytest.raises(NotFound):
        hold(bed, wait_s=120.0)
    thread.join()
    assert time.monotonic() - began < 60.0


# --- sending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 10, 11, 25, 137])
def test_any_number_of_messages_can_be_sent_at_once(bed: QueueBed, count: int) -> None:
    """Batches of ten are the adapter's business: every message arrives once, and its body is unchanged."""
    bodies = [f"message {number} ✓ \U0001f600 \t\n\r\n {bed.text} {'x' * number}" for number in range(count)]
    bed.queue.send("work", bodies, group="g")
    assert sorted(drain(bed.queue, "work", wait_s=0.0)) == sorted(bodies)


def test_what_was_sent_is_there_for_everybody(bed: QueueBed) -> None:
    """When `send` has returned, somebody who opens the queue anew receives the message."""
    bed.queue.send("work", ["a"], group="g")
    assert list(drain(bed.opener(), "work")) == ["a"]


def test_a_delayed_message_hides_until_its_time(bed: QueueBed) -> None:
    """It waits, as the depth says, and nobody can lease it before."""
    bed.queue.send("work", ["later"], group="g", delay_s=bed.lease_s)
    bed.queue.send("work", ["now"], group="g")
    assert [message.body for message in lease(bed)] == ["now"]
    assert bed.queue.depth("work") == Depth(1, 1)
    bed.elapse(bed.lease_s * 0.5)
    assert lease(bed) == []
    bed.elapse(bed.lease_s * 0.6)
    assert "later" in [message.body for message in lease(bed)]


# --- receiving --------------------------------------------------------------------------------------------------------


def test_a_receive_leases_at_most_its_limit(bed: QueueBed) -> None:
    """1 to 10 messages; any other limit is refused."""
    bed.queue.send("work", [str(number) for number in range(30)], group="g")
    assert len(hold(bed, limit=1)) == 1
    assert len(hold(bed, limit=7)) <= 7
    assert len(hold(bed, limit=10)) <= 10
    for wrong in (0, -1, 11):
        with pytest.raises(ValueError, match="1 to 10"):
            hold(bed, limit=wrong)


def test_nobody_else_gets_a_leased_message(bed: QueueBed) -> None:
    """Not by this adapter, nor by another one on the same queue, until the lease ends; then anybody does."""
    bed.queue.send("work", ["a"], group="g")
    (first,) = lease(bed)
    bed.elapse(bed.lease_s * 0.5)
    assert lease(bed) == []
    bed.elapse(bed.lease_s * 0.6)
    (second,) = lease(bed)
    assert (first.body, second.body) == ("a", "a")
    assert first.receipt != second.receipt


def test_receives_count_every_lease(bed: QueueBed) -> None:
    """Whether it ran out or was given back."""
    bed.queue.send("work", ["a"], group="g")
    (message,) = lease(bed)
    assert message.receives == 1
    bed.elapse(bed.lease_s * 1.1)
    (message,) = lease(bed)
    assert message.receives == 2
    bed.queue.extend("work", [message.receipt], 0)
    (message,) = lease(bed)
    assert message.receives == 3


def test_an_empty_receive_waits_as_long_as_told(bed: QueueBed) -> None:
    """And no longer; without a wait it returns at once."""
    began = time.monotonic()
    assert hold(bed) == []
    at_once = time.monotonic() - began
    assert hold(bed, wait_s=2.0) == []
    waited = time.monotonic() - began - at_once
    assert at_once < 60.0
    assert 1.9 <= waited < 60.0


def test_a_waiting_receive_ends_with_the_first_message(bed: QueueBed) -> None:
    """A message sent while somebody waits is received at once, from any sender."""
    sender = bed.opener()
    sent: list[float] = []

    def send_soon() -> None:
        time.sleep(0.1)
        sender.send("work", ["a"], group="g")
        sent.append(time.monotonic())

    thread = Thread(target=send_soon)
    thread.start()
    assert [message.body for message in hold(bed, wait_s=120.0)] == ["a"]
    thread.join()
    assert time.monotonic() - sent[0] < 60.0


def test_a_waiting_receive_notices_a_lease_that_ends(bed: QueueBed) -> None:
    """Nothing is sent then, and still the message comes."""
    bed.queue.send("work", ["a"], group="g")
    bed.queue.receive("work", limit=1, lease_s=0.3, wait_s=0)
    began = time.monotonic()
    assert [message.body for message in hold(bed, wait_s=120.0)] == ["a"]
    assert time.monotonic() - began < 60.0


# --- leases -----------------------------------------------------------------------------------------------------------


def test_a_renewed_lease_goes_on(bed: QueueBed) -> None:
    """From the moment of renewing, so a heartbeat keeps a message for ever."""
    bed.queue.send("work", ["a"], group="g")
    (message,) = lease(bed)
    for _ in range(3):
        bed.elapse(bed.lease_s * 0.6)
        assert bed.queue.extend("work", [message.receipt], bed.lease_s) == []
    assert lease(bed) == []
    bed.elapse(bed.lease_s * 1.1)
    assert [again.body for again in lease(bed)] == ["a"]


def test_extending_by_nothing_gives_the_message_back_at_once(bed: QueueBed) -> None:
    """The next receiver has it without waiting; the old receipt is no longer ours."""
    bed.queue.send("work", ["a", "b"], group="g")
    first, second = hold(bed)
    assert bed.queue.extend("work", [first.receipt], 0) == []
    assert bed.queue.depth("work") == Depth(1, 1)
    (again,) = hold(bed)
    assert again.body == first.body
    assert bed.queue.extend("work", [first.receipt, second.receipt], bed.lease_s) == [first.receipt]


def test_a_lease_that_ended_cannot_be_renewed(bed: QueueBed) -> None:
    """Even if nobody has the message yet: `extend` returns what is no longer ours, among what is."""
    bed.queue.send("work", ["a"], group="g")
    (late,) = lease(bed)
    bed.elapse(bed.lease_s * 1.1)
    bed.queue.send("work", ["b"], group="h")
    ours = next(message for message in lease(bed, limit=1) + lease(bed, limit=1) if message.body == "b")
    assert late.receipt in bed.queue.extend("work", [late.receipt, ours.receipt], bed.lease_s)
    assert bed.queue.extend("work", [ours.receipt], bed.lease_s) == []


def test_a_stale_receipt_changes_nothing(bed: QueueBed) -> None:
    """Who comes late can neither renew, nor give back, nor delete what somebody else has leased since."""
    bed.queue.send("work", ["a"], group="g")
    (stale,) = lease(bed)
    bed.elapse(bed.lease_s * 1.1)
    (current,) = lease(bed)
    assert bed.queue.extend("work", [stale.receipt], bed.lease_s * 100) == [stale.receipt]
    assert bed.queue.extend("work", [stale.receipt], 0) == [stale.receipt]
    bed.queue.delete("work", [stale.receipt])
    assert lease(bed) == []
    assert bed.queue.depth("work") == Depth(0, 1)
    assert bed.queue.extend("work", [current.receipt], bed.lease_s) == []


def test_a_receipt_that_never_was_changes_nothing(bed: QueueBed) -> None:
    """It is merely not ours."""
    bed.queue.send("work", ["a"], group="g")
    assert bed.queue.extend("work", ["nonsense", "1-0", ""], 5) == ["nonsense", "1-0", ""]
    bed.queue.delete("work", ["nonsense", "1-0", ""])
    assert [message.body for message in hold(bed)] == ["a"]


def test_a_deleted_message_never_comes_again(bed: QueueBed) -> None:
    """Deleting it twice is no error, and its receipt is no longer ours."""
    bed.queue.send("work", ["a", "b"], group="g")
    messages = lease(bed)
    gone, kept = messages
    bed.queue.delete("work", [gone.receipt])
    bed.queue.delete("work", [gone.receipt])
    assert bed.queue.extend("work", [gone.receipt], bed.lease_s) == [gone.receipt]
    bed.elapse(bed.lease_s * 1.1)
    assert [message.body for message in lease(bed)] == [kept.body]


def test_more_than_ten_receipts_can_be_renewed_and_deleted_at_once(bed: QueueBed) -> None:
    """Batches are the adapter's business here too."""
    bed.queue.send("work", [str(number) for number in range(25)], group="g")
    held = [message.receipt for _ in range(10) for message in hold(bed, limit=5)]
    assert len(held) == 25
    assert bed.queue.extend("work", held, bed.lease_s) == []
    bed.queue.delete("work", held)
    assert bed.queue.depth("work") == Depth(0, 0)


# --- dead letters -----------------------------------------------------------------------------------------------------


def test_a_message_leased_too_often_becomes_a_dead_letter(bed: QueueBed) -> None:
    """After three leases that were given back or ran out it moves to `dead`, where it can be leased and deleted."""
    bed.queue.send("work", ["poison"], group="g")
    (message,) = lease(bed)
    bed.queue.extend("work", [message.receipt], 0)
    for _ in range(2):
        assert len(lease(bed)) == 1
        bed.elapse(bed.lease_s * 1.1)
    assert lease(bed, wait_s=0.15) == []
    assert bed.queue.depth("work") == Depth(0, 0)
    dead = bed.queue.dead("work")
    assert bed.queue.depth(dead) == Depth(1, 0)
    assert list(drain(bed.queue, dead)) == ["poison"]
    assert bed.queue.depth(dead) == Depth(0, 0)


def test_the_last_allowed_lease_can_still_settle_it(bed: QueueBed) -> None:
    """The third lease is a full one: renewed, and deleted, nothing is dead."""
    bed.queue.send("work", ["a"], group="g")
    for _ in range(3):
        (message,) = hold(bed)
        if message.receives < 3:
            bed.queue.extend("work", [message.receipt], 0)
    assert bed.queue.extend("work", [message.receipt], bed.lease_s) == []
    bed.queue.delete("work", [message.receipt])
    assert bed.queue.depth(bed.queue.dead("work")) == Depth(0, 0)


def test_dead_letters_do_not_hide_the_living(bed: QueueBed) -> None:
    """Messages behind ten that die are received all the same."""
    bed.queue.send("work", [f"poison {number}" for number in range(10)], group="g")
    for _ in range(3):
        bed.queue.extend("work", [message.receipt for message in hold(bed)], 0)
    bed.queue.send("work", ["healthy"], group="g")
    assert [message.body for message in hold(bed, wait_s=1.0)] == ["healthy"]
    assert bed.queue.depth(bed.queue.dead("work")) == Depth(10, 0)


def test_a_queue_without_a_limit_never_gives_up(bed: QueueBed) -> None:
    """No dead letters unless asked for."""
    bed.queue.ensure("patient")
    bed.queue.send("patient", ["a"], group="g")
    for receives in range(1, 20):
        (message,) = hold(bed, queue="patient")
        assert message.receives == receives
        bed.queue.extend("patient", [message.receipt], 0)


# --- groups -----------------------------------------------------------------------------------------------------------


def test_groups_are_served_fairly(bed: QueueBed) -> None:
    """A run that comes late and small is not stuck behind a large one: leases are spread over the groups."""
    bed.queue.send("work", [f"large {number}" for number in range(500)], group="large")
    bed.queue.send("work", [f"small {number}" for number in range(20)], group="small")
    held = [message.body.split()[0] for _ in range(40) for message in hold(bed, limit=1)]
    assert Counter(held) == {"large": 20, "small": 20}


def test_fairness_counts_leases_not_messages_served(bed: QueueBed) -> None:
    """A group that settles quickly is served as often as it is free; the other only holds more for longer."""
    bed.queue.send("work", [f"slow {number}" for number in range(50)], group="a slow one")
    bed.queue.send("work", [f"quick {number}" for number in range(50)], group="quick")
    served: Counter[str] = Counter()
    for _ in range(60):
        (message,) = hold(bed, limit=1)
        kind = message.body.split()[0]
        served[kind] += 1
        if kind == "quick":
            bed.queue.delete("work", [message.receipt])
    assert served["quick"] == 50
    assert served["slow"] == 10


def test_a_group_whose_messages_are_all_leased_is_no_obstacle(bed: QueueBed) -> None:
    """Nor is one whose messages are delayed."""
    bed.queue.send("work", ["a"], group="a")
    bed.queue.send("work", ["b"], group="b", delay_s=bed.lease_s)
    bed.queue.send("work", ["c", "d"], group="c")
    bodies = [message.body for _ in range(3) for message in lease(bed, limit=1)]
    assert sorted(bodies) == ["a", "c", "d"]
    assert lease(bed) == []


def test_depth_counts_the_queue_or_one_group(bed: QueueBed) -> None:
    """Waiting and leased, apart; where groups cannot be told apart, one counts as all, so never too few."""
    bed.queue.send("work", ["a", "b", "c"], group="g")
    bed.queue.send("work", ["d"], group="h")
    assert bed.queue.depth("work") == Depth(4, 0)
    (message,) = lease(bed, limit=1)
    assert bed.queue.depth("work") == Depth(3, 1)
    group = "h" if message.body == "d" else "g"
    assert bed.queue.depth("work", group=group).leased == 1
    assert bed.queue.depth("work", group="nobody") == (Depth(0, 0) if bed.by_group else Depth(3, 1))
    bed.elapse(bed.lease_s * 1.1)
    assert bed.queue.depth("work") == Depth(4, 0)


def test_a_dropped_group_leaves_the_others(bed: QueueBed) -> None:
    """Another run's messages stay; a finished run's go, leased ones too, where the queue can find them."""
    bed.queue.send("work", ["a", "b"], group="over")
    bed.queue.send("work", ["c"], group="going on")
    lease(bed, limit=1)
    bed.queue.drop_group("work", "over")
    bed.elapse(bed.lease_s * 1.1)
    left = sorted(message.body for _ in range(3) for message in lease(bed))
    assert left == (["c"] if bed.by_group else ["a", "b", "c"])


# --- rivals, crashes, clocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wall_clock_ahead_s", [0.0, HOUR_S])
def test_two_processes_never_get_the_same_lease(shared_queues: QueueBed, wall_clock_ahead_s: float) -> None:
    """1000 messages, two processes leasing as fast as they can: each message is leased once.

    One of the processes has a wall clock that is an hour fast: it changes nothing.
    """
    shared_queues.queue.ensure("work")
    shared_queues.queue.send("work", [str(number) for number in range(1000)], group="g")
    ours, theirs = at_once(
        lease_all, (shared_queues.opener, "work", 0.0), (shared_queues.opener, "work", wall_clock_ahead_s)
    )
    assert Counter(ours + theirs) == Counter(str(number) for number in range(1000))
    assert min(len(ours), len(theirs)) >= 100


def test_many_threads_never_get_the_same_lease(bed: QueueBed) -> None:
    """One adapter may be shared by threads."""
    bed.queue.send("work", [str(number) for number in range(200)], group="g")
    bodies: list[str] = []

    def take() -> None:
        while leased := bed.queue.receive("work", limit=3, lease_s=60, wait_s=0.1):
            bodies.extend(message.body for message in leased)

    threads = [Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(bodies) == Counter(str(number) for number in range(200))


@pytest.mark.parametrize("after_s", [0.0, 0.05])
def test_a_sender_killed_in_the_middle_leaves_a_usable_queue(shared_queues: QueueBed, after_s: float) -> None:
    """What it had sent is there whole, and the queue goes on."""
    shared_queues.queue.ensure("work")
    sent = killed_after(after_s, send_for_ever, shared_queues.opener, "work")
    there = Counter(body.split("/")[0] for body in drain(shared_queues.queue, "work"))
    assert {number: there[number] for number in sent} == dict.fromkeys(sent, 200)
    shared_queues.queue.send("work", ["after"], group="g")
    assert list(drain(shared_queues.queue, "work")) == ["after"]


def test_a_receiver_killed_in_the_middle_loses_nothing(shared_queues: QueueBed) -> None:
    """What it leased and had not deleted comes again when its leases end."""
    queue = shared_queues.opener()
    queue.ensure("work")
    bodies = [str(number) for number in range(2000)]
    queue.send("work", bodies, group="g")
    said = killed_after(0.05, lease_and_delete_for_ever, shared_queues.opener, "work")
    deleting, deleted = (
        {line.split()[1] for line in said if line.startswith(verb)} for verb in ("deleting", "deleted")
    )
    rest = list(drain(queue, "work", wait_s=0.8))
    assert len(set(rest)) == len(rest)
    assert set(bodies) - set(rest) <= deleting
    assert not deleted & set(rest)
    queue.close()  # type: ignore[attr-defined]


# --- the local queue's own --------------------------------------------------------------------------------------------


def test_a_reboot_ends_every_lease(tmp_path: Path) -> None:
    """The monotonic clock starts anew then, so a lease until 'uptime 10 days' would last for days.

    The old receipts are no longer ours.
    """
    file = tmp_path / "queue.sqlite3"
    before = LocalQueue(file, clock=lambda: 864_000.0)
    before.ensure("work")
    before.send("work", ["leased", "waiting"], group="g")
    before.send("work", ["delayed"], group="g", delay_s=60)
    (old,) = before.receive("work", limit=1, lease_s=60, wait_s=0)
    before.close()
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE machine SET boot = 'an earlier one'")
    after = LocalQueue(file, clock=lambda: 5.0)
    assert after.depth("work") == Depth(3, 0)
    messages = after.receive("work", limit=10, lease_s=60, wait_s=0)
    assert sorted(message.body for message in messages) == ["delayed", "leased", "waiting"]
    assert after.extend("work", [old.receipt], 60) == [old.receipt]
    after.close()


def test_opening_a_queue_again_ends_no_lease(tmp_path: Path) -> None:
    """Only a reboot does; a second process is none."""
    file = tmp_path / "queue.sqlite3"
    first = LocalQueue(file)
    first.ensure("work")
    first.send("work", ["a"], group="g")
    first.receive("work", limit=1, lease_s=60, wait_s=0)
    second = LocalQueue(file)
    assert second.receive("work", limit=1, lease_s=60, wait_s=0) == []
    first.close()
    second.close()


def test_who_waits_is_woken_by_who_sends(tmp_path: Path) -> None:
    """At once, and one receiver a message; a bell that somebody has removed is not missed for long."""
    queue, bells = LocalQueue(tmp_path / "queue.sqlite3"), Bells(tmp_path / "bells")
    queue.ensure("work")
    with bells.heard("work") as first, bells.heard("work") as second:
        queue.send("work", ["a message"], group="run")
        assert first(60.0, 60.0)
        assert not second(0.0, 0.0)
    (tmp_path / "bells" / "work").unlink()
    assert [leased.body for leased in queue.receive("work", limit=10, lease_s=60.0, wait_s=0.0)] == ["a message"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.receive, "work", limit=1, lease_s=60.0, wait_s=60.0)
        queue.send("work", ["another"], group="run")
        assert [leased.body for leased in waiting.result(120)] == ["another"]
    queue.drop("work")
    assert list((tmp_path / "bells").iterdir()) == []
    queue.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="a process's open files are looked up in /proc")
def test_a_queue_that_is_let_go_of_closes_its_connections(tmp_path: Path) -> None:
    """Who only looks at runs holds no backend to close; Python 3.13 warns of each connection that is left open."""

    def connections() -> int:
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(link.name == "queue.sqlite3" and link.parent == tmp_path for link in links)

    queue = LocalQueue(tmp_path / "queue.sqlite3")
    assert connections() == 1
    del queue
    gc.collect()
    assert connections() == 0


def test_the_wall_clock_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It jumps an hour ahead and a day back while a message is leased: the lease neither ends early nor stays."""
    queue = LocalQueue(tmp_path / "queue.sqlite3")
    queue.ensure("work")
    queue.send("work", ["a"], group="g")
    queue.receive("work", limit=1, lease_s=3.0, wait_s=0)
    right = time.time
    for jump_s in (HOUR_S, -24 * HOUR_S):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: right() + jump_s)
        assert queue.receive("work", limit=1, lease_s=60, wait_s=0) == []
    assert [message.body for message in queue.receive("work", limit=1, lease_s=60, wait_s=60.0)] == ["a"]
    queue.close()


FULL = """
import resource, sys
from pathlib import Path
from starburst_common.errors import Unavailable
from starburst_common.local.queue import LocalQueue

queue, body = LocalQueue(Path(sys.argv[1])), "x" * 10_000
queue.ensure("q")
queue.send("q", [body], group="g")
free = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, free[1]))
sent = 1
try:
    while True:
        queue.send("q", [body] * 5, group="g")
        sent += 5
except Unavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, free)
assert queue.depth("q").waiting == sent, "half a batch is there"
queue.send("q", [body], group="g")
assert queue.depth("q").waiting == sent + 1
"""


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    """It is told by our error, with the file, and not by SQLite's; once there is room the same queue goes on."""
    file = tmp_path / "queue.sqlite3"
    done = subprocess.run([sys.executable, "-c", FULL, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"the queue in {file}: ")


NO_ROOM = """
import sys
from pathlib import Path
from starburst_common.errors import NoSpace
from starburst_common.local import local_backend
home = Path(sys.argv[1], "home")
local_backend(home).close()
with Path(sys.argv[1], "ballast").open("wb", buffering=0) as ballast:
    try:
        while ballast.write(bytes(4096)) == 4096:
            pass
    except OSError:
        pass
try:
    backend = local_backend(home)
    backend.queue.depth("q")
except NoSpace as error:
    print(error)
Path(sys.argv[1], "ballast").unlink()
print(local_backend(home).queue.depth("q").waiting)
"""


@pytest.mark.rest
def test_where_a_queue_cannot_be_opened_for_want_of_space_that_is_told(tmp_path: Path) -> None:
    """What lies beside the file needs room, and SQLite calls its lack an error of the disk; it passes, as it should."""
    mounts = 'mount -t tmpfs -o size=1m tmpfs "$2" && exec "$0" -c "$1" "$2"'
    line = ["unshare", "--map-root-user", "--mount", "sh", "-c", mounts, sys.executable, NO_ROOM, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, waiting = done.stdout.splitlines()
    assert told.startswith(f"space in {tmp_path}/home: make room there")
    assert waiting == "0"

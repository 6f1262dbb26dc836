"""One standard queue: its messages, who holds which, and whose turn is next."""

from __future__ import annotations

import heapq
import itertools
import json
import math
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.testbed.clock import CLOCK

IN_FLIGHT_MAX = 120_000


class Where(Enum):
    """Where a message is."""

    READY = "ready"  #: to be received now
    DELAYED = "delayed"  #: sent, not to be received yet
    IN_FLIGHT = "in flight"  #: received, not deleted, its visibility timeout running
    GONE = "gone"  #: not in this queue: not yet, deleted, or moved to the dead letters


@dataclass(slots=True, eq=False)
class Message:
    """A message. `receives` numbers its receipts: only the newest one deletes it."""

    number: int
    body: str
    md5: str
    group: str | None
    attributes: dict[str, Any]
    sent_at: float  #: epoch
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    where: Where = Where.GONE
    until: float = 0.0  #: monotonic: when a delayed or held message is ready
    receives: int = 0
    received_at: float = 0.0  #: monotonic, of the newest receive
    first_received_at: float = 0.0  #: epoch


class Queue:
    """Every method takes about log(messages) time and is safe in threads; those that say so want `changed` held.

    A message comes from the group with the fewest in flight, as in fair queues; one without a group is its own group.
    """

    def __init__(self, name: str, attributes: dict[str, str], tags: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.tags = tags
        self.created_at = CLOCK.time()
        self._ends_at = math.inf
        self.waiting = 0  #: receives that wait for a message
        self.changed = threading.Condition(threading.Lock())
        self.messages: dict[int, Message] = {}
        self._numbers = itertools.count()
        self._empty()
        self._counted, self._counted_at = dict(self._count), CLOCK.monotonic()

    def _empty(self) -> None:
        self.messages.clear()
        self._count = dict.fromkeys(Where, 0)
        self._turns = itertools.count()
        self._ready: dict[str | None, deque[Message]] = {}
        self._held: dict[str | None, int] = {}  # in flight, by group
        self._rank: dict[str | None, tuple[int, int]] = {}
        self._ranks: list[tuple[int, int, str | None]] = []  # a heap; entries `_rank` no longer knows are stale
        self._later: list[
            tuple[float, int, Message]
        ] = []  # a heap; entries whose time is not their message's are stale

    def send(self, body: str, md5: str, *, group: str | None, attributes: dict[str, Any], delay_s: float) -> Message:
        """Add a message."""
        with self.changed:
            message = Message(next(self._numbers), body, md5, group, attributes, CLOCK.time())
            self._add(message, delay_s)
        return message

    def adopt(self, dead: Message) -> None:
        """Take another queue's message: a dead letter keeps its id and its age."""
        with self.changed:
            number = next(self._numbers)
            self._add(
                Message(number, dead.body, dead.md5, dead.group, dead.attributes, dead.sent_at, dead.id), delay_s=0.0
            )

    def receive(self, most: int, *, wait_s: float, visibility_s: float) -> tuple[list[Message], list[Message]]:
        """Up to `most` messages, now in flight, and those received too often, which left the queue instead.

        Waits for the first; comes back empty after `wait_s`, or when the queue is deleted.
        """
        until = CLOCK.monotonic() + wait_s
        with self.changed:
            while True:
                taken, dead = self._take(most, visibility_s)
                now = CLOCK.monotonic()
                if taken or dead or now >= min(until, self._ends_at):
                    self.changed.notify()  # another may have waited for what this one would have taken
                    return taken, dead
                self.waiting += 1
                self.changed.wait(min(until, self._ends_at, self._later[0][0] if self._later else until) - now)
                self.waiting -= 1

    def held(self, number: int) -> Message | None:
        """A message by its number. Hold `changed`."""
        self._wake()
        return self.messages.get(number)

    def change(self, message: Message, visibility_s: float) -> None:
        """Give a message in flight this long from now. Hold `changed`."""
        if visibility_s > 0:
            self._hold(message, Where.IN_FLIGHT, visibility_s)
        else:
            self._make_ready(message)

    def delete(self, number: int, receives: int) -> None:
        """Delete a message, if this is its newest receipt; otherwise leave all as it is."""
        with self.changed:
            message = self.messages.get(number)
            if message and message.receives == receives:
                self._remove(message)

    def purge(self) -> None:
        """Drop every message."""
        with self.changed:
            self._empty()

    def look_again(self) -> None:
        """The clock was moved: messages beyond their retention period are gone, and who waits sees what is due."""
        with self.changed:
            oldest = CLOCK.time() - int(self.attributes["MessageRetentionPeriod"])
            for message in [each for each in self.messages.values() if each.sent_at < oldest]:
                self._remove(message)
            self.changed.notify_all()

    def end(self, after_s: float = 0.0) -> None:
        """The queue is deleted: those who wait for messages stop, after so long."""
        with self.changed:
            self._ends_at = CLOCK.monotonic() + after_s
            self.changed.notify_all()

    @property
    def ended(self) -> bool:
        """It is deleted, and takes no requests any more."""
        return CLOCK.monotonic() >= self._ends_at

    def counts(self, lag_s: float = 0.0) -> dict[Where, int]:
        """How many messages were where, so long ago at most; at the queue's beginning there was none."""
        with self.changed:
            if CLOCK.monotonic() - self._counted_at >= lag_s:
                self._wake()
                self._counted, self._counted_at = dict(self._count), CLOCK.monotonic()
            return dict(self._counted)

    def redrive(self) -> tuple[str, int] | None:
        """The queue of dead letters, and after how many receives a message is one."""
        if not (policy := self.attributes.get("RedrivePolicy")):
            return None
        read = json.loads(policy)
        return read["deadLetterTargetArn"], int(read["maxReceiveCount"])

    def _take(self, most: int, visibility_s: float) -> tuple[list[Message], list[Message]]:
        self._wake()
        redrive = self.redrive()
        taken: list[Message] = []
        dead: list[Message] = []
        while len(taken) < most and self._count[Where.IN_FLIGHT] < IN_FLIGHT_MAX and (message := self._next()):
            if redrive and message.receives >= redrive[1]:
                self._remove(message)
                dead.append(message)
                continue
            message.receives += 1
            message.received_at = CLOCK.monotonic()
            message.first_received_at = message.first_received_at or CLOCK.time()
            self._hold(message, Where.IN_FLIGHT, visibility_s)
            taken.append(message)
        return taken, dead

    def _add(self, message: Message, delay_s: float) -> None:
        self.messages[message.number] = message
        if delay_s > 0:
            self._hold(message, Where.DELAYED, delay_s)
        else:
            self._make_ready(message)

    def _remove(self, message: Message) -> None:
        self._move(message, Where.GONE)
        del self.messages[message.number]

    def _wake(self) -> None:
        """Make ready what is due."""
        now = CLOCK.monotonic()
        while self._later and self._later[0][0] <= now:
            until, _, message = heapq.heappop(self._later)
            if message.until == until and message.where in (Where.DELAYED, Where.IN_FLIGHT):
                self._make_ready(message)

    def _next(self) -> Message | None:
        """The message whose turn it is, taken from its group's line."""
        while self._ranks:
            held, turn, group = self._ranks[0]
            line = self._ready.get(group)
            if not line or self._rank.get(group) != (held, turn):
                heapq.heappop(self._ranks)
                continue
            message = line.popleft()
            if not line:
                del self._ready[group]
                self._rank.pop(group, None)
            if message.where is Where.READY:  # it may have been deleted while it stood in line
                return message
        return None

    def _hold(self, message: Message, where: Where, for_s: float) -> None:
        message.until = CLOCK.monotonic() + for_s
        heapq.heappush(self._later, (message.until, message.number, message))
        self._move(message, where)
        if self._later[0][2] is message:
            self.changed.notify()  # one who waits learns the new time

    def _make_ready(self, message: Message) -> None:
        self._ready.setdefault(message.group, deque()).append(message)
        self._move(message, Where.READY)
        self.changed.notify()

    def _move(self, message: Message, where: Where) -> None:
        for place, change in ((message.where, -1), (where, 1)):
            if place is Where.IN_FLIGHT and message.group is not None:
                self._held[message.group] = self._held.get(message.group, 0) + change
                if not self._held[message.group]:
                    del self._held[message.group]
            if place is not Where.GONE:
                self._count[place] += change
        if Where.IN_FLIGHT in (message.where, where) or message.group not in self._rank:
            message.where = where
            self._place(message.group)
        message.where = where

    def _place(self, group: str | None) -> None:
        """Rank a group anew: fewest in flight first, then who was moved longest ago."""
        if group not in self._ready:
            self._rank.pop(group, None)
            return
        held = 0 if group is None else self._held.get(group, 0)
        self._rank[group] = (held, next(self._turns))
        heapq.heappush(self._ranks, (*self._rank[group], group))

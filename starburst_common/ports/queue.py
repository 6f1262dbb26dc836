"""Messages that are leased, and come again where they are not deleted: what every queue promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Leased(NamedTuple):
    """A message that is ours until its lease ends."""

    body: str
    receipt: str  #: names this lease; a later lease of the same message has another
    receives: int  #: how many times it was leased, this one included


class Depth(NamedTuple):
    """How many messages a queue holds. Exact locally, about right on SQS: never proves an end."""

    waiting: int
    leased: int


class WorkQueue(Protocol):
    """Queues with leases. Delivery is at least once and in no promised order.

    A body is text that is not empty and has no control characters but tabs and line ends. Times may be rounded up to
    whole seconds. A lease lasts up to 12 hours, renewals included: after that it is no longer ours.
    """

    def ensure(self, queue: str, *, max_receives: int | None = None, tags: Mapping[str, str] | None = None) -> None:
        """Make the queue if it is not there; one that is there is left as it is.

        A name that was dropped in the last minute may be refused with `Unavailable`: fresh queues have fresh names.
        With `max_receives`, a message leased that often and given back or left to expire again moves to `dead(queue)`.
        `tags` are what it is to be billed by, where there are bills.
        """

    def dead(self, queue: str) -> str:
        """The name of the queue's dead-letter queue."""

    def send(self, queue: str, bodies: Sequence[str], *, group: str, delay_s: float = 0.0) -> None:
        """Add messages, in batches of ten at most; durable when it returns. Raises `NotFound` without the queue.

        `delay_s` hides them so long. Receivers serve groups fairly: a group with few leases before one with many.
        """

    def receive(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Leased]:
        """Lease up to `limit` (1 to 10) messages for `lease_s`, waiting up to `wait_s` for the first.

        Nobody else gets them until the lease ends. Raises `NotFound` when the queue was dropped, also while it waits.
        Raises `ValueError` for another limit, or a lease longer than the queue can give.
        """

    def extend(self, queue: str, receipts: Sequence[str], lease_s: float) -> list[str]:
        """Let leases end `lease_s` from now; 0 gives back at once. Returns receipts that are no longer ours."""

    def delete(self, queue: str, receipts: Sequence[str]) -> None:
        """Remove leased messages for good. A receipt that is no longer ours changes nothing."""

    def depth(self, queue: str, *, group: str | None = None) -> Depth:
        """How much is there; all zero for a queue that is not there.

        With `group`, that group's messages where the queue can tell them apart; else the whole queue's, so never fewer.
        """

    def drop(self, queue: str) -> None:
        """Remove the queue, its dead letters and all messages; none there is no error.

        On AWS it may take requests for a minute yet, and what is sent then goes with it.
        """

    def drop_group(self, queue: str, group: str) -> None:
        """Remove one group's messages, leased ones too, where the queue can find them.

        Else they stay, and workers discard them when they meet them. Other groups' messages stay in any case.
        """

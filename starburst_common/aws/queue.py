"""Queues on Amazon SQS: standard queues with long polls, leases as visibility timeouts, groups as fair queues.

Limits are those of the Amazon SQS Developer Guide, "Message quotas", read 2026-11-22.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from threading import Lock
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import is_gone, speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.together import BATCH, batches
from starburst_common.errors import NotFound, StarburstError, Unavailable
from starburst_common.ports import Depth, Leased

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

_LONGEST_POLL_S = 20
_LONGEST_DELAY_S = 900
_LONGEST_LEASE_S = 12 * 3600  #: from a message's receipt to its last second, renewals included
_FORGOTTEN_S = 2 * _LONGEST_LEASE_S  #: a lease that is over is known as such so long, lest a renewal begin it anew
_RETENTION_S = 14 * 86400
_NEW_S = 2.0  #: a queue may be unknown for a moment after it was made. Source: Amazon SQS API reference, CreateQueue
_TRIES = 8


class SqsQueue:
    """`WorkQueue` on SQS; see `starburst_common.ports` for what it promises.

    A name becomes `<prefix><name>`. A group holds messages apart only for fairness: `depth` counts the whole queue, and
    `drop_group` leaves it to workers to discard what they meet.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        prefix: str,
        tags: dict[str, str],
        clock: Callable[[], float] = time.monotonic,
        account: str = "",
    ) -> None:
        """With the account that the queues are in, a first receive asks nobody for their address; see `_guess`."""
        self._clients, self._prefix, self._tags, self._clock, self._account = clients, prefix, tags, clock, account
        self._lock = Lock()
        self._urls: dict[str, str] = {}
        self._made: dict[str, float] = {}  # queues, and when we made them
        self._leased_at: dict[str, float] = {}  # receipts, and since when they are ours

    def ensure(self, queue: str, *, max_receives: int | None = None, tags: Mapping[str, str] | None = None) -> None:
        attributes: dict[Any, str] = {"MessageRetentionPeriod": str(_RETENTION_S)}
        if max_receives is not None:
            self.ensure(self.dead(queue), tags=tags)
            attributes["RedrivePolicy"] = (
                f'{{"deadLetterTargetArn":"{self._arn(self.dead(queue))}","maxReceiveCount":"{max_receives}"}}'
            )
        with speaking(f"sqs:CreateQueue {queue}"):
            try:
                made = self._clients.sqs.create_queue(
                    QueueName=self._prefix + queue, Attributes=attributes, tags={**self._tags, **(tags or {})}
                )
            except self._clients.sqs.exceptions.QueueNameExists:
                return  # it is there, made with other attributes, and is left as it is
        with self._lock:
            self._urls[queue] = made["QueueUrl"]
            self._made[queue] = self._clock()

    def dead(self, queue: str) -> str:
        return f"{queue}-dead"

    def send(self, queue: str, bodies: Sequence[str], *, group: str, delay_s: float = 0.0) -> None:
        if delay_s > _LONGEST_DELAY_S:
            raise ValueError(f"delay_s={delay_s}: SQS hides a message for {_LONGEST_DELAY_S} s at most")
        url, delay = self._url(queue), math.ceil(delay_s)
        for batch in batches(bodies):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {"Id": str(i), "MessageBody": body, "MessageGroupId": group, "DelaySeconds": delay}
                for i, body in enumerate(batch)
            ]

            def send(entries: Any) -> Any:
                return self._known(queue, lambda: self._clients.sqs.send_message_batch(QueueUrl=url, Entries=entries))

            with self._speaking_of(queue, "sqs:SendMessage"):
                failed = self._all("sqs:SendMessage", send, entries)
            if failed:
                raise StarburstError(f"sqs:SendMessage: {failed[0].get('Code', '')}: {failed[0].get('Message', '')}")

    def receive(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Leased]:
        if not 1 <= limit <= BATCH:
            raise ValueError(f"limit={limit}: a receive leases 1 to 10 messages")
        if lease_s > _LONGEST_LEASE_S:
            raise ValueError(f"lease_s={lease_s}: SQS leases a message for {_LONGEST_LEASE_S} s at most")
        until, leased = self._clock() + wait_s, []
        with self._speaking_of(queue, "sqs:ReceiveMessage"):
            for _ in range(2):  # an empty answer before its time: the queue may be gone, as a second look tells
                asked = self._clock()
                if leased := self._received(queue, limit, lease_s, max(until - asked, 0.0)):
                    break
                if self._clock() > until - 1:
                    break
        with self._lock:
            over = takewhile(lambda lease: lease[1] < asked - _FORGOTTEN_S, self._leased_at.items())
            for receipt, _ in [*over]:
                del self._leased_at[receipt]
            self._leased_at.update((message.receipt, asked) for message in leased)
        return leased

    def _received(self, queue: str, limit: int, lease_s: float, wait_s: float) -> list[Leased]:
        def receive(url: str) -> Any:
            return self._clients.sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=limit,
                VisibilityTimeout=math.ceil(lease_s),
                WaitTimeSeconds=min(math.ceil(wait_s), _LONGEST_POLL_S),
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )

        answer = self._guessed(queue, receive) or self._known(queue, lambda: receive(self._url(queue)))
        return [
            Leased(message["Body"], message["ReceiptHandle"], int(message["Attributes"]["ApproximateReceiveCount"]))
            for message in answer.get("Messages", [])
        ]

    def extend(self, queue: str, receipts: Sequence[str], lease_s: float) -> list[str]:
        lost: list[str] = []
        for batch in _tens(receipts):
            for_s = [self._within_cap(receipt, lease_s) for receipt in batch]
            lost += [receipt for receipt, seconds in zip(batch, for_s, strict=True) if seconds is None]
            entries: list[dict[str, Any]] = [
                {"Id": str(i), "ReceiptHandle": batch[i], "VisibilityTimeout": seconds}
                for i, seconds in enumerate(for_s)
                if seconds is not None
            ]
            if not entries:
                continue

            def extend(entries: Any) -> Any:
                url = self._url(queue)
                return self._clients.sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)

            try:
                with self._speaking_of(queue, "sqs:ChangeMessageVisibility"):
                    failed = self._all("sqs:ChangeMessageVisibility", extend, entries)
            except NotFound:  # the queue was dropped, and every lease with it
                lost += [batch[int(entry["Id"])] for entry in entries]
                continue
            lost += [batch[int(failure["Id"])] for failure in failed]
        if not lease_s:
            with self._lock:
                for receipt in receipts:
                    self._leased_at.pop(receipt, None)
        return [receipt for receipt in receipts if receipt in set(lost)]

    def delete(self, queue: str, receipts: Sequence[str]) -> None:
        for batch in _tens(receipts):
            entries = [{"Id": str(i), "ReceiptHandle": receipt} for i, receipt in enumerate(batch)]

            def delete(entries: Any) -> Any:
                return self._clients.sqs.delete_message_batch(QueueUrl=self._url(queue), Entries=entries)

            with suppress(NotFound), self._speaking_of(queue, "sqs:DeleteMessage"):
                self._all("sqs:DeleteMessage", delete, entries)
            with self._lock:
                for receipt in batch:
                    self._leased_at.pop(receipt, None)

    def depth(self, queue: str, *, group: str | None = None) -> Depth:
        try:
            with self._speaking_of(queue, "sqs:GetQueueAttributes"):
                found = self._clients.sqs.get_queue_attributes(
                    QueueUrl=self._url(queue),
                    AttributeNames=[
                        "ApproximateNumberOfMessages",
                        "ApproximateNumberOfMessagesNotVisible",
                        "ApproximateNumberOfMessagesDelayed",
                    ],
                )["Attributes"]
                waiting = int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesDelayed"])
                return Depth(waiting, int(found["ApproximateNumberOfMessagesNotVisible"]))
        except NotFound:
            return Depth(0, 0)

    def drop(self, queue: str) -> None:
        for name in (queue, self.dead(queue)):
            with suppress(NotFound), self._speaking_of(name, "sqs:DeleteQueue"):
                self._clients.sqs.delete_queue(QueueUrl=self._url(name))
            with self._lock:
                self._urls.pop(name, None)
                self._made.pop(name, None)

    def drop_group(self, queue: str, group: str) -> None:
        return

    def close(self) -> None:
        """Close every connection."""
        self._clients.close()

    def _url(self, queue: str) -> str:
        """A queue's address. May raise `NotFound`."""
        with self._lock:
            known = self._urls.get(queue)
            sibling = next(iter(self._urls.values()), None)
        if known is not None:
            return known
        if sibling is not None:  # queues of one account and region differ in their last part only
            return f"{sibling.rsplit('/', 1)[0]}/{self._prefix}{queue}"
        with speaking(f"sqs:GetQueueUrl {queue}"):
            known = self._clients.sqs.get_queue_url(QueueName=self._prefix + queue)["QueueUrl"]
        with self._lock:
            self._urls[queue] = known
        return known

    def _guessed(self, queue: str, call: Callable[[str], Any]) -> Any:
        """What a call answers at the address that the first queue we speak of should have; None if it is not there.

        That addresses look so is not promised, so it is only tried, and SQS is asked where it is wrong.
        """
        with self._lock:
            if self._urls or not self._account:
                return None
        url = f"{self._clients.sqs.meta.endpoint_url.rstrip('/')}/{self._account}/{self._prefix}{queue}"
        try:
            answer = call(url)
        except ClientError as error:
            if not is_gone(error):
                raise
            return None
        with self._lock:
            self._urls[queue] = url
        return answer

    def _arn(self, queue: str) -> str:
        account = self._url(queue).rstrip("/").split("/")[-2]
        region = self._clients.sqs.meta.region_name
        return f"arn:{self._clients.sqs.meta.partition}:sqs:{region}:{account}:{self._prefix}{queue}"

    def _speaking_of(self, queue: str, doing: str) -> Any:
        return speaking(f"{doing} {queue}")

    def _within_cap(self, receipt: str, lease_s: float) -> int | None:
        """A lease that ends within SQS's twelve hours, or None where they are over: then it is another worker's."""
        now = self._clock()
        with self._lock:
            left_s = self._leased_at.get(receipt, now) + _LONGEST_LEASE_S - now
        if lease_s and left_s < 1:
            return None
        return max(min(math.ceil(lease_s), int(left_s)), 0)

    def _known(self, queue: str, call: Callable[[], Any]) -> Any:
        """A call to a queue; one that we have just made may not be known yet."""
        while True:
            try:
                return call()
            except ClientError as error:
                with self._lock:
                    made = self._made.get(queue, -math.inf)
                if not is_gone(error) or self._clock() - made > _NEW_S:
                    raise
                time.sleep(_NEW_S / 10)

    def _all(self, doing: str, call: Callable[[Any], Any], entries: Sequence[Any]) -> list[Any]:
        """Make a batch call until every entry is through; returns those that were refused for good."""
        refused: list[Any] = []
        for attempt in range(_TRIES):
            failed = call(entries).get("Failed", [])
            refused += [failure for failure in failed if failure["SenderFault"]]
            again = {failure["Id"] for failure in failed if not failure["SenderFault"]}
            if not again:
                return refused
            entries = [entry for entry in entries if entry["Id"] in again]
            time.sleep(min(0.1 * 2**attempt, 5.0))
        raise Unavailable(f"{doing}: {len(entries)} messages of a batch were refused {_TRIES} times")


def _tens(receipts: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(receipts), BATCH):
        yield receipts[at : at + BATCH]

"""Amazon SQS: calls in, answers out, over queues in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable

from moto.utilities.utils import get_partition

from tests.testbed import messages
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import Conditions
from tests.testbed.messages import BYTES_MAX, NAME, VISIBILITY_MAX_S, Json, simple
from tests.testbed.queues import Message, Queue, Where
from tests.testbed.refusals import Refused

DELETED_RECENTLY_S = 60.0
_DEFAULTS = {
    "VisibilityTimeout": "30",
    "MaximumMessageSize": str(BYTES_MAX),
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "true",
}
_RANGES = {
    "VisibilityTimeout": (0, VISIBILITY_MAX_S),
    "MaximumMessageSize": (1024, BYTES_MAX),
    "MessageRetentionPeriod": (60, 1_209_600),
    "DelaySeconds": (0, 900),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
}
_SETTABLE = {*_DEFAULTS, "RedrivePolicy", "RedriveAllowPolicy", "Policy", "KmsMasterKeyId"}


class Sqs:
    """Standard queues of one account and Region; those of other Regions are `at` those."""

    def __init__(self, conditions: Conditions, *, account: str, region: str, endpoint: str) -> None:
        self._conditions = conditions
        self._account, self._region, self._endpoint = account, region, endpoint
        self._far: dict[str, Sqs] = {}
        self._arn = f"arn:{get_partition(region)}:sqs:{region}:{account}:"
        self._url = f"{endpoint}/{account}/"
        self._lock = threading.Lock()
        self._queues: dict[str, Queue] = {}
        self._deleted: dict[str, float] = {}
        self._ending: dict[str, Queue] = {}  # deleted, and still there
        self._calls: dict[str, Callable[[Json], Json]] = {
            "CreateQueue": self._create_queue,
            "GetQueueUrl": self._get_queue_url,
            "DeleteQueue": self._delete_queue,
            "ListQueues": self._list_queues,
            "PurgeQueue": self._purge_queue,
            "GetQueueAttributes": self._get_queue_attributes,
            "SetQueueAttributes": self._set_queue_attributes,
            "ReceiveMessage": self._receive_message,
            "TagQueue": self._tag_queue,
            "UntagQueue": self._untag_queue,
            "ListQueueTags": self._list_queue_tags,
        }

    def call(self, operation: str, body: Json) -> Json:
        """Answer a call. Raises `Refused`."""
        if operation in messages.CALLS:
            return messages.CALLS[operation](self._queue(body), body)
        if operation not in self._calls:
            raise simple("UnsupportedOperation", f"The test bed's SQS lacks {operation}.")
        return self._calls[operation](body)

    def at(self, region: str) -> Sqs:
        """Of a Region, which has queues of its own."""
        if region in ("", self._region):
            return self
        with self._lock:
            if region not in self._far:
                made = Sqs(self._conditions, account=self._account, region=region, endpoint=self._endpoint)
                self._far[region] = made
            return self._far[region]

    def queues(self) -> list[str]:
        """Names of the queues there are."""
        return sorted(self._queues)

    def waiting(self) -> int:
        """How many receives wait for a message."""
        return sum(queue.waiting for queue in [*self._queues.values(), *self._ending.values()])

    def look_again(self) -> None:
        """The clock was moved: so are all queues."""
        for queue in [*self._queues.values(), *self._ending.values()]:
            queue.look_again()

    def reset(self) -> None:
        """Drop every queue, and forget which names were used."""
        with self._lock:
            ended = [*self._queues.values(), *self._ending.values()]
            self._queues.clear()
            self._deleted.clear()
            self._ending.clear()
            self._far.clear()
        for queue in ended:
            queue.end()

    def _queue(self, body: Json) -> Queue:
        if not (url := body.get("QueueUrl")):
            raise Refused("MissingParameter", "The request must contain the parameter QueueUrl.")
        return self._named(str(url).rpartition("/")[2])

    def _named(self, name: str) -> Queue:
        if not (queue := self._queues.get(name) or self._still(name)):
            raise Refused(
                "QueueDoesNotExist",
                "The specified queue does not exist.",
                query_code="AWS.SimpleQueueService.NonExistentQueue",
            )
        return queue

    def _still(self, name: str) -> Queue | None:
        """A deleted queue that still takes requests."""
        queue = self._ending.get(name)
        return None if queue is None or queue.ended else queue

    def _create_queue(self, body: Json) -> Json:
        name, asked = body["QueueName"], self._settings(body.get("Attributes") or {})
        if not NAME.fullmatch(name):
            raise Refused(
                "InvalidParameterValue",
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            )
        with self._lock:
            if held := self._queues.get(name):
                for key, value in asked.items():
                    if held.attributes.get(key) != value:
                        raise Refused(
                            "QueueNameExists",
                            f"A queue already exists with the same name and a different value for attribute {key}",
                            query_code="QueueAlreadyExists",
                        )
            elif CLOCK.monotonic() - self._deleted.get(name, -DELETED_RECENTLY_S) < DELETED_RECENTLY_S:
                raise simple(
                    "QueueDeletedRecently",
                    "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
                )
            else:
                self._queues[name] = Queue(name, _DEFAULTS | asked, dict(body.get("tags") or {}))
        return {"QueueUrl": self._url + name}

    def _settings(self, asked: dict[str, str]) -> dict[str, str]:
        for key, value in asked.items():
            if key not in _SETTABLE:
                raise Refused("InvalidAttributeName", f"Unknown Attribute {key}.")
            low, high = _RANGES.get(key, (0, 0))
            if key in _RANGES and not (str(value).isdigit() and low <= int(value) <= high):
                raise Refused("InvalidAttributeValue", f"Invalid value for the parameter {key}.")
        return {key: str(value) for key, value in asked.items() if value != ""}

    def _get_queue_url(self, body: Json) -> Json:
        return {"QueueUrl": self._url + self._named(body["QueueName"]).name}

    def _delete_queue(self, body: Json) -> Json:
        with self._lock:
            queue = self._queue(body)
            if self._queues.pop(queue.name, None):
                self._deleted[queue.name] = CLOCK.monotonic()
                self._ending[queue.name] = queue
                queue.end(self._conditions.queue_deletion_s)
        return {}

    def _list_queues(self, body: Json) -> Json:
        prefix = body.get("QueueNamePrefix") or ""
        names = [name for name in self.queues() if name.startswith(prefix) and name > (body.get("NextToken") or "")]
        most = body.get("MaxResults") or 1000
        found: Json = {"QueueUrls": [self._url + name for name in names[:most]]} if names else {}
        return found | {"NextToken": names[most - 1]} if "MaxResults" in body and len(names) > most else found

    def _purge_queue(self, body: Json) -> Json:
        self._queue(body).purge()
        return {}

    def _get_queue_attributes(self, body: Json) -> Json:
        queue = self._queue(body)
        count = queue.counts(self._conditions.counters_lag_s)
        known = queue.attributes | {
            "QueueArn": self._arn + queue.name,
            "CreatedTimestamp": str(int(queue.created_at)),
            "LastModifiedTimestamp": str(int(queue.created_at)),
            "ApproximateNumberOfMessages": str(count[Where.READY]),
            "ApproximateNumberOfMessagesNotVisible": str(count[Where.IN_FLIGHT]),
            "ApproximateNumberOfMessagesDelayed": str(count[Where.DELAYED]),
        }
        asked = body.get("AttributeNames") or []
        if unknown := [name for name in asked if name not in {*known, *_SETTABLE, "All"}]:
            raise Refused("InvalidAttributeName", f"Unknown Attribute {unknown[0]}.")
        found = known if "All" in asked else {name: known[name] for name in asked if name in known}
        return {"Attributes": found} if found else {}

    def _set_queue_attributes(self, body: Json) -> Json:
        queue, asked = self._queue(body), self._settings(body["Attributes"])
        dropped = [key for key, value in body["Attributes"].items() if value == ""]
        queue.attributes = {key: value for key, value in (queue.attributes | asked).items() if key not in dropped}
        return {}

    def _tag_queue(self, body: Json) -> Json:
        self._queue(body).tags.update(body["Tags"])
        return {}

    def _untag_queue(self, body: Json) -> Json:
        queue = self._queue(body)
        queue.tags = {key: value for key, value in queue.tags.items() if key not in body["TagKeys"]}
        return {}

    def _list_queue_tags(self, body: Json) -> Json:
        return {"Tags": tags} if (tags := self._queue(body).tags) else {}

    def _receive_message(self, body: Json) -> Json:
        return messages.receive_message(self._queue(body), body, self._bury)

    def _bury(self, queue: Queue, dead: list[Message]) -> None:
        """Move dead letters to the queue for them; without one they are lost."""
        redrive = queue.redrive()
        grave = self._queues.get(redrive[0].rpartition(":")[2]) if redrive else None
        if grave:
            for message in dead:
                grave.adopt(message)

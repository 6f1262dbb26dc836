"""Amazon SQS: calls in, answers out, over queues in memory."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.testbed.queues import IN_FLIGHT_MAX, Message, Queue, Where
from tests.testbed.refusals import Refused

Json = dict[str, Any]
BYTES_MAX = 1_048_576
VISIBILITY_MAX_S = 43_200
DELETED_RECENTLY_S = 60.0
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
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


def _simple(code: str, message: str) -> Refused:
    return Refused(code, message, query_code=f"AWS.SimpleQueueService.{code}")


def _bad(name: str, value: object, reason: str) -> Refused:
    return Refused("InvalidParameterValue", f"Value {value} for parameter {name} is invalid. Reason: {reason}")


class Sqs:
    """Standard queues of one account and Region."""

    def __init__(self, *, account: str, region: str, endpoint: str) -> None:
        self._arn = f"arn:aws:sqs:{region}:{account}:"
        self._url = f"{endpoint}/{account}/"
        self._lock = threading.Lock()
        self._queues: dict[str, Queue] = {}
        self._deleted: dict[str, float] = {}
        self._calls: dict[str, Callable[[Json], Json]] = {
            "CreateQueue": self._create_queue,
            "GetQueueUrl": self._get_queue_url,
            "DeleteQueue": self._delete_queue,
            "ListQueues": self._list_queues,
            "PurgeQueue": self._purge_queue,
            "GetQueueAttributes": self._get_queue_attributes,
            "SetQueueAttributes": self._set_queue_attributes,
            "SendMessage": self._send_message,
            "SendMessageBatch": self._send_message_batch,
            "ReceiveMessage": self._receive_message,
            "DeleteMessage": self._delete_message,
            "DeleteMessageBatch": self._delete_message_batch,
            "ChangeMessageVisibility": self._change_message_visibility,
            "ChangeMessageVisibilityBatch": self._change_message_visibility_batch,
            "TagQueue": self._tag_queue,
            "UntagQueue": self._untag_queue,
            "ListQueueTags": self._list_queue_tags,
        }

    def call(self, operation: str, body: Json) -> Json:
        """Answer a call. Raises `Refused`."""
        if operation not in self._calls:
            raise _simple("UnsupportedOperation", f"The test bed's SQS lacks {operation}.")
        return self._calls[operation](body)

    def queues(self) -> list[str]:
        """Names of the queues there are."""
        return sorted(self._queues)

    def reset(self) -> None:
        """Drop every queue, and forget which names were used."""
        with self._lock:
            ended = list(self._queues.values())
            self._queues.clear()
            self._deleted.clear()
        for queue in ended:
            queue.end()

    def _queue(self, body: Json) -> Queue:
        if not (url := body.get("QueueUrl")):
            raise Refused("MissingParameter", "The request must contain the parameter QueueUrl.")
        return self._named(str(url).rpartition("/")[2])

    def _named(self, name: str) -> Queue:
        if not (queue := self._queues.get(name)):
            raise Refused(
                "QueueDoesNotExist",
                "The specified queue does not exist.",
                query_code="AWS.SimpleQueueService.NonExistentQueue",
            )
        return queue

    def _create_queue(self, body: Json) -> Json:
        name, asked = body["QueueName"], self._settings(body.get("Attributes") or {})
        if not _NAME.fullmatch(name):
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
            elif time.monotonic() - self._deleted.get(name, -DELETED_RECENTLY_S) < DELETED_RECENTLY_S:
                raise _simple(
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
            del self._queues[queue.name]
            self._deleted[queue.name] = time.monotonic()
        queue.end()
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
        count = queue.counts()
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

    def _send_message(self, body: Json) -> Json:
        queue = self._queue(body)
        if _size(body) > int(queue.attributes["MaximumMessageSize"]):
            raise Refused(
                "InvalidParameterValue",
                "One or more parameters are invalid. "
                f"Reason: Message must be shorter than {queue.attributes['MaximumMessageSize']} bytes.",
            )
        return self._send(queue, body)

    def _send_message_batch(self, body: Json) -> Json:
        queue = self._queue(body)
        total = sum(map(_size, body.get("Entries") or []))
        if total > BYTES_MAX:
            raise _simple(
                "BatchRequestTooLong",
                f"Batch requests cannot be longer than {BYTES_MAX} bytes. You have sent {total} bytes.",
            )
        return _each(body, lambda entry: self._send(queue, entry))

    def _send(self, queue: Queue, entry: Json) -> Json:
        text = entry.get("MessageBody") or ""
        if not text:
            raise Refused("MissingParameter", "The request must contain the parameter MessageBody.")
        if _ILLEGAL.search(text):
            raise Refused(
                "InvalidMessageContents",
                "Invalid binary character was found in the message body, the set of allowed characters is "
                "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF",
            )
        delay_s = entry.get("DelaySeconds", int(queue.attributes["DelaySeconds"]))
        if not 0 <= delay_s <= 900:
            raise _bad("DelaySeconds", delay_s, "DelaySeconds must be >= 0 and <= 900.")
        message = queue.send(
            text,
            hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
            group=entry.get("MessageGroupId"),
            attributes=entry.get("MessageAttributes") or {},
            delay_s=delay_s,
        )
        return {"MessageId": message.id, "MD5OfMessageBody": message.md5}

    def _receive_message(self, body: Json) -> Json:
        queue = self._queue(body)
        most = body.get("MaxNumberOfMessages", 1)
        if not 1 <= most <= 10:
            raise _bad("MaxNumberOfMessages", most, "Must be between 1 and 10, if provided.")
        wait_s = body.get("WaitTimeSeconds", int(queue.attributes["ReceiveMessageWaitTimeSeconds"]))
        if not 0 <= wait_s <= 20:
            raise _bad("WaitTimeSeconds", wait_s, "Must be >= 0 and <= 20, if provided.")
        visibility_s = body.get("VisibilityTimeout", int(queue.attributes["VisibilityTimeout"]))
        if not 0 <= visibility_s <= VISIBILITY_MAX_S:
            raise _bad("VisibilityTimeout", visibility_s, f"Must be between 0 and {VISIBILITY_MAX_S}, if provided.")
        until = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, until - time.monotonic())
            taken, dead = queue.receive(most, wait_s=left_s, visibility_s=visibility_s)
            self._bury(queue, dead)
            if taken or not dead:
                break
        if not taken and not wait_s and queue.counts()[Where.IN_FLIGHT] >= IN_FLIGHT_MAX:
            raise Refused("OverLimit", f"The maximum number of in flight messages is reached: {IN_FLIGHT_MAX}.")
        return {"Messages": [_received(queue, message, body) for message in taken]} if taken else {}

    def _bury(self, queue: Queue, dead: list[Message]) -> None:
        if dead and (redrive := queue.redrive()):
            grave = self._queues.get(redrive[0].rpartition(":")[2])
            for message in dead:
                if grave:
                    grave.adopt(message)

    def _delete_message(self, body: Json) -> Json:
        queue = self._queue(body)
        queue.delete(*_opened(queue, body["ReceiptHandle"]))
        return {}

    def _delete_message_batch(self, body: Json) -> Json:
        queue = self._queue(body)
        return _each(body, lambda entry: self._delete_message(entry | {"QueueUrl": queue.name}))

    def _change_message_visibility(self, body: Json) -> Json:
        queue, timeout_s = self._queue(body), body["VisibilityTimeout"]
        if not 0 <= timeout_s <= VISIBILITY_MAX_S:
            raise _bad("VisibilityTimeout", timeout_s, f"VisibilityTimeout must be <= {VISIBILITY_MAX_S} and >= 0.")
        number, receives = _opened(queue, body["ReceiptHandle"])
        with queue.changed:
            if not (message := queue.held(number)):
                raise _bad(
                    "ReceiptHandle",
                    body["ReceiptHandle"],
                    "Message does not exist or is not available for visibility timeout change.",
                )
            if message.receives != receives:
                raise Refused("ReceiptHandleIsInvalid", "The input receipt handle is not the newest of its message.")
            if message.where is not Where.IN_FLIGHT:
                raise _simple("MessageNotInflight", "The specified message isn't in flight.")
            if time.monotonic() + timeout_s - message.received_at > VISIBILITY_MAX_S:
                raise _bad(
                    "VisibilityTimeout",
                    timeout_s,
                    f"Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_MAX_S} seconds]",
                )
            queue.change(message, timeout_s)
        return {}

    def _change_message_visibility_batch(self, body: Json) -> Json:
        queue = self._queue(body)
        return _each(body, lambda entry: self._change_message_visibility(entry | {"QueueUrl": queue.name}))


def _size(entry: Json) -> int:
    size = len((entry.get("MessageBody") or "").encode("utf-8", "surrogatepass"))
    for name, value in (entry.get("MessageAttributes") or {}).items():
        size += sum(map(len, (name, value["DataType"], value.get("StringValue", ""), value.get("BinaryValue", ""))))
    return size


def _each(body: Json, act: Callable[[Json], Json]) -> Json:
    """Do a batch entry by entry: what is refused is listed, the rest is done."""
    entries = body.get("Entries") or []
    if not entries:
        raise _simple("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > 10:
        raise _simple(
            "TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are 10. You have sent {len(entries)}.",
        )
    if any(not _NAME.fullmatch(entry["Id"]) for entry in entries):
        raise _simple(
            "InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
            "It can be at most 80 letters long.",
        )
    if len({entry["Id"] for entry in entries}) < len(entries):
        raise _simple("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
    done, failed = [], []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"]} | act(entry))
        except Refused as why:
            failed.append(
                {"Id": entry["Id"], "SenderFault": True, "Code": why.query_code or why.code, "Message": why.message}
            )
    return {key: value for key, value in (("Successful", done), ("Failed", failed)) if value}


def _receipt(queue: Queue, message: Message) -> str:
    return base64.b64encode(f"{queue.created_at}.{queue.name}/{message.number}/{message.receives}".encode()).decode()


def _opened(queue: Queue, receipt: str) -> tuple[int, int]:
    """A receipt's message and which of its receives it is for."""
    try:
        owner, number, receives = base64.b64decode(receipt, validate=True).decode().split("/")
        if owner != f"{queue.created_at}.{queue.name}":
            raise ValueError(owner)
        return int(number), int(receives)
    except (ValueError, binascii.Error):
        raise Refused(
            "ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not a valid receipt handle.'
        ) from None


def _received(queue: Queue, message: Message, asked: Json) -> Json:
    known = {
        "SenderId": "AIDABED",
        "SentTimestamp": str(int(message.sent_at * 1000)),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received_at * 1000)),
    } | ({"MessageGroupId": message.group} if message.group is not None else {})
    names = {*(asked.get("AttributeNames") or ()), *(asked.get("MessageSystemAttributeNames") or ())}
    shown = known if "All" in names else {name: known[name] for name in names if name in known}
    wanted = asked.get("MessageAttributeNames") or ()
    extra = {n: v for n, v in message.attributes.items() if n in wanted or "All" in wanted or ".*" in wanted}
    received: Json = {
        "MessageId": message.id,
        "ReceiptHandle": _receipt(queue, message),
        "MD5OfBody": message.md5,
        "Body": message.body,
    }
    return received | ({"Attributes": shown} if shown else {}) | ({"MessageAttributes": extra} if extra else {})

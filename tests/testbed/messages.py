"""Amazon SQS's calls on the messages of one queue."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from typing import Any

from tests.testbed.clock import CLOCK
from tests.testbed.queues import IN_FLIGHT_MAX, Message, Queue, Where
from tests.testbed.refusals import Refused

Json = dict[str, Any]
BYTES_MAX = 1_048_576
VISIBILITY_MAX_S = 43_200
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")  #: of queues, and of a batch's entries
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def simple(code: str, message: str) -> Refused:
    """An error that the query protocol gave a longer name."""
    return Refused(code, message, query_code=f"AWS.SimpleQueueService.{code}")


def bad(name: str, value: object, reason: str) -> Refused:
    """A parameter out of its range."""
    return Refused("InvalidParameterValue", f"Value {value} for parameter {name} is invalid. Reason: {reason}")


def send_message(queue: Queue, body: Json) -> Json:
    """Send one. Raises `Refused`."""
    if _size(body) > int(queue.attributes["MaximumMessageSize"]):
        raise Refused(
            "InvalidParameterValue",
            "One or more parameters are invalid. "
            f"Reason: Message must be shorter than {queue.attributes['MaximumMessageSize']} bytes.",
        )
    return _send(queue, body)


def send_message_batch(queue: Queue, body: Json) -> Json:
    """Send up to ten, a mebibyte in all. Raises `Refused`."""
    total = sum(map(_size, body.get("Entries") or []))
    if total > BYTES_MAX:
        raise simple(
            "BatchRequestTooLong",
            f"Batch requests cannot be longer than {BYTES_MAX} bytes. You have sent {total} bytes.",
        )
    return _each(body, lambda entry: _send(queue, entry))


def _send(queue: Queue, entry: Json) -> Json:
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
        raise bad("DelaySeconds", delay_s, "DelaySeconds must be >= 0 and <= 900.")
    message = queue.send(
        text,
        hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        group=entry.get("MessageGroupId"),
        attributes=entry.get("MessageAttributes") or {},
        delay_s=delay_s,
    )
    return {"MessageId": message.id, "MD5OfMessageBody": message.md5}


def receive_message(queue: Queue, body: Json, bury: Callable[[Queue, list[Message]], None]) -> Json:
    """Up to ten messages; those received too often are buried instead. Raises `Refused`."""
    most = body.get("MaxNumberOfMessages", 1)
    if not 1 <= most <= 10:
        raise bad("MaxNumberOfMessages", most, "Must be between 1 and 10, if provided.")
    wait_s = body.get("WaitTimeSeconds", int(queue.attributes["ReceiveMessageWaitTimeSeconds"]))
    if not 0 <= wait_s <= 20:
        raise bad("WaitTimeSeconds", wait_s, "Must be >= 0 and <= 20, if provided.")
    visibility_s = body.get("VisibilityTimeout", int(queue.attributes["VisibilityTimeout"]))
    if not 0 <= visibility_s <= VISIBILITY_MAX_S:
        raise bad("VisibilityTimeout", visibility_s, f"Must be between 0 and {VISIBILITY_MAX_S}, if provided.")
    until = CLOCK.monotonic() + wait_s
    while True:
        left_s = max(0.0, until - CLOCK.monotonic())
        taken, dead = queue.receive(most, wait_s=left_s, visibility_s=visibility_s)
        bury(queue, dead)
        if taken or not dead:
            break
    if not taken and not wait_s and queue.counts()[Where.IN_FLIGHT] >= IN_FLIGHT_MAX:
        raise Refused("OverLimit", f"The maximum number of in flight messages is reached: {IN_FLIGHT_MAX}.")
    return {"Messages": [_received(queue, message, body) for message in taken]} if taken else {}


def delete_message(queue: Queue, body: Json) -> Json:
    """Delete what a receipt is for. Raises `Refused`."""
    queue.delete(*_opened(queue, body["ReceiptHandle"]))
    return {}


def delete_message_batch(queue: Queue, body: Json) -> Json:
    """Delete what up to ten receipts are for. Raises `Refused`."""
    return _each(body, lambda entry: delete_message(queue, entry))


def change_message_visibility(queue: Queue, body: Json) -> Json:
    """Keep a message in flight longer, or give it back. Raises `Refused`."""
    timeout_s = body["VisibilityTimeout"]
    if not 0 <= timeout_s <= VISIBILITY_MAX_S:
        raise bad("VisibilityTimeout", timeout_s, f"VisibilityTimeout must be <= {VISIBILITY_MAX_S} and >= 0.")
    number, receives = _opened(queue, body["ReceiptHandle"])
    with queue.changed:
        if not (message := queue.held(number)):
            raise bad(
                "ReceiptHandle",
                body["ReceiptHandle"],
                "Message does not exist or is not available for visibility timeout change.",
            )
        if message.receives != receives:
            raise Refused("ReceiptHandleIsInvalid", "The input receipt handle is not the newest of its message.")
        if message.where is not Where.IN_FLIGHT:
            raise simple("MessageNotInflight", "The specified message isn't in flight.")
        if CLOCK.monotonic() + timeout_s - message.received_at > VISIBILITY_MAX_S:
            raise bad(
                "VisibilityTimeout",
                timeout_s,
                f"Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_MAX_S} seconds]",
            )
        queue.change(message, timeout_s)
    return {}


def change_message_visibility_batch(queue: Queue, body: Json) -> Json:
    """The same for up to ten. Raises `Refused`."""
    return _each(body, lambda entry: change_message_visibility(queue, entry))


def _size(entry: Json) -> int:
    size = len((entry.get("MessageBody") or "").encode("utf-8", "surrogatepass"))
    for name, value in (entry.get("MessageAttributes") or {}).items():
        size += sum(map(len, (name, value["DataType"], value.get("StringValue", ""), value.get("BinaryValue", ""))))
    return size


def _each(body: Json, act: Callable[[Json], Json]) -> Json:
    """Do a batch entry by entry: what is refused is listed, the rest is done."""
    entries = body.get("Entries") or []
    if not entries:
        raise simple("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > 10:
        raise simple(
            "TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are 10. You have sent {len(entries)}.",
        )
    if any(not NAME.fullmatch(entry["Id"]) for entry in entries):
        raise simple(
            "InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
            "It can be at most 80 letters long.",
        )
    if len({entry["Id"] for entry in entries}) < len(entries):
        raise simple("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
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


#: but ReceiveMessage, which may have dead letters to bury
CALLS: dict[str, Callable[[Queue, Json], Json]] = {
    "SendMessage": send_message,
    "SendMessageBatch": send_message_batch,
    "DeleteMessage": delete_message,
    "DeleteMessageBatch": delete_message_batch,
    "ChangeMessageVisibility": change_message_visibility,
    "ChangeMessageVisibilityBatch": change_message_visibility_batch,
}

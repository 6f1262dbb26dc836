"""The bed's SQS against what AWS documents. Sources are named rule by rule."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.testbed.bed import Bed


@pytest.fixture
def sqs(bed: Bed) -> Any:
    """A client of queues whose counts are exact."""
    bed.set(counters_lag_s=0)
    return bed.boto("sqs")


@pytest.fixture
def queue(sqs: Any) -> str:
    """The URL of a queue."""
    return str(sqs.create_queue(QueueName="tried", Attributes={"VisibilityTimeout": "30"})["QueueUrl"])


def code_of(call: Callable[..., Any], **parameters: Any) -> str:
    """The error code of a call that is refused."""
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return str(error.value.response["Error"]["Code"])


def entries(number: int, body: str = "x") -> list[dict[str, Any]]:
    """So many entries for SendMessageBatch."""
    return [{"Id": str(i), "MessageBody": body} for i in range(number)]


def received(sqs: Any, queue: str, **more: Any) -> list[dict[str, Any]]:
    """Messages of one receive."""
    asked = {"MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["All"]} | more
    return list(sqs.receive_message(QueueUrl=queue, **asked).get("Messages", []))


def test_a_queue_is_made_once_and_a_deleted_name_rests(bed: Bed, sqs: Any, queue: str) -> None:
    """Same attributes: the same URL; others: an error; 60 s after a delete: too (SQS API reference, CreateQueue)."""
    assert sqs.create_queue(QueueName="tried", Attributes={"VisibilityTimeout": "30"})["QueueUrl"] == queue
    assert code_of(sqs.create_queue, QueueName="tried", Attributes={"VisibilityTimeout": "31"}) == "QueueAlreadyExists"
    assert sqs.get_queue_url(QueueName="tried")["QueueUrl"] == queue
    sqs.delete_queue(QueueUrl=queue)
    assert code_of(sqs.create_queue, QueueName="tried") == "AWS.SimpleQueueService.QueueDeletedRecently"
    bed.elapse(6)
    gone = "AWS.SimpleQueueService.NonExistentQueue"
    assert code_of(sqs.send_message, QueueUrl=queue, MessageBody="x") == gone
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName="tried")
    assert code_of(sqs.create_queue, QueueName="tried") == "AWS.SimpleQueueService.QueueDeletedRecently"


def test_a_deleted_queue_still_takes_requests_for_a_while(bed: Bed, sqs: Any, queue: str) -> None:
    """Up to 60 s, here a tenth: what is sent then goes with it (SQS API reference, DeleteQueue)."""
    sqs.send_message(QueueUrl=queue, MessageBody="before")
    sqs.delete_queue(QueueUrl=queue)
    sqs.delete_queue(QueueUrl=queue)
    assert [message["Body"] for message in received(sqs, queue)] == ["before"]
    sqs.send_message(QueueUrl=queue, MessageBody="after")
    assert [message["Body"] for message in received(sqs, queue)] == ["after"]
    assert "QueueUrls" not in sqs.list_queues()
    bed.elapse(60)
    sqs.create_queue(QueueName="tried")
    assert received(sqs, queue) == []


def test_queues_are_listed_by_prefix_and_tagged(sqs: Any) -> None:
    """QueueNamePrefix; tags at creation and after (SQS API reference, ListQueues, TagQueue)."""
    for name in ("a-1", "a-2", "b-1"):
        sqs.create_queue(QueueName=name, tags={"run": name})
    urls = sqs.list_queues(QueueNamePrefix="a-")["QueueUrls"]
    assert [url.rpartition("/")[2] for url in urls] == ["a-1", "a-2"]
    sqs.tag_queue(QueueUrl=urls[0], Tags={"more": "1"})
    assert sqs.list_queue_tags(QueueUrl=urls[0])["Tags"] == {"run": "a-1", "more": "1"}


def test_a_batch_is_ten_distinct_entries_of_a_mebibyte_in_all(sqs: Any, queue: str) -> None:
    """Limits of SendMessageBatch (SQS developer guide, "Message quotas")."""
    base = "AWS.SimpleQueueService."
    send = sqs.send_message_batch
    assert code_of(send, QueueUrl=queue, Entries=entries(11)) == base + "TooManyEntriesInBatchRequest"
    assert code_of(send, QueueUrl=queue, Entries=[]) == base + "EmptyBatchRequest"
    assert code_of(send, QueueUrl=queue, Entries=entries(1) * 2) == base + "BatchEntryIdsNotDistinct"
    assert code_of(send, QueueUrl=queue, Entries=entries(2, "x" * 600_000)) == base + "BatchRequestTooLong"
    assert code_of(sqs.send_message, QueueUrl=queue, MessageBody="x" * 1_048_577) == "InvalidParameterValue"
    sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_048_576)
    assert len(send(QueueUrl=queue, Entries=entries(10))["Successful"]) == 10


def test_one_bad_entry_does_not_stop_the_others(sqs: Any, queue: str) -> None:
    """A batch answers 200 with Successful and Failed (SQS API reference, SendMessageBatch)."""
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=[*entries(1), {"Id": "bad", "MessageBody": "\x00"}])
    assert [entry["Id"] for entry in answer["Successful"]] == ["0"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("bad", "InvalidMessageContents")]


def test_illegal_characters_are_refused(sqs: Any, queue: str) -> None:
    """Only XML's characters are allowed (SQS API reference, SendMessage)."""
    assert code_of(sqs.send_message, QueueUrl=queue, MessageBody="a\x08b") == "InvalidMessageContents"


def test_a_message_is_hidden_until_its_timeout_then_counts_again(bed: Bed, sqs: Any, queue: str) -> None:
    """Visibility timeout and ApproximateReceiveCount (SQS developer guide, "Visibility timeout")."""
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [first] = received(sqs, queue, VisibilityTimeout=30)
    bed.elapse(20)
    assert received(sqs, queue) == []
    bed.elapse(10)
    [second] = received(sqs, queue)
    counts = [message["Attributes"]["ApproximateReceiveCount"] for message in (first, second)]
    assert counts == ["1", "2"]
    assert first["ReceiptHandle"] != second["ReceiptHandle"]


def test_an_old_receipt_deletes_nothing(sqs: Any, queue: str) -> None:
    """The delete succeeds but the message stays (SQS API reference, DeleteMessage: most recent handle)."""
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [first] = received(sqs, queue, VisibilityTimeout=0)
    [second] = received(sqs, queue)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    assert counted(sqs, queue) == (0, 1, 0)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])
    assert counted(sqs, queue) == (0, 0, 0)
    assert code_of(sqs.delete_message, QueueUrl=queue, ReceiptHandle="nonsense") == "ReceiptHandleIsInvalid"


def counted(sqs: Any, queue: str) -> tuple[int, ...]:
    """Messages visible, in flight and delayed."""
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return tuple(int(found[name]) for name in names)


def test_counts_are_old(bed: Bed, sqs: Any, queue: str) -> None:
    """Unless a test has them exact (SQS API reference, GetQueueAttributes)."""
    bed.set(counters_lag_s=6)
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    assert counted(sqs, queue) == (0, 0, 0)
    bed.elapse(6)
    assert counted(sqs, queue) == (1, 0, 0)
    received(sqs, queue)
    assert counted(sqs, queue) == (1, 0, 0)


def test_visibility_can_be_changed_while_in_flight_and_for_twelve_hours_in_all(bed: Bed, sqs: Any, queue: str) -> None:
    """ChangeMessageVisibility's errors (SQS API reference, ChangeMessageVisibility)."""
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [message] = received(sqs, queue)
    handle = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}
    sqs.change_message_visibility(**handle, VisibilityTimeout=43_000)
    bed.elapse(1)
    with pytest.raises(ClientError, match=r"Total VisibilityTimeout .* beyond the limit \[43200 seconds\]") as error:
        sqs.change_message_visibility(**handle, VisibilityTimeout=43_200)
    assert error.value.response["Error"]["Code"] == "InvalidParameterValue"
    sqs.change_message_visibility(**handle, VisibilityTimeout=0)
    code = "AWS.SimpleQueueService.MessageNotInflight"
    assert code_of(sqs.change_message_visibility, **handle, VisibilityTimeout=10) == code
    assert len(received(sqs, queue)) == 1
    assert code_of(sqs.change_message_visibility, **handle, VisibilityTimeout=10) == "ReceiptHandleIsInvalid"


def test_a_message_received_too_often_is_a_dead_letter(sqs: Any, queue: str) -> None:
    """The receive after maxReceiveCount moves it, with its id (SQS developer guide, "Dead-letter queues")."""
    grave = sqs.create_queue(QueueName="grave")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=grave, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"2"}}'
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
    sent = sqs.send_message(QueueUrl=queue, MessageBody="x")["MessageId"]
    for _ in range(2):
        assert len(received(sqs, queue, VisibilityTimeout=0)) == 1
    assert received(sqs, queue) == []
    assert [message["MessageId"] for message in received(sqs, grave)] == [sent]


def test_a_delayed_message_comes_later(bed: Bed, sqs: Any, queue: str) -> None:
    """DelaySeconds 0 to 900, per message (SQS API reference, SendMessage)."""
    sqs.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=900)
    bed.elapse(800)
    assert (received(sqs, queue), counted(sqs, queue)) == ([], (0, 0, 1))
    bed.elapse(100)
    assert len(received(sqs, queue)) == 1
    assert code_of(sqs.send_message, QueueUrl=queue, MessageBody="x", DelaySeconds=901) == "InvalidParameterValue"


def test_a_long_poll_wakes_on_arrival_and_when_its_time_is_up_or_the_queue_goes(bed: Bed, sqs: Any, queue: str) -> None:
    """A long poll answers as soon as a message is there (SQS developer guide, "Short and long polling").

    The clock stands still but for what is told here, so that no poll ends by itself.
    """
    bed.stop_clock()

    def polled(*acts: Callable[[], object]) -> list[str]:
        with ThreadPoolExecutor(1) as other:
            polling = other.submit(received, sqs, queue, WaitTimeSeconds=20, VisibilityTimeout=30)
            for act in acts:
                bed.until(bed.polls)
                assert not polling.done()
                act()
        return [message["Body"] for message in polling.result()]

    assert polled(lambda: sqs.send_message(QueueUrl=queue, MessageBody="x")) == ["x"]
    assert polled(lambda: bed.elapse(10), lambda: bed.elapse(10)) == []
    assert polled(lambda: bed.elapse(10)) == ["x"]
    assert polled(lambda: sqs.delete_queue(QueueUrl=queue), lambda: bed.elapse(6)) == []


def test_time_ends_what_it_ends(bed: Bed, sqs: Any, queue: str) -> None:
    """A message's retention, and the rest of a deleted queue's name (SQS API reference, CreateQueue)."""
    sqs.send_message(QueueUrl=queue, MessageBody="old")
    bed.elapse(300_000)
    sqs.send_message(QueueUrl=queue, MessageBody="new")
    bed.elapse(60_000)
    assert [message["Body"] for message in received(sqs, queue)] == ["new"]
    sqs.delete_queue(QueueUrl=queue)
    bed.elapse(50)
    assert code_of(sqs.create_queue, QueueName="tried") == "AWS.SimpleQueueService.QueueDeletedRecently"
    bed.elapse(10)
    assert sqs.create_queue(QueueName="tried")["QueueUrl"] == queue


def test_groups_share_fairly(sqs: Any, queue: str) -> None:
    """A group with many in flight lets one with few go first (SQS developer guide, "Fair queues")."""
    for start in range(0, 40, 10):
        batch = [{"Id": str(i), "MessageBody": str(start + i), "MessageGroupId": "loud"} for i in range(10)]
        sqs.send_message_batch(QueueUrl=queue, Entries=batch)
    assert len(received(sqs, queue)) == 10
    sqs.send_message(QueueUrl=queue, MessageBody="x", MessageGroupId="quiet")
    [next_one] = received(sqs, queue, MaxNumberOfMessages=1)
    assert next_one["Attributes"]["MessageGroupId"] == "quiet"


def test_every_message_comes_to_one_receiver(bed: Bed, sqs: Any, queue: str) -> None:
    """Receivers at once get different messages, none is lost: 1,000 messages, 8 threads."""
    for _ in range(100):
        sqs.send_message_batch(QueueUrl=queue, Entries=entries(10))
    got: list[str] = []

    def drain() -> None:
        while messages := received(sqs, queue):
            got.extend(message["MessageId"] for message in messages)
            handles = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=queue, Entries=handles)

    threads = [threading.Thread(target=drain) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(set(got)), counted(sqs, queue)) == (1000, 1000, (0, 0, 0))


def test_a_purged_queue_is_empty(sqs: Any, queue: str) -> None:
    """PurgeQueue drops messages in flight too (SQS API reference, PurgeQueue)."""
    sqs.send_message_batch(QueueUrl=queue, Entries=entries(3))
    received(sqs, queue, MaxNumberOfMessages=1)
    sqs.purge_queue(QueueUrl=queue)
    assert counted(sqs, queue) == (0, 0, 0)

"""A bucket that was deleted, and whose name another account took, is refused by S3 itself: nothing goes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from starburst_common.aws.reach import site_parts
from starburst_common.errors import Denied
from starburst_common.ports import ObjectStore
from starburst_common.sites.site import Site
from tests.places import aws_text, open_place
from tests.testbed.bed import Bed as Aws

THERE = "runs/there"

CALLS: dict[str, Callable[[ObjectStore], object]] = {
    "create": lambda store: store.create("runs/new", b"items"),
    "create beyond 1 MiB": lambda store: store.create("runs/new", bytes(2 << 20)),
    "create in parts": lambda store: store.create("runs/new", bytes(65 << 20)),
    "put": lambda store: store.put("runs/new", b"items"),
    "put beyond 1 MiB": lambda store: store.put("runs/new", bytes(9 << 20)),
    "publish": lambda store: store.publish("runs/new", "<p>"),
    "get": lambda store: store.get(THERE),
    "get_range": lambda store: store.get_range(THERE, 0, 1),
    "written_at": lambda store: store.written_at(THERE),
    "folders": lambda store: store.folders(""),
    "list": lambda store: [*store.list("runs/")],
    "delete": lambda store: store.delete([THERE]),
    "delete_folder": lambda store: store.delete_folder("runs/"),
}


@contextmanager
def opened(aws: Aws) -> Iterator[ObjectStore]:
    """The store of the bed's site, as a process has it that has just begun."""
    backend = open_place(aws_text(aws.site))
    try:
        yield backend.store
    finally:
        backend.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_bucket_of_another_account_is_neither_read_nor_written(aws: Aws, call: str) -> None:
    """Though that account lets everybody in: and the error says whose it is not, and what to do."""
    bucket, s3 = aws.site["bucket"], aws.boto("s3")
    with opened(aws) as store:
        store.put(THERE, b"ours")
        CALLS[call](store)
    for key in ("runs/new", THERE):
        s3.delete_object(Bucket=bucket, Key=key)
    s3.put_object(Bucket=bucket, Key=THERE, Body=b"theirs")
    aws.set(taken=[bucket])
    with (
        opened(aws) as store,
        pytest.raises(Denied, match=f"{bucket} is not of the account 123456789012.*site up anew"),
    ):
        CALLS[call](store)
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [THERE]


def test_the_doctor_tells_a_bucket_of_another_account(aws: Aws) -> None:
    """What setup and `starburst doctor` look at."""
    aws.set(taken=[aws.site["bucket"]])
    (bucket,) = [each for each in site_parts(Site.of(aws.site, "the bed")) if each.part == "bucket"]
    assert not bucket.fine and "somebody else has its name" in bucket.told

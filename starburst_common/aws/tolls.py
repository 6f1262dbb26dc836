"""Requests to S3 and SQS, and their bytes, counted as they are charged for.

Sources: Amazon S3 pricing, "Requests & data retrievals": PUT, COPY, POST and LIST have one price, GET and all others
another, DELETE has none; Amazon SQS pricing: each 64 KB of a request are one; read 2026-11-30.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from threading import Lock
from typing import Any

from starburst_common.ports import TOLLS

S3_PUT, S3_GET, SQS, LOG_BYTES, SQS_BYTES, S3_BYTES, IMAGE_BYTES = TOLLS
LISTED = 1000  #: keys a request of a listing. Source: Amazon S3 API reference, ListObjectsV2
_SQS_BYTES = 64 << 10
_READS = re.compile("Get|Head|Select")
_FREE = re.compile("Delete|Abort")


class Tolls:
    """Of one process, since they were last taken."""

    def __init__(self) -> None:
        self._lock, self._counts = Lock(), Counter[str]()

    def add(self, kind: str, count: int = 1) -> None:
        """So many more."""
        with self._lock:
            self._counts[kind] += count

    def take(self) -> dict[str, int]:
        """How many there were since this was last called."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return dict(taken)

    def watch(self, client: Any) -> None:
        """Count what a boto3 client sends, each try of it."""
        service = client.meta.service_model.service_name
        client.meta.events.register("before-send", partial(self._sent, service))
        client.meta.events.register("after-call", partial(self._answered, service))

    def _sent(self, service: str, event_name: str, request: Any, **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        self._carried(service, request.headers)
        if service == "sqs":
            self.add(SQS, max(-(-len(request.body or b"") // _SQS_BYTES), 1))
        elif not _FREE.match(operation):
            self.add(S3_GET if _READS.match(operation) else S3_PUT)

    def _answered(self, service: str, event_name: str, http_response: Any, **_: Any) -> None:
        if not event_name.rpartition(".")[2].startswith("Head"):  # which tell the length of what they do not bring
            self._carried(service, http_response.headers)

    def _carried(self, service: str, headers: Any) -> None:
        """A body of such a length."""
        length = str(headers.get("X-Amz-Decoded-Content-Length") or headers.get("Content-Length") or "")
        if length.isdecimal() and int(length):
            self.add(SQS_BYTES if service == "sqs" else S3_BYTES, int(length))

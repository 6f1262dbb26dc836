"""What a bucket is asked, and what moto answers, in; the same as S3 has it out: of policies, and of uploads."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from threading import Lock

from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.refusals import Answer

_UPLOAD = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_EACH = re.compile(rb"<Upload>.*?</Upload>", re.DOTALL)
_SINCE = re.compile(rb"(?<=<Initiated>)[^<]*")


class Buckets:
    """What moto does not keep of buckets."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._policies: dict[str, bytes] = {}  # as they were put
        self._since: dict[bytes, bytes] = {}  # by upload

    def put(self, call: Call) -> bytes:
        """A policy as moto is to have it: without what it denies to whom does not use TLS.

        All that comes here stands for such calls. moto evaluates no conditions, and would deny everything to everybody.
        """
        with self._lock:
            self._policies[_bucket(call)] = call.body
        read = json.loads(call.body)
        denied = {"Bool": {"aws:SecureTransport": "false"}}
        read["Statement"] = [each for each in read["Statement"] if each.get("Condition") != denied]
        return json.dumps(read).encode()

    def answered(self, call: Call, answer: Answer) -> Answer:
        """moto's answer, with what was put, and since when uploads go on, which it says of none."""
        if answer.status != 200:
            return answer
        with self._lock:
            if call.operation == "CreateMultipartUpload" and (made := _UPLOAD.search(answer.body)):
                self._since[made[1]] = datetime.fromtimestamp(CLOCK.time(), UTC).strftime("%FT%T.000Z").encode()
            if call.operation == "GetBucketPolicy":
                return answer._replace(body=self._policies.get(_bucket(call), answer.body))
            if call.operation == "ListMultipartUploads":
                return answer._replace(body=_EACH.sub(lambda found: self._dated(found[0]), answer.body))
        return answer

    def _dated(self, upload: bytes) -> bytes:
        named = _UPLOAD.search(upload)
        since = self._since.get(named[1]) if named else None
        return _SINCE.sub(since, upload) if since else upload


def _bucket(call: Call) -> str:
    return call.path.partition("?")[0].lstrip("/").partition("/")[0]

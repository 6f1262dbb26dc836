"""Faults by script: which calls fail, how often, and how."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.refusals import Dropped, Refused


@dataclass(slots=True, kw_only=True)
class Fault:
    """Calls that match all of service, operation, match and access key fail: `times` times, or each with a probability.

    It answers with status, code and message in the service's own error shape; with `reset` it closes the connection
    without an answer; with only `delay_s` it is just late. With `after` the call is done first.
    """

    operation: str = ""  #: "RunTask"; empty: any
    service: str = ""  #: "s3"; empty: any
    match: str = ""  #: found in the path with its query, or in the body
    access_key: str = ""  #: who calls
    times: int | None = None  #: empty, without a probability: once
    probability: float | None = None
    skip: int = 0  #: matching calls to let pass first
    status: int = 0  #: empty: 400, or 500 if the code says so
    code: str = ""
    message: str = "Injected by the test bed."
    delay_s: float = 0.0
    reset: bool = False
    after: bool = False
    halfway: bool = False  #: with `reset`: after half of the request's body, for calls named by their path alone
    hits: int = 0  #: calls it has changed

    def wants(self, call: Call) -> bool:
        """Whether a call is one of its kind."""
        return (
            self.operation in ("", call.operation)
            and self.service in ("", call.service)
            and self.access_key in ("", call.access_key)
            and (not self.match or self.match in call.path or self.match.encode() in call.body)
        )

    def strike(self) -> None:
        """Wait, then raise `Refused` or `Dropped`, if it is to."""
        time.sleep(self.delay_s)
        if self.reset:
            raise Dropped
        if self.code or self.status:
            code = self.code or "InternalError"
            raise Refused(code, self.message, status=self.status or _STATUS.get(code, 400))


_STATUS = {
    "SlowDown": 503,
    "ServiceUnavailable": 503,
    "InternalError": 500,
    "ServerException": 500,
    "InternalFailure": 500,
    "ConditionalRequestConflict": 409,
    "OperationAborted": 409,
    "PreconditionFailed": 412,
    "NoSuchKey": 404,
    "AccessDenied": 403,
}


class Faults:
    """The script. Its chances are seeded: the same calls in the same order fail alike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expired: set[str] = set()
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """No faults."""
        with self._lock:
            self._script: list[Fault] = []
            self._chance = random.Random(seed)
            self._dark_until = 0.0
            self._expired = set()

    def add(self, fault: Fault) -> None:
        """Add to the script."""
        if fault.times is None and fault.probability is None:
            fault.times = 1
        with self._lock:
            self._script.append(fault)

    def script(self) -> list[Fault]:
        """All faults, spent ones too."""
        return list(self._script)

    def clear(self) -> None:
        """Drop the script."""
        with self._lock:
            self._script = []

    def blackout(self, seconds: float) -> None:
        """From now on, and for so long, every AWS call loses its connection."""
        self._dark_until = CLOCK.monotonic() + seconds

    def expire(self, access_keys: list[str]) -> None:
        """These keys are expired credentials from now on."""
        with self._lock:
            self._expired |= set(access_keys)

    def check(self, call: Call) -> None:
        """Raise `Dropped` in a blackout, `Refused` for expired credentials."""
        self.check_light()
        if call.access_key in self._expired:
            text = "The security token included in the request is expired"
            if call.service == "s3":
                raise Refused("ExpiredToken", "The provided token has expired.")
            if call.is_query:
                raise Refused("ExpiredToken", text, status=403)
            raise Refused("ExpiredTokenException", text)

    def check_light(self) -> None:
        """Raise `Dropped` in a blackout: answers are lost in it too."""
        if CLOCK.monotonic() < self._dark_until:
            raise Dropped

    def cutting(self) -> bool:
        """Whether any fault is one that strikes half-way through a request."""
        return any(fault.halfway for fault in self._script)

    def due(self, call: Call, *, halfway: bool = False) -> list[Fault]:
        """The faults that strike this call, each counted as spent."""
        struck = []
        with self._lock:
            for fault in self._script:
                if fault.times == 0 or fault.halfway != halfway or not fault.wants(call):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.probability is not None and self._chance.random() >= fault.probability:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                fault.hits += 1
                struck.append(fault)
        return struck

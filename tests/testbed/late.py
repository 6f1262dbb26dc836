"""IAM's roles as other services see them: a while as they were before a change.

Source: IAM User Guide, "Changes that I make are not always immediately visible", read 2026-11-30.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from tests.testbed import cloud
from tests.testbed.clock import CLOCK


class Seen(NamedTuple):
    """A role."""

    arn: str
    trust: str  #: the document that says who may take it
    documents: tuple[str, ...]  #: its policies


class Late:
    """What roles were, and until when they are taken for that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[str, list[tuple[float, Seen | None]]] = {}  # by ARN, in the order of the changes

    def reset(self) -> None:
        """All know all."""
        with self._lock:
            self._before.clear()

    def changed(self, before: dict[str, Seen], *, known_s: float, changed_s: float) -> None:
        """Since they were so: a new role is known after so long, a change of one after so long."""
        now, after = CLOCK.monotonic(), roles()
        with self._lock:
            for arn in {*before, *after}:
                if (was := before.get(arn)) != after.get(arn):
                    self._before.setdefault(arn, []).append((now + (changed_s if was else known_s), was))

    def role(self, arn: str) -> Seen | None:
        """As a service takes it for now; None if it does not know it."""
        now = CLOCK.monotonic()
        with self._lock:
            for until, was in self._before.get(arn, ()):
                if now < until:
                    return was
        return seen(arn)


def seen(arn: str) -> Seen | None:
    """A role as it is."""
    found = cloud.role(arn)
    return None if found is None else _seen(found)


def roles() -> dict[str, Seen]:
    """All as they are, by ARN."""
    return {each.arn: _seen(each) for each in cloud.roles()}


def _seen(role: object) -> Seen:
    return Seen(role.arn, role.assume_role_policy_document, tuple(cloud.policies_of(role)))  # type: ignore[attr-defined]


#: Of this process, as the clock is.
LATE = Late()

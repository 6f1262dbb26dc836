"""What can become of a task beyond what its function raises, as Airflow counts it: to be tried again, or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from starburst_common import BadInput, Denied, Failure
from starburst_common.spi import one_line

_CLASSES = 10  #: of failures that are told with a traceback
_MESSAGE = 300


class StarburstItemsFailed(AirflowException):
    """Items failed, more than were tolerated. A retry runs those alone."""


class StarburstRunEnded(AirflowException):
    """The run was cancelled, or stopped, before every item was answered. A retry goes on with it."""


class StarburstTimeout(AirflowException):
    """The try took longer than `execution_timeout`, and its run was cancelled. A retry goes on with it."""


class StarburstLost(AirflowException):
    """A later try of this task has taken over its run."""


class StarburstRefused(AirflowFailException):
    """An argument is wrong, or something is not allowed: no retry would change that."""


class StarburstDeadline(AirflowFailException):
    """The deadline has passed, and the run was cancelled. What was answered is kept."""


class StarburstBudget(AirflowFailException):
    """The run's budget is used up, and a retry would have another one. What was answered is kept: clear the task with

    a larger budget, and `on_clear="resume"`.
    """


@contextmanager
def as_airflow_has_them() -> Iterator[None]:
    """Errors of ours that a retry would only meet again end the task at once."""
    try:
        yield
    except (BadInput, Denied) as error:
        raise StarburstRefused(str(error)) from error


def told_failures(failures: Sequence[Failure], run: str) -> str:
    """Failures by their classes, each with the first one's traceback.

    >>> from starburst_common import FailureKind
    >>> failure = Failure(index=3, kind=FailureKind.USER, error="ValueError", message="no", traceback="here")
    >>> print(told_failures([failure, failure], "r"))
    2 items failed with ValueError, first item 3: no
    here
    >>> told_failures([], "r")
    ''
    """
    groups: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault(failure.alike, []).append(failure)
    lines = []
    for alike in list(groups.values())[:_CLASSES]:
        first, several = alike[0], len(alike) > 1
        what = one_line(first.message, _MESSAGE)
        lines.append(
            f"{len(alike):,} item{'s' * several} failed with {first.error or first.kind}, "
            f"{'first ' * several}item {first.index}: {what}"
        )
        if first.traceback:
            lines.append(first.traceback.rstrip())
    if len(groups) > _CLASSES:
        lines.append(f"and {len(groups) - _CLASSES} classes more: `starburst failures {run}`")
    return "\n".join(lines)

"""Why an item has no value: its kind, the name of the error, and the exception it is at home, in one table. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from starburst_common.errors import (
    EnvironmentMismatch,
    ItemCancelled,
    ItemFailed,
    ItemTimeout,
    OutOfMemory,
    UnpicklableResult,
    WorkerLost,
)
from starburst_common.model import Failure, FailureKind, Span

#: What is raised at home; its name is the failure's `error`, where it is we who say that an item has failed.
_RAISED: Final[dict[FailureKind, type[ItemFailed]]] = {
    FailureKind.USER: ItemFailed,
    FailureKind.OOM: OutOfMemory,
    FailureKind.TIMEOUT: ItemTimeout,
    FailureKind.LOST: WorkerLost,
    FailureKind.SPOT: WorkerLost,
    FailureKind.IMPORT: EnvironmentMismatch,
    FailureKind.CANCELLED: ItemCancelled,
    FailureKind.BUDGET: ItemCancelled,
    FailureKind.DEADLINE: ItemCancelled,
}

#: The one error of the user's function that has a name of ours.
UNPICKLABLE: Final = UnpicklableResult.__name__


class Reason(NamedTuple):
    """Why items fail, whichever they are."""

    kind: FailureKind
    error: str  #: name of the exception's type
    message: str
    traceback: str = ""

    @classmethod
    def ours(cls, kind: FailureKind, message: str) -> Reason:
        """One that no exception has told.

        >>> Reason.ours(FailureKind.SPOT, "gone").error
        'WorkerLost'
        """
        return cls(kind, _RAISED[kind].__name__, message)

    def of(self, index: int, *, worker: str = "", exception: bytes | None = None) -> Failure:
        """As the failure of an item."""
        return Failure(index=index, worker=worker, exception=exception, **self._asdict())

    def of_all(self, spans: Iterable[Span], *, worker: str = "") -> list[Failure]:
        """As the failure of each of these items.

        >>> [(failure.index, failure.error) for failure in WITHDRAWN.of_all([Span(3, 5)])]
        [(3, 'ItemCancelled'), (4, 'ItemCancelled')]
        """
        return [self.of(index, worker=worker) for span in spans for index in range(span.lo, span.hi)]


#: Of items that have no answer, since their run ended first.
UNANSWERED: Final = (FailureKind.CANCELLED, FailureKind.BUDGET, FailureKind.DEADLINE)

#: Of calls that are not to begin any more.
WITHDRAWN: Final = Reason.ours(FailureKind.CANCELLED, "withdrawn before it began")


def raised_for(failure: Failure) -> type[ItemFailed]:
    """The type of ours to raise for a failure, where the user's own exception is not to be had.

    >>> raised_for(Reason(FailureKind.USER, "KeyError", "'a'").of(3)), raised_for(WITHDRAWN.of(3))
    (<class 'starburst_common.errors.ItemFailed'>, <class 'starburst_common.errors.ItemCancelled'>)
    """
    return UnpicklableResult if failure.error == UNPICKLABLE else _RAISED[failure.kind]

"""How a call ended on a worker, as it travels home: a value, or an error; log records, transactions, events."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect_starburst.between.logs import Record
from starburst_common import UnpicklableResult
from starburst_common.spi import named

if TYPE_CHECKING:
    from prefect_starburst.between.events import Events


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a call ended: a value, or an error with its traceback as text; and what it has logged and set on the way.

    A value with nothing else to tell travels bare.
    """

    value: Any = None
    error: bytes | None = None  #: pickled
    left: str = ""  #: in place of an error: type and text of what is no `Exception`, such as SystemExit
    traceback: str = ""
    records: list[Record] = field(default_factory=list)
    transactions: list[dict[str, Any]] = field(default_factory=list)
    events: Events | None = None

    @property
    def is_value(self) -> bool:
        """Whether the function has returned."""
        return self.error is None and not self.left

    @property
    def exception(self) -> Exception:
        """The error, with its traceback."""
        from starburst_common.spi import with_traceback

        assert self.error is not None, "there is one"
        try:
            found = pickle.loads(self.error)
        except Exception as why:
            found = UnpicklableResult(f"the task raised an exception that does not unpickle here: {named(why)}")
        return with_traceback(found, self.traceback)

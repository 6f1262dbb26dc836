"""Log records of a call on a worker in, the same records to the same loggers in the flow's process out."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

Record = dict[str, Any]

#: The loggers of `get_run_logger` and of prints under `log_prints`.
RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
#: Records of one call beyond this many are counted, not sent.
MOST_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Levels:
    """Which loggers are listened to at home, and from what level on."""

    by_logger: dict[str, int]

    @classmethod
    def here(cls) -> Self:
        """As set in this process: the run loggers, and Prefect's setting `logging.extra_loggers`."""
        from prefect.settings import PREFECT_LOGGING_EXTRA_LOGGERS

        names = (*RUN_LOGGERS, *PREFECT_LOGGING_EXTRA_LOGGERS.value())
        return cls({name: logging.getLogger(name).getEffectiveLevel() for name in names})


@contextmanager
def captured(levels: Levels, records: list[Record] | None = None) -> Iterator[list[Record]]:
    """Take what those loggers log into a list, in place of their own handlers, until the context ends."""
    handler = Capture([] if records is None else records)
    before: list[tuple[logging.Logger, int, list[logging.Handler], bool]] = []
    for name, level in levels.by_logger.items():
        logger = logging.getLogger(name)
        before.append((logger, logger.level, logger.handlers, logger.propagate))
        logger.level, logger.handlers, logger.propagate = level, [handler], False
        logger.manager._clear_cache()  # type: ignore[attr-defined]  # as Logger.setLevel does
    try:
        yield handler.records
    finally:
        for logger, level, handlers, propagate in before:
            logger.level, logger.handlers, logger.propagate = level, handlers, propagate
            logger.manager._clear_cache()  # type: ignore[attr-defined]
        handler.close_with_count()


class Capture(logging.Handler):
    """Keeps records in a form that travels: the message put together, the traceback as text, extras plain."""

    def __init__(self, records: list[Record]) -> None:
        super().__init__()
        self.records = records
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        if len(self.records) >= MOST_RECORDS:
            self._dropped += 1
            return
        plain = {name: value if _is_plain(value) else str(value) for name, value in record.__dict__.items()}
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip() if record.exc_info else record.exc_text
        self.records.append({**plain, "msg": record.getMessage(), "args": None, "exc_info": None, "exc_text": text})

    def close_with_count(self) -> None:
        """Say at the end how many records were left out."""
        if self._dropped and self.records:
            text = f"{self._dropped} further log records of this call were left out: {MOST_RECORDS} is the most"
            self.records.append({**self.records[-1], "msg": text, "levelno": logging.WARNING, "levelname": "WARNING"})
        self.close()


def replay(records: Iterable[Record]) -> None:
    """Give each record to the logger of its name here: console and API both get it, under the run it belongs to."""
    for record in records:
        logger = logging.getLogger(record["name"])
        if logger.isEnabledFor(record["levelno"]):
            logger.handle(logging.makeLogRecord(record))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)

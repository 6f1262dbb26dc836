"""Log records of a call on a worker in, the same records to the same loggers in the flow's process out."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
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
    """Which loggers are listened to at home, and from what level on; and the level of all others, the root's."""

    by_logger: dict[str, int]
    root: int

    @classmethod
    def here(cls) -> Self:
        """As set in this process: the run loggers, Prefect's setting `logging.extra_loggers`, and all others."""
        from prefect.settings import PREFECT_LOGGING_EXTRA_LOGGERS

        names = (*RUN_LOGGERS, *PREFECT_LOGGING_EXTRA_LOGGERS.value())
        return cls({name: logging.getLogger(name).getEffectiveLevel() for name in names}, logging.root.level)


@contextmanager
def recorded(levels: Levels, records: list[Record] | None = None) -> Iterator[list[Record]]:
    """Take what is logged into a list until the context ends: of those loggers in place of their own handlers."""
    handler = Recorder([] if records is None else records)
    root, others = logging.getLogger(), Others(handler, levels.root)
    before = [(root, root.level, root.handlers, root.propagate)]
    kept = [each for each in root.handlers if not isinstance(each, Others)]  # of the same call, before Prefect came
    root.level, root.handlers = min(root.level, levels.root), [*kept, others]
    for name, level in levels.by_logger.items():
        logger = logging.getLogger(name)
        before.append((logger, logger.level, logger.handlers, logger.propagate))
        logger.level, logger.handlers, logger.propagate = level, [handler], False
    root.manager._clear_cache()  # type: ignore[attr-defined]  # as Logger.setLevel does
    try:
        yield handler.records
    finally:
        for logger, level, handlers, propagate in before:
            logger.level, logger.handlers, logger.propagate = level, handlers, propagate
        root.manager._clear_cache()  # type: ignore[attr-defined]
        handler.close_with_count()


class Recorder(logging.Handler):
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


class Others(logging.Handler):
    """Has records of all other loggers kept, those from a level on."""

    def __init__(self, recorder: Recorder, level: int) -> None:
        super().__init__(level)
        self._recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self._recorder.handle(record)


def relog(records: Iterable[Record], run: Mapping[str, Any]) -> None:
    """Give each record to the logger of its name here: console and API both get it, under the run it belongs to.

    `run` is what a run logger's records say of their run: a record of any other logger gets it, and the run logger's
    handlers get that record, so that it is among the run's logs too.
    """
    for record in records:
        logger = logging.getLogger(record["name"])
        if not logger.isEnabledFor(record["levelno"]):
            continue
        if record["name"] in RUN_LOGGERS:
            logger.handle(logging.makeLogRecord(record))
            continue
        told = logging.makeLogRecord({**run, **record})
        logger.handle(told)
        for handler in logging.getLogger("prefect.task_runs").handlers:
            if handler not in _reached(logger) and told.levelno >= handler.level:
                handler.handle(told)


def _reached(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """The handlers that get what the logger logs."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)

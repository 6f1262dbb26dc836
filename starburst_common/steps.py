"""What is done to get an image, which may take a minute, in; lines for whoever waits for it out."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starburst_common.phrases import our_log, visible_lines

STEPS = "starburst.image"  #: the logger that is told, at INFO
_TELL_S = 7.0  #: between two words on what takes long


@contextmanager
def steps_shown(wanted: bool | None) -> Iterator[None]:
    """Show steps on stderr while the block runs: True shows them, False does not, None does on a terminal.

    What is shown is not logged too.
    """
    if sys.stderr is None or not (sys.stderr.isatty() if wanted is None else wanted):
        yield
        return
    log, shown = logging.getLogger(STEPS), _Lines(logging.INFO)
    level, propagate = log.level, log.propagate
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(shown)
        log.setLevel(level)
        log.propagate = propagate


@contextmanager
def told_while(what: str) -> Iterator[None]:
    """Tell every few seconds what the block does, for it may take long."""
    began, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(_TELL_S):
            our_log(STEPS).info("%s: %.0f s so far", what, time.monotonic() - began)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(visible_lines(record.getMessage()), file=sys.stderr)

"""Chunks that were fetched, in the order in which slots get them."""

from __future__ import annotations

import queue
import time

from starburst_worker.work import Work


class Ready(queue.Queue[Work | None]):
    """None is for a slot that is to end."""

    def waited(self, seconds: float) -> list[Work]:
        """Remove those that have waited so long."""
        kept: list[Work | None] = []
        gone: list[Work] = []
        while True:
            try:
                work = self.get_nowait()
            except queue.Empty:
                break
            if work is None or time.monotonic() - work.fetched_at < seconds:
                kept.append(work)
            else:
                gone.append(work)
        for work in kept:
            self.put(work)
        return gone

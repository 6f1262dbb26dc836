"""What unpickling raises, and what of it is no reason to stop."""

from __future__ import annotations

import threading


def is_interrupt(error: BaseException) -> bool:
    """Whether it may be a Ctrl-C: unpickling runs code of the user's, which can raise whatever it likes."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()

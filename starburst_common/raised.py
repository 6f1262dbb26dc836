"""An exception in; what it says, as text that travels, out."""

from __future__ import annotations

import traceback

_OURS = frozenset({"starburst_common", "starburst_worker", "prefect_starburst", "prefect"})


def text_of(error: BaseException) -> str:
    """Its own text, whatever asking for that does."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} whose text cannot be had>"


def named(error: BaseException) -> str:
    """Its type and text; its type alone where it has none."""
    return ": ".join(filter(None, [type(error).__name__, text_of(error)]))


def printed(error: BaseException) -> str:
    """As Python prints it, from the user's first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()

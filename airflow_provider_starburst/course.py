"""What the last claim says, and what is asked now, in; what a try does about it, out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

ON_STALE = ("redo", "fail", "keep")
ON_CLEAR = ("redo", "resume")


class Course(StrEnum):
    """What a try does."""

    BEGIN = "begin"  #: nothing was done so far
    GO_ON = "go on"  #: with the run of an earlier try: only what is missing is run
    REDO = "redo"  #: in a new run, and the old one ends if it has not
    REFUSE = "refuse"  #: code or input changed, and that is to be an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What a try asks for."""

    code: str
    input: str
    tries: int  #: how many there may be, as Airflow counts: a clear raises it, a retry does not
    on_stale: str
    on_clear: str
    results_to: str = ""  #: where workers write values, if they do

    def about(self, generation: int, begun_at: float) -> dict[str, str]:
        """What a claim keeps of it."""
        return {
            "code": self.code,
            "input": self.input,
            "results_to": self.results_to,
            "tries": str(self.tries),
            "generation": str(generation),
            "begun_at": repr(begun_at),
        }


def cleared(before: Mapping[str, str], now: Now) -> bool:
    """Whether somebody has cleared the task since.

    >>> now = Now(code="c", input="i", tries=3, on_stale="redo", on_clear="redo")
    >>> cleared({"tries": "3"}, now), cleared({"tries": "1"}, now)
    (False, True)
    """
    return now.tries > int(before.get("tries", now.tries))


def changed(before: Mapping[str, str], now: Now) -> list[str]:
    """What is not as it was.

    >>> now = Now(code="c", input="i", tries=3, on_stale="redo", on_clear="redo")
    >>> changed({"code": "c", "input": "other"}, now)
    ['the items']
    """
    words = {"code": "the function", "input": "the items", "results_to": "results_to"}
    return [word for name, word in words.items() if before.get(name, "") != getattr(now, name)]


def course_of(before: Mapping[str, str] | None, now: Now) -> Course:
    """What a try does.

    >>> now = Now(code="c", input="i", tries=1, on_stale="redo", on_clear="redo")
    >>> same = now.about(0, 0.0)
    >>> str(course_of(None, now)), str(course_of(same, now)), str(course_of({**same, "code": "old"}, now))
    ('begin', 'go on', 'redo')
    >>> str(course_of({**same, "tries": "0"}, now))
    'redo'
    """
    if before is None:
        return Course.BEGIN
    if cleared(before, now) and now.on_clear == "redo":
        return Course.REDO
    if changed(before, now):
        return {"redo": Course.REDO, "fail": Course.REFUSE, "keep": Course.GO_ON}[now.on_stale]
    return Course.GO_ON

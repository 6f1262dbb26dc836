"""What somebody typed for a run in; the run out."""

from __future__ import annotations

from collections.abc import Sequence

from starburst_common.backends import open_backend
from starburst_common.cli.words import Narrowed
from starburst_common.errors import BadInput, NotFound
from starburst_common.model import RunId
from starburst_common.ports import Backend
from starburst_common.runs.find import attach, read_runs, run_ids
from starburst_common.runs.run import Run


def find_run(word: str, backend: str | Backend) -> Run:
    """The run with this id, the only one that starts so, or the newest for `last`.

    Raises `NotFound`, or `BadInput` where several runs start so.
    """
    opened = open_backend(backend)
    wanted = word if isinstance(word, Narrowed) else Narrowed(word)
    if word == "last":
        newest = next(filter(wanted.fits, read_runs(opened, run_ids(opened), wanted.tags)), None)
        if newest is not None:
            return newest
        if wanted.said:
            raise NotFound(f"no run with {wanted.said}: `starburst runs` lists those there are")
    try:
        named = attach(str(word), backend=opened)
    except NotFound:
        known = run_ids(opened)
    else:
        if not wanted.fits(named):
            raise NotFound(f"run {named.id} is there, and is none with {wanted.said}")
        return named
    found = matches(word, known)
    if wanted.said:
        found = [
            each.id for each in read_runs(opened, [RunId(name) for name in found], wanted.tags) if wanted.fits(each)
        ]
    if not found:
        there = "`starburst runs` lists those there are" if known else "none is kept here"
        raise NotFound(f"no run {word!r}: {there}")
    if len(found) > 1:
        raise BadInput(f"{word!r} is the start of {len(found)} runs: {', '.join(found[:3])}{' …' * (len(found) > 3)}")
    return attach(found[0], backend=opened)


def matches(word: str, ids: Sequence[str]) -> list[str]:
    """The ids that start with the word, with or without "run-", or whose last part does.

    >>> ids = ["run-20270101-120000-0a1b2c3d", "run-20270102-120000-ffee0011"]
    >>> matches("run-20270101", ids) == matches("20270101", ids) == matches("0a1b", ids) == ids[:1]
    True
    """
    if not word:
        return []
    return [name for name in ids if any(part.startswith(word) for part in (name, name[4:], name.rsplit("-", 1)[-1]))]

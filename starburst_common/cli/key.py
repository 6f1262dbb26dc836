"""`starburst rotate-key`: a new key signs what begins from now on; what goes on, and what is kept, keeps its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.words import BackendWord, Json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from starburst_common.config import Settings
    from starburst_common.ports import Backend
    from starburst_common.runs.forgotten import Dependent

_NAMED = 5  #: of runs or fleets, in a line


def rotate_key(
    revoke: Annotated[
        bool,
        typer.Option("--revoke", help="Forget all earlier keys, as where one has leaked: their runs end, unreadable."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would end.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Make a new signing key, of the site or of this machine: what begins from now on is signed by it.

    Runs that are under way go on to their end by the key that they began with, and those that are kept can be read:
    eight keys are known. The ninth has the oldest forgotten, and --revoke all of them: then their runs are cancelled
    and their fleets stopped first, and none of their runs can be read any more, but what they cost still counts. What
    ends is shown, and asked about.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.questions import agreed
    from starburst_common.cli.show import say
    from starburst_common.config import settings
    from starburst_common.runs.forgotten import Dependent, dependent_on, end
    from starburst_common.wire.keys import leaving

    found = settings(backend=None if backend == "auto" else backend)
    opened, keys = _opened(found, backend, revoke=revoke)
    gone = leaving(keys, revoke=revoke)
    dependent = Dependent((), ()) if opened is None else dependent_on(opened, gone, all_there_are=revoke)
    for line in _said(dependent, gone, opened, revoke=revoke):
        say(line)
    fields = {"forgotten": len(gone), "unreadable": dependent.runs, "fleets": [fleet.id for fleet in dependent.fleets]}
    older = len(keys) - len(gone)
    if not dry_run:
        if (revoke or any(dependent)) and not agreed("Go on?", yes, ", or --dry-run to see what ends"):
            return
        if opened is not None:
            fields["fleets"] = end(opened, dependent, say)
        older = _changed(found, opened, None if opened is None else gone, revoke=revoke)
    if json:
        print_json({"changed": not dry_run, "older": older, **fields})
    else:
        kept = f"{older} older {'is' if older == 1 else 'are'} still known" if older else "no other is known"
        print(f"{_where(found)}: a new key {'would sign' if dry_run else 'signs'} from now on; {kept}")
    if opened is not None and not revoke and (idle := _idle_and_warm(opened, dependent)):
        say(f"kept warm, where no new run finds {'it' if len(idle) == 1 else 'them'}: {_many('fleet', idle)}")
        say(f"`starburst fleets stop {' '.join(idle)}` ends what idles there at once")


def _idle_and_warm(backend: Backend, ended: Dependent) -> list[str]:
    """The fleets that wait for runs of a key that signs no more."""
    from starburst_common.runs.standing import held_fleets

    there = [fleet for fleet in held_fleets(backend) if fleet.entry is not None and not fleet.runs and fleet.workers]
    return [fleet.id for fleet in there if fleet not in ended.fleets]


def _where(found: Settings) -> str:
    return f"site {found.site.name}" if found.site is not None and found.backend != "local" else str(found.home)


def _opened(found: Settings, backend: str, *, revoke: bool) -> tuple[Backend | None, Sequence[bytes]]:
    """The place, and the keys that it knows, the newest first; none where its secret is of no use."""
    from starburst_common.backends import open_backend
    from starburst_common.cli.show import say
    from starburst_common.errors import BadInput
    from starburst_common.wire.keys import KeyRing

    if found.site is not None and found.backend != "local":
        from starburst_common.aws.setup.rotation import refuse_version

        refuse_version(found.site)
    try:
        opened = open_backend(backend)
    except BadInput as error:
        if not revoke:
            raise
        say(f"nothing is read by the key that is there: {error}")
        return None, []
    return opened, opened.key.known if isinstance(opened.key, KeyRing) else [opened.key]


def _changed(found: Settings, opened: Backend | None, gone: Collection[bytes] | None, *, revoke: bool) -> int:
    """How many older keys are known then."""
    from starburst_common.cli.show import say
    from starburst_common.local import change_key as change_here
    from starburst_common.runs.prune import store_time

    now = None if opened is None else store_time(opened)
    if found.site is None or found.backend == "local":
        return change_here(found.home, revoke=revoke, now=now, agreed=gone)
    from starburst_common.aws.setup.rotation import change_key

    return change_key(found.site, revoke=revoke, tell=say, now=now, agreed=gone)


def _said(dependent: Dependent, gone: Collection[bytes], opened: Backend | None, *, revoke: bool) -> Iterator[str]:
    """What is known no more, and what ends with it, a line each; nothing where no key goes."""
    from starburst_common.wire.keys import MOST_KEYS, MOST_RETIRED, KeyRing

    if not gone:
        return
    if not revoke:
        yield f"{MOST_KEYS} keys are known, as many as there may be: the oldest is forgotten"
    if going := dependent.going:
        yield f"cancelled: {_many('run', going)}"
    if dependent.fleets:
        workers = dependent.workers
        told = _many("fleet", [fleet.id for fleet in dependent.fleets])
        yield f"stopped: {told}; {workers:,} worker{'s' * (workers != 1)}"
    if dependent.runs:
        yield f"readable no more: {_many('run', dependent.runs)}: what matters of them is to be read before"
    if not any(dependent):
        yield "nothing that goes on, or is kept, is signed by what is forgotten"
    yield "what runs cost until now counts still; processes that live on are to be started anew"
    retired = opened.key.retired if opened is not None and isinstance(opened.key, KeyRing) else ()
    if len(gone) + len(retired) > MOST_RETIRED:
        yield f"but what was signed by the oldest of {MOST_RETIRED} forgotten keys counts no more"


def _many(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} older" if len(names) > _NAMED else ""
    return f"{len(names):,} {what}{'s' * (len(names) != 1)}: {', '.join([*reversed(names)][:_NAMED])}{more}"

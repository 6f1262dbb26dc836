"""`starburst replay`: a run and an item in; that one call, made again in this process."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import BackendWord, Json, RunWord
from starburst_common.phrases import one_line, visible_lines

if TYPE_CHECKING:
    from starburst_common.runs.replay import StoredCall


def replay(
    run: RunWord,
    item: Annotated[int, typer.Argument(metavar="ITEM", min=0, help="Its index: the first item is 0.")],
    debug: Annotated[
        bool, typer.Option("--debug", help="Stop in pdb before the call, and again where it raises.")
    ] = False,
    current: Annotated[
        bool, typer.Option("--current", help="Take your modules as they are here and now, to try a fix.")
    ] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Run one item again, in this process, or in the debugger.

    The function and its modules are those that were sent to the workers. Prints its value; what the function prints
    goes to stderr. If it raises, the traceback is printed and the exit code is 1. Retries, timeout and memory limit do
    not apply.
    """
    from tempfile import TemporaryDirectory

    from starburst_common.backends import open_backend
    from starburst_common.cli.function import look_here
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.which import find_run
    from starburst_common.pickling.preferred import stand_in
    from starburst_common.runs.replay import stored_call

    stand_in()
    look_here()
    found = find_run(run, backend)
    with (
        TemporaryDirectory(prefix="starburst-replay-") as folder,
        redirect_stdout(sys.__stdout__ if debug else sys.stderr),
    ):
        call = stored_call(open_backend(backend), found.id, found.stored_index(item), None if current else Path(folder))
        try:
            value = _debug(call) if debug else call()
        except (Exception, SystemExit) as error:
            fields = _told(error, debug=debug)
        else:
            fields = {"value": value}
    if json:
        print_json({"item": item, **fields})
    elif "value" in fields:
        print_json(fields["value"])
    else:
        why = one_line(f"{fields['error']}: {fields['message']}")
        print(f"error: item {item}: {why}", file=sys.stderr)
    raise typer.Exit(int("value" not in fields))


def _told(error: BaseException, *, debug: bool) -> dict[str, Any]:
    """The exception as JSON, after it was shown: in the debugger, or as a traceback of the user's frames."""
    from starburst_common.pickling.raised import printed

    at = error.__traceback__
    while at is not None and at.tb_frame.f_globals.get("__name__", "").partition(".")[0] in ("starburst_common", "bdb"):
        at = at.tb_next
    text = printed(error.with_traceback(at)) + "\n"
    sys.stderr.write(visible_lines(text))
    if debug and at is not None:
        import pdb  # noqa: T100 - what was asked for

        pdb.post_mortem(at)
    return {"error": type(error).__name__, "message": str(error), "traceback": text}


def _debug(call: StoredCall) -> Any:
    import pdb  # noqa: T100 - what was asked for

    from starburst_common.pickling.within import awaited

    class Debugger(pdb.Pdb):
        left = False

        def set_quit(self) -> None:
            self.left = True
            super().set_quit()

    debugger = Debugger()
    call.begin()
    value = awaited(debugger.runcall(call.function, *call.args, **call.kwargs))
    if debugger.left:
        raise typer.Exit(1)
    return value

"""Arguments in, an exit code out: the commands, and one line for each thing that can go wrong."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from functools import partial
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from starburst_common import __version__
from starburst_common.cli import (
    calc,
    cancel,
    config,
    costs,
    demo,
    doctor,
    env,
    estimate,
    failures,
    fleets,
    gc,
    image,
    key,
    logs,
    map,
    plan,
    policy,
    prices,
    prices_update,
    quota,
    recommend,
    replay,
    report,
    results,
    runs,
    setup,
    status,
    stops,
    teardown,
    words,
)
from starburst_common.cli.wrap import wrapped
from starburst_common.errors import (
    BadInput,
    CannotBuild,
    CannotLaunch,
    Denied,
    NotFound,
    RunCancelled,
    RunStopped,
    StarburstError,
    Unavailable,
)
from starburst_common.phrases import one_line, visible_lines

EXIT_CODES = (
    "Exit codes: 0 all fine, or failures within --tolerate; 1 an item failed, or any other error; "
    "2 bad usage or input; 3 no such run; 4 stopped for its failures, or cancelled; 5 a service or "
    "this machine failed; 129 SIGHUP; 130 Ctrl-C; 143 SIGTERM."
)
#: what a command ends with, by what it raised; the first that fits
_CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((NotFound,), 3),
    ((BadInput,), 2),
    ((RunStopped, RunCancelled), 4),
    ((Unavailable, Denied, CannotBuild, CannotLaunch), 5),
    ((StarburstError,), 1),
    ((OSError,), 5),
)
_MOST = 4000  # characters of an error
_INTERRUPTED = 130  # what typer makes of a `KeyboardInterrupt`, whatever signal it was of
_PLAIN = re.compile("[0-9]{1,9}")
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # which package it lives in depends on typer's version

app = typer.Typer(
    name="starburst",
    epilog=EXIT_CODES,
    rich_markup_mode=None,  # plain help: a third of the time, and narrow
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in (
    ("map", map.map_items),
    ("plan", plan.plan),
    ("demo", demo.demo),
    ("runs", runs.runs),
    ("status", status.status),
    ("attach", status.attach_to),
    ("results", results.results),
    ("failures", failures.failures),
    ("logs", logs.logs),
    ("estimate", estimate.estimate),
    ("report", report.report),
    ("replay", replay.replay),
    ("costs", costs.show_costs),
    ("cancel", cancel.cancel),
    ("resume", status.resume),
    ("extend", runs.extend),
    ("remove", runs.remove),
    ("prune", runs.prune_expired),
    ("gc", gc.gc),
    ("calc", calc.calc),
    ("recommend", recommend.recommend),
    ("doctor", doctor.doctor),
    ("setup", setup.setup),
    ("sites", teardown.sites),
    ("teardown", teardown.teardown),
    ("rotate-key", key.rotate_key),
    ("iam-policy", policy.iam_policy),
):
    app.command(name, epilog=EXIT_CODES)(words.narrowed(command))
_GROUPS: tuple[tuple[str, str, dict[str, Callable[..., None]]], ...] = (
    (
        "prices",
        "What AWS charges, as the price book has it, or as AWS tells it now.",
        {"show": prices.show_prices, "update": prices_update.update_prices},
    ),
    (
        "quota",
        "What the account allows to run at once.",
        {"status": quota.status, "suggest": quota.suggest, "request": quota.request, "watch": quota.watch},
    ),
    ("config", "What is set, and where.", {"show": config.show}),
    ("env", "What workers are given to run your code.", {"show": env.show}),
    (
        "image",
        "What workers' containers are made of.",
        {"build": image.build, "ls": image.ls, "rm": image.rm, "gc": image.gc},
    ),
)
for group, about, commands in _GROUPS:
    below = typer.Typer(name=group, help=about, epilog=EXIT_CODES, rich_markup_mode=None, no_args_is_help=True)
    for name, carry_out in commands.items():
        below.command(name, epilog=EXIT_CODES)(carry_out)
    app.add_typer(below)
below = typer.Typer(
    name="fleets", epilog=EXIT_CODES, rich_markup_mode=None, callback=fleets.show_fleets, invoke_without_command=True
)
below.command("stop", epilog=EXIT_CODES)(fleets.stop)
app.add_typer(below)


@app.callback(invoke_without_command=True)
def starburst(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", envvar="STARBURST_VERBOSE", help="Show tracebacks, and what goes on inside."),
    ] = False,
    site: Annotated[
        str | None, typer.Option("--site", metavar="NAME", help="Which of several; else as STARBURST_SITE says.")
    ] = None,
) -> None:
    """Map a Python function over many inputs, on as many workers as there may be.

    A RUN is written as its id, the start of one, or `last`; --label, --tag, --state and --since narrow what it may
    mean, as the newest of them for `last`. Results go to stdout, all else to stderr. SIGTERM and
    SIGHUP are as Ctrl-C.
    """
    _log_to_stderr(verbose)
    if site is not None:
        before = os.environ.get("STARBURST_SITE")
        os.environ["STARBURST_SITE"] = site
        context.call_on_close(lambda: os.environ.update({"STARBURST_SITE": before or ""}))
    if version:
        typer.echo(f"starburst {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str] | None = None) -> int:
    """Carry out one command line; results go to stdout, all else to stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = _spared(typer.main.get_command(app)).main(arguments, prog_name="starburst", standalone_mode=False)
        sys.stdout.flush()
        return stops.exit_code() if code == _INTERRUPTED else code if isinstance(code, int) else 0
    except typer.Abort:
        return stops.exit_code()
    except _UsageError as error:
        text, context = error.format_message(), getattr(error, "ctx", None)  # type: ignore[attr-defined]
        hint = f" (see `{context.command_path} --help`)" if context is not None else ""
        return _fail(f"{text.rstrip('.')}{hint}", 2)
    except Exception as error:
        return _fail(_text_of(error), _code_of(error), error)


def _text_of(error: Exception) -> str:
    """What one line says of it."""
    if isinstance(error, StarburstError):
        return str(error)
    if isinstance(error, OSError):
        nameless = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        return f"standard output: {error.strerror}" if nameless else str(error)
    if isinstance(error, ImportError):
        return f"{error}: call starburst from the folder of the function's module"
    return f"{type(error).__name__}: {error} (STARBURST_VERBOSE=1 shows where)"


def _code_of(error: Exception) -> int:
    """The exit code of the first line of the table that it is of."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), 1)


def _spared(command: Any) -> Any:
    """The command with parameters that take what is plainly right as it is.

    Newer typers check every value with pydantic, even that there is none; importing it takes longer than most commands.
    """
    command.get_params = partial(_spared_params, command.get_params)
    for below in getattr(command, "commands", {}).values():
        _spared(below)
    return command


def _spared_params(get_params: Callable[[Any], list[Any]], context: Any) -> list[Any]:
    parameters = get_params(context)
    for parameter in parameters:
        if hasattr(parameter, "type_descriptor") and "process_value" not in vars(parameter):
            parameter.process_value = partial(_processed, parameter, parameter.process_value)
    return parameters


def _processed(parameter: Any, check: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    kind, bounds = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
    absent = value is None and not parameter.required
    plain = int(value) if kind is int and isinstance(value, str) and _PLAIN.fullmatch(value) else -1
    if max(bounds.min or 0, 0) <= plain <= (10**9 if bounds.max is None else bounds.max):
        value = plain
    if kind == list[str] and value and all(type(each) is str for each in value):
        value = [*value]
    elif not absent and not (kind in (bool, int, float, str) and type(value) is kind):
        return check(context, value)
    if absent and (parameter.multiple if hasattr(parameter, "multiple") else parameter.nargs == -1):
        value = ()
    return value if parameter.callback is None else parameter.callback(context, parameter, value)


def _fail(text: str, code: int, error: BaseException | None = None) -> int:
    if _verbose():
        _print_traceback(error)
    print(wrapped(f"error: {one_line(text, _MOST) or type(error).__name__}", sys.stderr), file=sys.stderr)
    return code


def _verbose() -> bool:
    return logging.getLogger("starburst").isEnabledFor(logging.INFO)


class _Lines(logging.Handler):
    """Log records as lines on whatever stderr is at the time; a progress bar may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.levelname.lower()}: {visible_lines(record.getMessage())}", file=sys.stderr)
        if record.exc_info and _verbose():
            _print_traceback(record.exc_info[1])


def _print_traceback(error: BaseException | None) -> None:
    if error is not None:
        print(visible_lines("".join(traceback.format_exception(error)).rstrip()), file=sys.stderr)


def _log_to_stderr(verbose: bool) -> None:
    if verbose:
        os.environ["STARBURST_VERBOSE"] = "1"
    log = logging.getLogger("starburst")
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.addHandler(_Lines())
    log.propagate = False

"""The `starburst` command: what is typed in, the public names called, lines and tables out."""

from __future__ import annotations


def main() -> None:
    """The console script; ends the process with one of the exit codes that `starburst --help` lists."""
    from starburst_common.cli import stops, streams

    try:
        stops.hear()
        streams.open_closed()
        streams.write_whole()
        from starburst_common.cli.app import run

        code = run()
    except KeyboardInterrupt:
        code = stops.exit_code()
    streams.leave()
    raise SystemExit(code)

"""`starburst cancel`: a run in, its end."""

from __future__ import annotations

from starburst_common.cli.words import BackendWord, Json, RunWord


def cancel(run: RunWord, backend: BackendWord = "auto", json: Json = False) -> None:
    """End a run; what was answered is kept.

    One that is over already stays as it is, which is no error.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import run_fields
    from starburst_common.cli.which import find_run
    from starburst_common.model import RunState
    from starburst_common.runs.find import attach

    found = find_run(run, backend)
    before = found.status()
    found.cancel()
    after = attach(found.id, backend=backend)
    now = after.status()
    if json:
        print_json(run_fields(after, now))
    elif now.state is RunState.DAMAGED:
        print(f"{found.id} is damaged ({now.reason}): workers leave it alone; starburst remove {found.id}")
    elif before.state.over:
        print(f"{found.id} was over already: {before.state}")
    else:
        of = "" if now.items is None else f" of {now.items:,}"
        print(f"{found.id} is {now.state}; {now.answered:,}{of} items were answered")

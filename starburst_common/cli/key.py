"""`starburst rotate-key`: a new key signs what begins from now on; what goes on, and what is kept, keeps its own."""

from __future__ import annotations

from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, Json


def rotate_key(
    revoke: Annotated[
        bool,
        typer.Option("--revoke", help="Forget all earlier keys, as where one has leaked: their runs end, unreadable."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Make a new signing key, of the site or of this machine: what begins from now on is signed by it.

    Runs that are under way go on to their end by the key that they began with, and those that are kept can be read:
    the eight newest keys are known. With --revoke only the new one is: do so once the runs that matter are over.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.setup import agreed
    from starburst_common.cli.show import say
    from starburst_common.config import settings
    from starburst_common.local import change_key as change_here

    found = settings(backend=None if backend == "auto" else backend)
    if revoke and not agreed(
        "Runs signed by earlier keys end; they, and what earlier runs cost, cannot be read any more. Revoke them?",
        yes,
        "",
    ):
        return
    if found.site is not None and found.backend != "local":
        from starburst_common.aws.setup.rotation import change_key

        where = f"site {found.site.name}"
        older = change_key(found.site, revoke=revoke, tell=say)
    else:
        where, older = str(found.home), change_here(found.home, revoke=revoke)
    if json:
        print_json({"older": older})
    else:
        kept = f"{older} older {'is' if older == 1 else 'are'} still known" if older else "no other is known"
        print(f"{where}: a new key signs from now on; {kept}")

"""What a worker tells the code that runs in it: where it stands."""

from __future__ import annotations

from pathlib import Path


class _Around:
    """Of the item that this process runs, if it is a worker's slot."""

    folder: str | None = None  #: None at home; empty where workers have folders of their own


around = _Around()


def explain(error: BaseException) -> None:
    """Note where a file was looked for, on a worker, if it was not found by a path that does not tell."""
    name = error.filename if isinstance(error, FileNotFoundError) else None
    if around.folder is None or not isinstance(name, str) or Path(name).is_absolute():
        return
    if around.folder:
        error.add_note(f"the worker stands in {around.folder}, where the run was started")
    else:
        error.add_note(
            "the worker stands in a folder of its own, not in yours: put data into a package of yours, on S3 or into "
            "the items"
        )

"""What conda and pixi write in; a refusal with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from starburst_common.environment.locks import Asked
from starburst_common.errors import BadInput

LOCKS = ("conda-lock.yml", "conda-lock.yaml")


def refuse(path: Path, python: str, asked: Asked) -> NoReturn:
    """conda's packages are builds of their own: the same names on PyPI would be something else. Raises `BadInput`."""
    raise BadInput(
        f"{path}: conda packages cannot be had from PyPI in the same builds. List what your function imports in a "
        "requirements.txt beside it (lines under `pip:` or `pypi` can be copied there) and say requirements=…, or give "
        "image=…"
    )

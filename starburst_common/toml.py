"""A TOML file that others wrote in; what it says, or one error of ours, out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from starburst_common.errors import BadInput
from starburst_common.phrases import one_line


def toml(path: Path) -> dict[str, Any]:
    """Raises `BadInput`, also for what is TOML and more than Python takes: thousands of digits, or of brackets."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8, as TOML has to be: {error}: save it so") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not TOML: {one_line(str(error), 300)}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None

"""A site table in; the text of the settings file that has it out. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def settings_text(site: Mapping[str, Any]) -> str:
    """A settings file with this site table."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in site.items()]
    return "\n".join(['backend = "aws"', "", "[site]", *lines, ""])

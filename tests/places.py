"""Backends as tests use them: this machine, or the test bed's AWS; any process can open either from a line of text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starburst_common.aws import aws_backend
from starburst_common.local import local_backend
from starburst_common.ports import Backend
from starburst_common.sites.site import Site

#: As on AWS, but with the patience of a test.
AWS_PACE: dict[str, float] = {
    "lease_s": 5.0,
    "chunk_s": 2.0,
    "share_s": 0.5,
    "tick_s": 0.25,
    "poll_s": 2.0,
    "look_s": 2.0,
    "idle_s": 20.0,
    "resend_after_s": 9.0,
}


def local_text(home: Path) -> str:
    """The embedded backend in a folder, for `open_place`."""
    return json.dumps({"home": str(home)})


def aws_text(site: Mapping[str, Any]) -> str:
    """A site of the test bed, for `open_place` in a process with the bed's environment."""
    return json.dumps({"site": dict(site)})


def open_place(text: str) -> Backend:
    """The backend that a text names."""
    place = json.loads(text)
    if "home" in place:
        return local_backend(Path(place["home"]))
    return aws_backend(Site.of(place["site"], "the test bed")).paced(**AWS_PACE)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables set for this process and those it starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

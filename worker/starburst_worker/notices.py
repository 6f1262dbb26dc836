"""EC2's notice that it takes this worker's instance back, looked for; the worker then ends in good order.

ECS drains such an instance, which stops no task that is of no service. Sources: Amazon EC2 User Guide, "Spot Instance
interruption notices", which says to look every 5 s and that two minutes are left; "Use the Instance Metadata Service",
version 2; read 2026-11-30.
"""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable

_log = logging.getLogger("starburst.worker")

EVERY_S = 5.0
_METADATA = "http://169.254.169.254"
_TOKEN_S = 21_600
_ANSWERS_S = 2.0


class Notices:
    """Of the instance that this process runs on."""

    def __init__(self, taken: Callable[[], None]) -> None:
        self._taken = taken
        self._metadata = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _METADATA).rstrip("/")
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # as with a task's own metadata
        self._token, self._told = "", False

    def look(self) -> None:
        """Once. Where nobody answers it is looked for again: without a notice the worker ends with its instance."""
        try:
            self._token = self._token or self._ask("PUT", "latest/api/token", {_LIVES: str(_TOKEN_S)})
            self._ask("GET", "latest/meta-data/spot/instance-action", {_SHOWN: self._token})
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:  # there is none
                    self._token = ""
            return
        except OSError as error:
            if not self._told:
                self._told = True
                _log.info("its instance's metadata cannot be read: %s", error)
            return
        _log.info("its instance is taken back: it hands back its work, and ends")
        self._taken()

    def _ask(self, method: str, what: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(f"{self._metadata}/{what}", method=method, headers=headers)
        with self._direct.open(request, timeout=_ANSWERS_S) as answer:
            return str(answer.read(4096).decode("ascii", "replace"))


_LIVES, _SHOWN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"

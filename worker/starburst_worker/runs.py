"""What a worker knows of the runs it serves: whether they go on, and how to call their functions."""

from __future__ import annotations

import io
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from starburst_common.errors import NotFound
from starburst_common.model import RunId
from starburst_common.names import RunNames, code_key
from starburst_common.ports import Backend
from starburst_common.wire import read_document, unseal


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A stored function, still pickled."""

    key: str
    blob: bytes
    style: str
    retry_timeouts: bool
    bundle: str | None  #: folder of the user's own modules, unpacked here


@dataclass(slots=True, kw_only=True)
class KnownRun:
    """A run as this worker sees it."""

    spec: dict[str, Any]
    over: bool
    looked_at: float
    unfit: str = ""  #: why this worker cannot serve it


class Runs:
    """A cache over the store, shared by the threads of one worker."""

    def __init__(self, backend: Backend, scratch: Path, look_every_s: float) -> None:
        self._backend, self._scratch, self._look_every_s = backend, scratch, look_every_s
        self._lock = Lock()
        self._known: dict[RunId, KnownRun] = {}
        self._functions: dict[str, Function] = {}

    def run(self, run: RunId) -> KnownRun | None:
        """The run, looked at anew every so often; None when it is not there any more."""
        names = RunNames(run)
        with self._lock:
            known = self._known.get(run)
            if known is None:
                try:
                    spec, _ = read_document(unseal(self._backend.key, names.spec, self._backend.store.get(names.spec)))
                except NotFound:
                    return None
                known = KnownRun(spec=spec, over=self._over(names), looked_at=time.monotonic(), unfit=_unfit(spec))
                self._known[run] = known
            elif time.monotonic() - known.looked_at > self._look_every_s:
                known.over = known.over or self._over(names)
                known.looked_at = time.monotonic()
            return known

    def function(self, key: str) -> Function:
        """A function and the modules it needs. Raises `Refused` unless we signed both."""
        with self._lock:
            if (found := self._functions.get(key)) is not None:
                return found
            store, secret = self._backend.store, self._backend.key
            header, (blob,) = read_document(unseal(secret, key, store.get(key)))
            bundle = header["bundle"]
            if bundle is not None:
                folder = self._scratch / f"code-{bundle}"
                if not folder.exists():
                    packed = unseal(secret, code_key(bundle), store.get(code_key(bundle)))
                    zipfile.ZipFile(io.BytesIO(packed)).extractall(folder)
                bundle = str(folder)
            function = Function(
                key=key,
                blob=bytes(blob),
                style=header["style"],
                retry_timeouts=header["retry_timeouts"],
                bundle=bundle,
            )
            self._functions[key] = function
            return function

    def _over(self, names: RunNames) -> bool:
        """Whether it has ended, or is cancelled: who said so may have died before it could end the run."""
        for key in (names.end, names.cancel):
            with suppress(NotFound):
                self._backend.store.get(key)
                return True
        return False


def _unfit(spec: dict[str, Any]) -> str:
    wanted, have = tuple(spec["python"]), sys.version_info[:2]
    if wanted == have:
        return ""
    return (
        f"the run was started with Python {wanted[0]}.{wanted[1]}, this worker has {have[0]}.{have[1]}: "
        f"leave `image` out, so that one for Python {wanted[0]}.{wanted[1]} is made, or start the run from Python "
        f"{have[0]}.{have[1]}"
    )

"""What a worker has of the store for the chunks it runs: functions, the user's modules and files, shared values."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from starburst_common.code.unpack import unpack_bundle
from starburst_common.errors import NotFound
from starburst_common.latest import let_go
from starburst_common.mapped import mapped
from starburst_common.model import RunId
from starburst_common.names import RunNames, code_key
from starburst_common.ports import Backend
from starburst_common.runs.inputs import Function
from starburst_common.runs.sharing import checked, period_of, value_key
from starburst_common.trust import owner_only
from starburst_worker.locks import Locks
from starburst_worker.order import FUNCTIONS_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFunction:
    """A function that was fetched, with the folder of the user's own modules that travel with it, if any do."""

    key: str
    stored: Function
    modules: str | None

    @property
    def nbytes(self) -> int:
        """What it takes here."""
        return len(self.stored.blob)


class Fetched:
    """Each is fetched once, whichever of the worker's threads asks first."""

    def __init__(self, backend: Backend, scratch: Path) -> None:
        self._backend, self._scratch = backend, scratch
        self._locks, self._lock = Locks(), Lock()
        self._functions: dict[str, FetchedFunction] = {}  # in the order of their last use
        self._periods: dict[RunId, str] = {}
        self._shared: dict[str, tuple[str, list[str]]] = {}  # where they lie, and what they refer to

    def function(self, key: str) -> FetchedFunction:
        """A function and the modules it needs. Raises `Refused` unless we signed both."""
        with self._locks.of(key):
            with self._lock:
                if (found := self._functions.pop(key, None)) is not None:
                    self._functions[key] = found
            if found is not None:
                return found
            stored = Function.read(self._backend.key, key, self._backend.store.get(key))
            modules = None if stored.bundle is None else str(self._unpacked(key, stored.bundle))
            function = FetchedFunction(key=key, stored=stored, modules=modules)
            with self._lock:
                self._functions[key] = function
                let_go(self._functions, FUNCTIONS_BYTES)
            return function

    def files(self, run: RunId, digest: str) -> Path | None:
        """The folder of the files that were sent for a run's items, if any were. Raises `Refused` and `NotFound`."""
        return self._unpack(RunNames(run).files(digest), f"files-{digest}") if digest else None

    def shared(self, run: RunId, digests: Iterable[str]) -> dict[str, str]:
        """Where the shared values that a run's items refer to lie here, with those that they do.

        Their seals are checked once. Raises `Refused`. What is not there is left out: whoever asks for it is told.
        """
        found: dict[str, str] = {}
        waiting = [*digests]
        while waiting:
            if (digest := waiting.pop()) not in found:
                with suppress(NotFound):
                    found[digest], more = self._shared_at(run, digest)
                    waiting += more
        return found

    def _shared_at(self, run: RunId, digest: str) -> tuple[str, list[str]]:
        with self._locks.of(RunNames(run).shared):
            if run not in self._periods:
                self._periods[run] = period_of(self._backend, run)
        key = value_key(self._periods[run], self._backend.key, digest)
        with self._locks.of(key):
            if (known := self._shared.get(key)) is None:
                self._shared[key] = known = self._fetched(key, self._scratch / f"shared-{digest}")
            return known

    def _fetched(self, key: str, place: Path) -> tuple[str, list[str]]:
        """Where the store is files, there is nothing to fetch."""
        if (there := self._backend.store.file(key)) is not None:
            return str(there), checked(self._backend, key, mapped(there))
        body = self._backend.store.get(key)
        refers = checked(self._backend, key, body)
        place.unlink(missing_ok=True)  # a full disk may have left a part of it
        with open(place, "xb", opener=owner_only) as out:
            out.write(body)
        return str(place), refers

    def _unpacked(self, function: str, bundle: str) -> Path:
        return self._unpack(code_key(function, bundle), f"code-{bundle}")

    def _unpack(self, key: str, name: str) -> Path:
        folder = self._scratch / name
        with self._locks.of(folder.name):
            if not folder.exists():
                unpack_bundle(self._backend, key, folder)
        return folder

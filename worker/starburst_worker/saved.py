"""What items save of themselves in; sealed objects, and what a slot is answered, out."""

from __future__ import annotations

from starburst_common.errors import NotFound, StarburstError
from starburst_common.model import RunId
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.wire.seals import sealed_parts, unseal
from starburst_worker.backlog import persistently
from starburst_worker.checkpoints import FAILED, KEPT, NONE


class Saved:
    """Of one worker."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def answer(self, run: RunId, index: int, state: bytes | None) -> bytes:
        """Store what an item saves, or with None find what it saved last; what its slot is told."""
        key = RunNames(run).checkpoint(index)
        try:
            if state is None:
                return KEPT + bytes(unseal(self._backend.key, key, persistently(lambda: self._backend.store.get(key))))
            body = b"".join(sealed_parts(self._backend.key, key, [state]))
            persistently(lambda: self._backend.store.put(key, body))
        except NotFound:
            pass
        except StarburstError as error:
            return FAILED + str(error).encode()
        return NONE

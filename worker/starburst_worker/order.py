"""What a slot is asked to run of a chunk: as the supervisor writes it, and as the slot reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FUNCTIONS_BYTES = 64 << 20  #: of functions are kept, the latest, in a slot as in its supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """With it come the function's pickle, if `with_function`, and its items' frames, unless a file has them."""

    spans: Sequence[tuple[int, int]]  #: the items to run, in this order
    function: str  #: its key
    with_function: bool
    style: str  #: how an item becomes arguments
    bundle: str | None  #: folder of the user's own modules
    buffers: Sequence[str]  #: digests of the shared values that the function's pickle takes
    lies: tuple[str, int, int] | None  #: the file that the items' frames lie in, from where, and how many bytes
    shared: Mapping[str, str]  #: where shared values lie, by digest
    retries: int
    retry_delay_s: float
    seed: int | None
    batch: int | None  #: items that a call is given at most, in a list
    results_to: str  #: a pattern of the files that its values are written to, if they are to any
    results_s: float  #: values are gathered for so long at most, before a file is written
    numbers: Sequence[Sequence[int]]  #: by which the items have their seeds, where those are not their own
    folder: str  #: where items stand
    files: str  #: folder of what was sent to lie there
    argv: Sequence[str]

    def text(self) -> bytes:
        """As the slot reads it."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def read(cls, text: bytes) -> Order:
        """The inverse of `text`."""
        fields = json.loads(text)
        return cls(**fields | {"spans": [(lo, hi) for lo, hi in fields["spans"]]})

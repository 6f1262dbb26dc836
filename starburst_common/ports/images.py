"""What containers are made of: where images are kept, and how the one for a run is had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where and as whom a registry is spoken to, over the OCI distribution API."""

    url: str  #: as "https://123456789012.dkr.ecr.us-east-1.amazonaws.com"
    repository: str  #: as "starburst-lab"
    user: str = ""  #: none for a registry that asks nobody
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of a repository."""

    tag: str
    digest: str
    size_bytes: int  #: as stored; of an image for several platforms, the largest's
    pushed_at: float  #: wall clock
    pulled_at: float | None  #: last time, as far as the registry tells


class Repository(Protocol):
    """Where images are kept and workers pull them from. A tag, once pushed, never names anything else."""

    @property
    def uri(self) -> str:
        """What task definitions call it: "URI:TAG" is an image. Raises `NotFound` before `ensure`."""

    def ensure(self) -> None:
        """Make the repository if it is not there, and see to it, as far as may be, that leftovers of builds expire."""

    def access(self) -> Access:
        """How to push and pull, for some hours."""

    def images(self) -> list[StoredImage]:
        """Every tagged image, by tag; none where there is no repository."""

    def delete(self, tags: Sequence[str]) -> None:
        """Remove images, with what only they refer to; one that is not there is no error."""


class Images(Protocol):
    """What containers are made of."""

    def ensure(self, image: str) -> str:
        """The image that workers run in: the one given, once it is known to do, else one for the user's environment.

        That one is built where it is not there; steps are told on the logger `starburst.image`. Raises `BadInput` or
        `CannotBuild`, and nothing was launched.
        """

    def nbytes(self, image: str) -> int:
        """How much a worker pulls of an image, or of the newest one where none is named; 0 where nobody knows."""

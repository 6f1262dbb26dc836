"""What is asked of buckets of the user's. Who asks knows neither boto3 nor obstore, and no more do slots."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple, Protocol

from starburst_common.model import Buffer


class Listed(NamedTuple):
    """An object of a listing."""

    key: str
    nbytes: int
    etag: str


class SeenBucket(Protocol):
    """One of them, as certain credentials may see it. All raise `BadInput`, `Denied` and `Unavailable`."""

    def entries(self, prefix: str, *, deep: bool) -> list[Listed]:
        """Objects whose keys begin so; without `deep`, only those in the folder that it names."""

    def read(self, key: str, lo: int, hi: int, etag: str) -> Buffer:
        """Bytes of an object that has this ETag still. Raises `NotFound` where it has another, or is gone."""

    def opened(self, key: str, nbytes: int, etag: str) -> BinaryIO:
        """An object of so many bytes as a file that is open for reading; what is read of it is read as by `read`."""

    def write(self, key: str, body: bytes, *, new: bool) -> str:
        """Write an object; its ETag. Raises `Exists` where it is to be `new` and is not."""

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""


class Buckets(Protocol):
    """Buckets by their names, as certain credentials may see them."""

    def __call__(self, name: str) -> SeenBucket: ...
    def __hash__(self) -> int: ...  # what was read by one of them is kept for that alone


class HasBuckets(Protocol):
    """What looks at the user's buckets in its own way, as a `Backend`; None: as this process does by default."""

    @property
    def buckets(self) -> Buckets | None: ...

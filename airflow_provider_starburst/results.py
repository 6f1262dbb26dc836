"""A run's answers as a sequence that is read when it is used; through XCom goes a small manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, overload

from airflow_provider_starburst.hooks.starburst import StarburstHook
from starburst_common import Failure, NotFound, Run
from starburst_common.spi import answer_of, exception_of


class StarburstResults(Sequence[Any]):
    """The values of a fan-out, in the order of its items.

    It can be indexed, iterated over and handed to `.expand()`: a value is read from the store when it is used. In place
    of the value of an item that failed, where failures are tolerated, is its exception.

    Args:
        manifest: as `StarburstMapOperator` returns it: see there.
    """

    __version__: ClassVar[int] = 1

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.manifest = dict(manifest)

    def __repr__(self) -> str:
        told = self.manifest
        return f"<StarburstResults {told['run_id']}: {told['succeeded']:,} of {told['items']:,} items>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StarburstResults) and other.manifest == self.manifest

    __hash__ = None  # type: ignore[assignment]

    @property
    def run_id(self) -> str:
        """The run that has them."""
        return str(self.manifest["run_id"])

    def run(self) -> Run:
        """The run itself, as `starburst_common.attach` gives it."""
        return self._hook().attach(self.run_id)

    def failures(self) -> list[Failure]:
        """What failed, as data."""
        return self.run().failures()

    def written(self) -> list[str]:
        """The files that `results_to` had values written to, in the order of the items."""
        return self.run().written(return_exceptions=True)

    def succeeded(self) -> Iterator[tuple[int, Any]]:
        """Number and value of the items that have one."""
        return ((index, value) for index, value in self.run().whole() if not isinstance(value, Failure))

    def __len__(self) -> int:
        return int(self.manifest["items"])

    def __iter__(self) -> Iterator[Any]:
        for _, value in self.run().whole():
            yield self._told(value)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        at = range(len(self))[index]
        try:
            return self._told(answer_of(self.run_id, at, self._hook().backend))
        except NotFound as error:
            raise LookupError(str(error)) from error

    def _told(self, value: Any) -> Any:
        return exception_of(value) if isinstance(value, Failure) else value

    def _hook(self) -> StarburstHook:
        if (hook := vars(self).get("_opened")) is None:
            hook = self._opened = StarburstHook(self.manifest["starburst_conn_id"], self.manifest["aws_conn_id"])
        return hook

    # --- through XCom -------------------------------------------------------------------------------------------------

    def serialize(self) -> dict[str, Any]:
        """The manifest."""
        return self.manifest

    @staticmethod
    def deserialize(data: dict[str, Any], version: int) -> StarburstResults:
        """The inverse of `serialize`."""
        if version > StarburstResults.__version__:
            raise TypeError(f"results of version {version}: this starburst-ecs knows {StarburstResults.__version__}")
        return StarburstResults(data)


def allow() -> None:
    """Let this process read them from XCom: Airflow itself allows the classes of its own packages only."""
    try:
        from airflow.sdk.serde import allow_class
    except ImportError:  # before Airflow 3.3
        allow_before(f"{StarburstResults.__module__}.{StarburstResults.__qualname__}")
    else:
        allow_class(StarburstResults)


def allow_before(name: str) -> None:
    """The same, where there is no other way than the setting `allowed_deserialization_classes`."""
    for module in ("airflow.sdk.serde", "airflow.serialization.serde"):
        with suppress(ImportError, KeyError):
            vars(import_module(module))["_extra_allowed"].add(name)
            return


allow()

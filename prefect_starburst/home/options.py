"""What a runner was made with in; its options, checked and complete, and the backend that they name, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_starburst.home.settings import ELSEWHERE, RUNNER, resolve
from starburst_common import BadInput
from starburst_common.spi import OPTIONS, Backend, open_backend, refuse_unknown

if TYPE_CHECKING:
    from prefect_starburst.home.block import StarburstSite

#: Engines in flight at least, whatever the number of workers: more make fuller bursts of calls, so fewer messages.
LEAST_IN_FLIGHT = 1024
_CHECKED = ("max_in_flight", "on_lost", "resume")  #: here; the others are by whoever takes them


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """What a runner was made with, None where it was not said: two runners with the same options are equal."""

    given: dict[str, Any]

    @classmethod
    def of(cls, others: dict[str, Any], **own: Any) -> RunnerOptions:
        """Those that a runner names, and others of a map's. Raises `BadInput` for what no setting could mend."""
        _check(**{name: own[name] for name in _CHECKED})
        _refuse(others)
        return cls(given={**own, **others})

    def resolved(self) -> ResolvedOptions:
        """With what the environment and the defaults say. Raises `BadInput`."""
        options = resolve(self.given)
        own = {name: options.pop(name) for name in ("max_in_flight", "on_lost", "site", "resume")}
        _check(**{name: own[name] for name in _CHECKED})
        if own["site"] is not None and self.given.get("backend") is not None:
            raise BadInput(f"site={own['site']!r} and backend={options['backend']!r}: give one, a site is on AWS")
        return ResolvedOptions(executor=options, **own)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOptions:
    """A runner's options, complete."""

    max_in_flight: int | None
    on_lost: str
    site: StarburstSite | str | None
    resume: bool
    executor: dict[str, Any]

    @property
    def engines(self) -> int:
        """How many engines may be in flight: as given, or enough to keep every slot busy twice over.

        >>> executor = {"workers": 100, "cpu": 8, "slots": None}
        >>> ResolvedOptions(max_in_flight=None, on_lost="crash", site=None, resume=True, executor=executor).engines
        1600
        """
        if self.max_in_flight is not None:
            return self.max_in_flight
        slots = self.executor.get("slots") or max(1, int(self.executor.get("cpu") or 1))
        return max(LEAST_IN_FLIGHT, 2 * slots * (self.executor.get("workers") or 0))

    def open_backend(self) -> Backend:
        """Where to run. Raises `BadInput`, and what the backend raises."""
        if self.site is None:
            return open_backend(self.executor["backend"])
        from prefect_starburst.home.block import StarburstSite  # boto3 comes with it

        site = StarburstSite.load(self.site) if isinstance(self.site, str) else self.site
        if not isinstance(site, StarburstSite):
            raise BadInput(f"site={site!r}: give a StarburstSite, or the name of one that is saved")
        return site.backend()


def _refuse(options: dict[str, Any]) -> None:
    refuse_unknown(options, dict.fromkeys((*RUNNER, *OPTIONS)))
    if wrong := [f"{name}={options[name]!r}: {where}" for name, where in ELSEWHERE.items() if name in options]:
        raise BadInput(f"not an option of a task runner: {'; '.join(wrong)}")


def _check(**given: Any) -> None:
    for name, value in given.items():
        if value is not None and (wrong := RUNNER[name].wrong(value)):
            raise BadInput(f"{name}={value!r}{wrong}")

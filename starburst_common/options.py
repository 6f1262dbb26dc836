"""The user's words in; checked, frozen options out. Pure: every wrong value is refused before anything is launched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from starburst_common.errors import BadInput, UnknownOption
from starburst_common.limits import Limits
from starburst_common.model import RunId
from starburst_common.offered import OPTIONS, MapOptions
from starburst_common.phrases import nearest, told
from starburst_common.resources import Resources
from starburst_common.tolerance import Tolerance

_WORKER = (
    *("cpu", "memory", "slots", "spot", "image", "storage", "env", "task_role", "aws_tags", "capacity", "gpus"),
)  #: what one worker has
_TEXTS = 100_000  #: characters; whoever looks at a run reads them


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run is to be done. Made by `Options.of`, which checks."""

    workers: int | None
    resources: Resources
    keep_warm_s: float
    chunk_size: int | None
    retries: int
    retry_delay_s: float
    retry_on: tuple[type[BaseException], ...]
    timeout_s: float | None
    return_exceptions: bool
    ordered: bool
    tolerate: Tolerance
    priority: float
    speculate: bool
    escalate: bool
    limits: Limits
    driver_ttl_s: float | None
    seed: int | None
    batch: int | None
    results_to: str
    failures_to: str
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]
    files: tuple[str, ...]
    progress: bool | None
    label: str
    tags: dict[str, str] = field(default_factory=dict)
    run: RunId | None = None  #: the run's id, where that was made before it; nobody is asked for it

    @classmethod
    def of(cls, **given: Unpack[MapOptions]) -> Options:
        """Checked options, see `MapOptions`.

        Where neither `return_exceptions` nor `tolerate` says that failures are wanted, a run is stopped by the circuit
        breaker: when 20 items or more are answered, there are others, and all that are have failed alike.

        Raises:
            BadInput: naming the argument, its value, and what it should be.
            UnknownOption: with the option that was probably meant.
        """
        refuse_unknown(given, OPTIONS)
        asked: dict[str, Any] = {name: row.default for name, row in OPTIONS.items()}
        asked.update(given)
        for name, value in asked.items():
            if wrong := OPTIONS[name].wrong(value):
                raise BadInput(f"{name}={told(value)}{wrong}")
        _go_together(asked)
        size = {name: asked.pop(name) for name in _WORKER}
        retry_on, timeout = asked.pop("retry_on"), asked.pop("timeout")
        wanted, files, ttl = asked.pop("tolerate"), asked.pop("files"), asked.pop("driver_ttl")
        return cls(
            resources=Resources.of(**size),
            keep_warm_s=float(asked.pop("keep_warm")),
            retry_delay_s=float(asked.pop("retry_delay")),
            retry_on=retry_on if isinstance(retry_on, tuple) else (retry_on,),
            timeout_s=None if timeout is None else float(timeout),
            return_exceptions=asked.pop("return_exceptions") or wanted is not None,
            tolerate=Tolerance.of(wanted),
            priority=float(asked.pop("priority")),
            limits=Limits.of(*(asked.pop(name) for name in ("budget", "deadline", "max_hourly_cost", "alert_at"))),
            driver_ttl_s=None if ttl is None else float(ttl),
            initargs=tuple(asked.pop("initargs")),
            files=tuple(map(str, [files] if isinstance(files, str | Path) else files)),
            failures_to=str(asked.pop("failures_to") or ""),
            results_to=str(asked.pop("results_to") or ""),
            label=asked.pop("label") or "",
            tags=dict(asked.pop("tags") or {}),
            **asked,
        )


def _go_together(asked: dict[str, Any]) -> None:
    if asked["initargs"] and asked["initializer"] is None:
        raise BadInput(f"initargs={told(asked['initargs'])}{OPTIONS['initargs'].rules[0].wrong}")
    if asked["batch"] is not None and asked["seed"] is not None:
        raise BadInput(
            f"seed={told(asked['seed'])} with batch={asked['batch']}: a seed is an item's, and a batch's are "
            "called together: make generators from the items in the function, or leave out batch"
        )
    characters = len(asked["label"] or "") + sum(len(name) + len(text) for name, text in (asked["tags"] or {}).items())
    if characters > _TEXTS:
        raise BadInput(f"label and tags have {characters:,} characters: give {_TEXTS:,} at most, all together")


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `UnknownOption` for the first name that is not known, with the one that was probably meant.

    >>> refuse_unknown(["retrys"], OPTIONS)
    Traceback (most recent call last):
    starburst_common.errors.UnknownOption: no option 'retrys': did you mean 'retries'?
    """
    known = list(known)
    for name in given:
        if name not in known:
            hint = f"did you mean {near!r}?" if (near := nearest(name, known)) else f"there are {', '.join(known)}"
            raise UnknownOption(f"no option {told(name)}: {hint}")

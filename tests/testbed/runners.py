"""How the agent starts a task's one container: as a process of this machine, or as a container of an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class CannotPull(Exception):
    """The image is not to be had. The text is the registry's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A container to start."""

    task_id: str
    image: str  #: as in the task definition
    command: tuple[str, ...]  #: empty: the image's own
    environment: dict[str, str] = field(repr=False)
    cpu_units: int  #: 1024 a vCPU
    memory_mib: int
    on_line: Callable[[str], None]  #: called with each line the container prints
    init: bool = False  #: the engine's own first process stands above the container's


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended."""

    code: int
    reason: str = ""  #: as ECS gives for containers, as in "OutOfMemoryError: Container killed due to memory usage"


class Running(Protocol):
    """A started container."""

    def wait(self) -> Exit:
        """Block until it has ended, with all its lines delivered."""

    def signal(self, number: int) -> None:
        """Send a signal to its first process; one that has ended is no error."""

    def kill(self) -> None:
        """End it and whatever it started, at once."""


class Runner(Protocol):
    """Starts containers."""

    def pull(self, image: str) -> None:
        """Have the image at hand. Raises `CannotPull`."""

    def start(self, order: Order) -> Running:
        """Start one."""

    def running(self) -> list[str]:
        """Task ids of what really runs now, as the operating system or the engine counts it."""

    def close(self) -> None:
        """End everything that was started."""

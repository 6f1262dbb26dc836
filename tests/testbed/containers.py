"""Orders in, containers of a real engine out: an implementation of the `Runner` port."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound
from docker.models.containers import Container

from tests.testbed.engine import Engine
from tests.testbed.runners import CannotPull, Exit, Order

_BED, _TASK = "starburst.bed", "starburst.task"  # labels
_KILLED = 137
_OOM = "OutOfMemoryError: Container killed due to memory usage"
_LEAST_MIB = 6  #: an engine refuses less


class ContainerRunner:
    """Starts each order as a container on the machine's own network, with its memory and CPU limited."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.bed = f"{os.getpid()}-{_born(os.getpid())}-{id(self)}"
        self._cpus = int(engine.client.info()["NCPU"])
        self._started: list[StartedContainer] = []
        self._lock = Lock()
        for container in self._labelled(_BED):
            if not _lives(container.labels[_BED]):  # of a session that crashed
                _remove(container)

    def pull(self, image: str) -> None:
        """Have the image at hand. Raises `CannotPull`."""
        try:
            self._engine.client.api.pull(self._engine.local(image))
        except (NotFound, ImageNotFound) as error:
            raise CannotPull(
                f"CannotPullContainerError: pull image manifest has been retried 1 time(s): "
                f"failed to resolve ref {image}: {image}: not found"
            ) from error
        except APIError as error:
            raise CannotPull(f"CannotPullContainerError: {error.explanation}") from error

    def start(self, order: Order) -> StartedContainer:
        """Start one. The image must be at hand."""
        memory = f"{max(order.memory_mib, _LEAST_MIB)}m"
        container = self._engine.client.containers.create(
            self._engine.local(order.image),
            list(order.command) or None,
            environment=order.environment,
            network_mode="host",
            volumes=_trusted(order.environment),
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=int(min(order.cpu_units / 1024, self._cpus) * 1_000_000_000),
            init=order.init,
            labels={_BED: self.bed, _TASK: order.task_id},
        )
        try:
            started = StartedContainer(container, order.on_line)
        except BaseException:
            _remove(container)
            raise
        with self._lock:
            self._started.append(started)
        return started

    def running(self) -> list[str]:
        """Task ids of what really runs now, as the engine counts it."""
        own = self._labelled(f"{_BED}={self.bed}")
        return sorted(container.labels[_TASK] for container in own if container.status == "running")

    def close(self) -> None:
        """End everything that was started, and remove it."""
        with self._lock:
            started, self._started = self._started, []
        for container in started:
            container.kill()
        for container in started:
            container.wait()
        for left in self._labelled(f"{_BED}={self.bed}"):
            _remove(left)

    def _labelled(self, label: str) -> list[Container]:
        return self._engine.client.containers.list(all=True, filters={"label": label}, ignore_removed=True)


class StartedContainer:
    """A container from its start to its removal."""

    def __init__(self, container: Container, on_line: Callable[[str], None]) -> None:
        self._container = container
        self._lock = Lock()
        self._exit: Exit | None = None
        output: Any = container.attach(stream=True, demux=True, stdout=True, stderr=True)  # before it can print
        self._reader = Thread(target=_deliver, args=(output, on_line), name=f"lines of {container.short_id}")
        try:
            container.start()
        except BaseException:
            output._response.close()
            raise
        self._reader.start()

    def wait(self) -> Exit:
        """Block until it has ended, with all its lines delivered; then it is removed."""
        with self._lock:
            if self._exit is None:
                self._container.wait()
                self._reader.join()
                self._container.reload()
                state = self._container.attrs["State"]
                # the kernel may have killed a child only: what counts is how the first process ended
                oom = state["OOMKilled"] and state["ExitCode"] == _KILLED
                self._exit = Exit(state["ExitCode"], _OOM if oom else "")
                _remove(self._container)
            return self._exit

    def signal(self, number: int) -> None:
        """Send a signal to its first process; one that has ended is no error."""
        with suppress(APIError):
            self._container.kill(signal=number)

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        with suppress(APIError):
            self._container.kill()


def _deliver(output: Any, on_line: Callable[[str], None]) -> None:
    begun = [b"", b""]  # of standard output and standard error
    with closing(output._response):  # its own close() leaves the socket open
        for pair in output:
            for stream, piece in enumerate(pair):
                *lines, begun[stream] = (begun[stream] + (piece or b"")).split(b"\n")
                for line in lines:
                    on_line(line.decode(errors="replace"))
    for rest in begun:
        if rest:
            on_line(rest.decode(errors="replace"))


def _remove(container: Container) -> None:
    with suppress(NotFound):
        container.remove(force=True, v=True)


def _born(pid: int) -> str:
    """When a process started, in ticks since boot; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _lives(bed: str) -> bool:
    """Whether the process that made this bed is there."""
    pid, born, *_ = bed.split("-")
    return _born(int(pid)) == born


def _trusted(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The certificates that a container's environment names, where it looks for them."""
    named = environment.get("AWS_CA_BUNDLE")
    return {named: {"bind": named, "mode": "ro"}} if named else {}

"""The container engine of this machine: found, asked what it is, and what goes wrong with it named."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from starburst_common.errors import CannotBuild

if TYPE_CHECKING:
    from docker import DockerClient


class EngineFailed(Exception):
    """What an engine says at the end of a build or push that failed."""


def trouble() -> tuple[type[Exception], ...]:
    from docker.credentials.errors import StoreError
    from docker.errors import DockerException
    from requests import RequestException

    # the last two: the engine's JSON is none, or more than Python takes
    return EngineFailed, DockerException, StoreError, RequestException, HTTPError, ValueError, RecursionError


@contextmanager
def engine(answer_s: int) -> Iterator[DockerClient]:
    """The engine that `DOCKER_HOST` or else docker's current context names. Raises `CannotBuild`."""
    try:
        import docker
        from docker.context import ContextAPI
        from docker.errors import DockerException
    except ImportError:
        raise CannotBuild("the docker library is not there: pip install 'starburst-ecs[docker]'") from None
    where = os.environ.get("DOCKER_HOST", "")
    client: DockerClient | None = None
    try:
        if not where:
            chosen = ContextAPI.get_current_context()
            where = (chosen.Host if chosen else "") or "unix:///var/run/docker.sock"
        _knock(where)
        client = docker.from_env(timeout=answer_s, environment={**os.environ, "DOCKER_HOST": where})
        client.ping()
    except (DockerException, OSError) as error:
        if client is not None:
            client.close()
        raise CannotBuild(
            f"no container engine answers at {where} ({error}): start one, or name it in DOCKER_HOST"
        ) from error
    with closing(client):
        yield client


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens at a socket: sooner, and in plainer words, than the library."""
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)


def platform_of(client: DockerClient) -> str:
    told = client.version()
    return f"{told['Os']}/{told['Arch']}"


def network(client: DockerClient) -> str | None:
    """For commands of a build: the engine's usual one, or the machine's own where it has none."""
    return None if any(network.name == "bridge" for network in client.networks.list(names=["bridge"])) else "host"


def remove(client: DockerClient, image: str) -> None:
    """Drop the name; a later build goes on from the steps, which stay."""
    with suppress(*trouble()):
        client.images.remove(image, noprune=True)

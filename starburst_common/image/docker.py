"""A recipe in, an image in the registry out, by a container engine: builds what has no wheel, and runs build steps."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from platformdirs import user_cache_path

from starburst_common.errors import CannotBuild, Unavailable
from starburst_common.image import context
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.ports import Access

if TYPE_CHECKING:
    from docker import DockerClient

_BUILDER = "starburst"  #: buildx's, named always: whatever else the user has chosen stays as it is
_LAST_LINES = 20
_DENIED = re.compile(r"unauthorized|denied|no basic auth|authentication required", re.IGNORECASE)
_PATIENCE_S = 3600
_NOISE = (" --->", "Removing intermediate container", "Successfully ")  #: of the engine about its own doings
Tell = Callable[[str], None]


class DockerBuilder:
    """Makes images with the engine of this machine; several platforms, or a foreign one, with its buildx."""

    name = "docker"

    def __init__(self, *, logs: Path | None = None) -> None:
        self._logs = logs or user_cache_path("starburst") / "builds"

    def lacking(self, recipe: Recipe) -> str:
        """Why this recipe cannot be built so, here; empty if it can."""
        try:
            with _engine() as client:
                version = client.version()
        except CannotBuild as error:
            return str(error)
        native = f"{version['Os']}/{version['Arch']}"
        if recipe.platforms != (native,) and not _has_buildx():
            return f"the engine builds for {native}; for {', '.join(recipe.platforms)} it needs docker's buildx plugin"
        return ""

    def build(self, recipe: Recipe, target: Access, tell: Tell) -> str:
        """Leave `recipe.tag` in the target repository, complete or not at all; returns the digest.

        A tag that is there already is left as it is. What the build prints is kept where it fails. Raises `CannotBuild`
        or `Unavailable`.
        """
        registry = Registry.of(target)
        if (there := registry.digest(target.repository, recipe.tag)) is not None:
            return there
        if why := self.lacking(recipe):
            raise CannotBuild(why)
        image = f"{urlsplit(target.url).netloc}/{target.repository}:{recipe.tag}"
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{recipe.tag}.log"
        with tempfile.TemporaryDirectory(prefix="starburst-build-") as folder, log.open("w") as kept:
            os.fchmod(kept.fileno(), 0o600)
            told = _Told(kept.write, tell, log)
            context.prepare(Path(folder), recipe)
            with _engine() as client:
                version = client.version()
                if recipe.platforms == (f"{version['Os']}/{version['Arch']}",):
                    self._one(client, Path(folder), recipe, image, target, told)
                else:
                    self._several(Path(folder), recipe, image, target, told)
        digest = registry.digest(target.repository, recipe.tag)
        if digest is None:
            raise CannotBuild(f"{image} was pushed, but the registry does not have it: try again")
        log.unlink(missing_ok=True)
        return digest

    def _one(self, client: DockerClient, folder: Path, recipe: Recipe, image: str, target: Access, told: _Told) -> None:
        arguments = {"TARGETARCH": context.architecture(recipe.platforms[0]), **_proxies(), **context.arguments(recipe)}
        if target.user:
            client.api._auth_configs.add_auth(  # type: ignore[attr-defined]  # a base may lie in the same registry
                urlsplit(target.url).netloc, {"username": target.user, "password": target.password}
            )
        steps = client.api.build(
            path=str(folder),
            tag=image,
            buildargs=arguments,
            network_mode=_network(client),
            rm=True,
            forcerm=True,
            decode=True,
            timeout=_PATIENCE_S,
        )
        try:
            told.of_build(steps)
            login = {"username": target.user, "password": target.password} if target.user else None
            repository, _, tag = image.rpartition(":")
            pushed = client.api.push(repository, tag, stream=True, decode=True, auth_config=login)
            told.of_push(pushed, image, lambda: Registry.of(target).digest(target.repository, recipe.tag) is not None)
        finally:
            _remove(client, image)

    def _several(self, folder: Path, recipe: Recipe, image: str, target: Access, told: _Told) -> None:
        arguments = {**_proxies(), **context.arguments(recipe)}
        with tempfile.TemporaryDirectory(prefix="starburst-docker-") as settings:
            secret = base64.b64encode(f"{target.user}:{target.password}".encode()).decode()
            login = {"auths": {urlsplit(target.url).netloc: {"auth": secret}}} if target.user else {}
            Path(settings, "config.json").write_text(json.dumps(login))
            for plugins in (Path.home() / ".docker" / "cli-plugins",):
                if plugins.is_dir():
                    Path(settings, "cli-plugins").symlink_to(plugins)
            env = {**os.environ, **arguments, "DOCKER_CONFIG": settings}
            env.pop("BUILDX_BUILDER", None)
            buildx = env | {"BUILDX_CONFIG": os.environ.get("BUILDX_CONFIG", str(Path.home() / ".docker" / "buildx"))}
            if subprocess.run(inspect_command(), env=buildx, capture_output=True, check=False).returncode:
                subprocess.run(create_command(), env=buildx, capture_output=True, check=False)  # or another was first
            command = build_command(folder, recipe, image, sorted(arguments))
            told.of_command(command, buildx)


def inspect_command() -> list[str]:
    """Whether the builder is there; starts it."""
    return ["docker", "buildx", "inspect", "--bootstrap", _BUILDER]


def create_command() -> list[str]:
    """Make the builder, on the machine's own network."""
    return ["docker", "buildx", "create", "--name", _BUILDER, "--driver", "docker-container", "--bootstrap"]


def build_command(folder: Path, recipe: Recipe, image: str, arguments: Iterable[str]) -> list[str]:
    """Build and push for all platforms; arguments' values come from the environment, where nobody sees them.

    >>> from starburst_common.environment import Environment
    >>> recipe = Recipe(environment=Environment.of("3.11", ""), platforms=("linux/amd64", "linux/arm64"), base="b",
    ...     base_digest="sha256:1", worker="1")
    >>> " ".join(build_command(Path("/here"), recipe, "r/i:t", ["UV_INDEX"]))  # doctest: +NORMALIZE_WHITESPACE
    'docker buildx build --builder starburst --platform linux/amd64,linux/arm64 --provenance=false --progress=plain
    --build-arg UV_INDEX --tag r/i:t --push /here'
    """
    named = [word for name in arguments for word in ("--build-arg", name)]
    how = ["--platform", ",".join(recipe.platforms), "--provenance=false", "--progress=plain", *named]
    return ["docker", "buildx", "build", "--builder", _BUILDER, *how, "--tag", image, "--push", str(folder)]


class _Told:
    """What a build says: kept whole in a file, told line by line, and its end explained if it fails."""

    def __init__(self, keep: Callable[[str], Any], tell: Tell, log: Path) -> None:
        self._keep, self._tell, self._log = keep, tell, log
        self._last: list[str] = []

    def line(self, text: str) -> None:
        """One line of output."""
        self._keep(f"{text}\n")
        self._last = [*self._last, text][-_LAST_LINES:]
        if not text.startswith(_NOISE):
            self._tell(text)

    def of_build(self, steps: Iterable[dict[str, Any]]) -> None:
        """An engine's answers while it builds."""
        from docker.errors import DockerException

        try:
            for step in steps:
                for text in step.get("stream", "").splitlines():
                    if text.strip():
                        self.line(text.rstrip())
                if "error" in step:
                    raise self._failed(step["error"])
        except (DockerException, OSError) as error:
            raise self._failed(str(error)) from error

    def of_push(self, steps: Iterable[dict[str, Any]], image: str, there: Callable[[], bool]) -> None:
        """An engine's answers while it pushes; a tag that somebody else has pushed meanwhile is as good."""
        from docker.errors import DockerException

        self.line(f"pushing {image}")
        try:
            for step in steps:
                if "error" in step:
                    said = step["error"]
                    if there():
                        return
                    if _DENIED.search(said):
                        raise CannotBuild(f"{image} cannot be pushed: {said}: allow these credentials to push there")
                    raise Unavailable(f"{image} cannot be pushed: {said}: try again")
        except (DockerException, OSError) as error:
            if isinstance(error, Unavailable):
                raise
            raise Unavailable(f"{image} cannot be pushed: {error}: try again") from error

    def of_command(self, command: list[str], env: dict[str, str]) -> None:
        """A program's output."""
        with subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        ) as program:
            try:
                assert program.stdout is not None
                for text in program.stdout:
                    self.line(text.rstrip())
            except BaseException:
                program.terminate()
                raise
        if program.returncode:
            raise self._failed(f"{' '.join(command[:3])} ended with {program.returncode}")

    def _failed(self, why: str) -> CannotBuild:
        said = "\n".join(self._last)
        hint = ""
        if "exec format error" in said:
            hint = "\nthis machine cannot run programs of that platform: install emulation (binfmt), or use layer"
        elif re.search(r"(gcc|cc|g\+\+).*(not found|No such file)|linker .* not found", said):
            hint = "\na package needs a compiler: name it in system_packages, such as gcc"
        return CannotBuild(f"the image cannot be built: {why}\n{said}{hint}\nall of it is in {self._log}")


# --- the engine -------------------------------------------------------------------------------------------------------


@contextmanager
def _engine() -> Iterator[DockerClient]:
    """The engine that `DOCKER_HOST`, else the usual socket, names. Raises `CannotBuild`."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise CannotBuild("the docker library is not there: pip install 'starburst-ecs[docker]'") from None
    where = os.environ.get("DOCKER_HOST", "/var/run/docker.sock")
    if where.startswith(("/", "unix://")) and not Path(where.removeprefix("unix://")).exists():
        raise CannotBuild(f"no container engine at {where}: start one, or name it in DOCKER_HOST")
    try:
        client = docker.from_env(timeout=_PATIENCE_S)
        client.ping()
    except (DockerException, OSError) as error:
        raise CannotBuild(f"no container engine answers at {where}: start one, or name it in DOCKER_HOST") from error
    with closing(client):
        yield client


def _network(client: DockerClient) -> str | None:
    """The engine's own, or the machine's where it has none."""
    return None if client.networks.list(names=["bridge"]) else "host"


def _remove(client: DockerClient, image: str) -> None:
    from docker.errors import DockerException

    try:
        client.images.remove(image, noprune=True)  # a later build goes on from its steps
    except DockerException:
        return


def _has_buildx() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0


def _proxies() -> dict[str, str]:
    """Those this machine is told to use: docker knows them as build arguments, and keeps them out of the image."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if os.environ.get(name)}

"""A recipe in, an image in the registry out, by a container engine: builds what has no wheel, and runs build steps."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from platformdirs import user_cache_path
from urllib3.exceptions import HTTPError

from starburst_common.errors import CannotBuild, Unavailable
from starburst_common.image import context, wheels
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.phrases import without_credentials
from starburst_common.ports import Access
from starburst_common.trust import CACHE_INSTEAD, own_folder, owner_only

if TYPE_CHECKING:
    from docker import DockerClient

_BUILDER = "starburst"  #: buildx's, named always: whatever else the user has chosen stays as it is
_LAST_LINES = 20
_STEP_LINES = 500  #: of the step that fails, where known troubles are looked for: its errors need not come last
_ANSWER_S, _PATIENCE_S = 5, 3600  #: until an engine that works says anything; until its next word while it builds
_DENIED = re.compile(r"unauthorized|denied|forbidden|no basic auth|authentication required", re.IGNORECASE)
_LOGINS = ("auths", "credHelpers")  #: of docker's settings, which get ours beside them
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NOISE = (" --->", "Removing intermediate container", "Successfully ")  #: of the engine about its own doings
_MOVES = ("Pull complete", "Pushed", "Mounted from", "Layer already exists")  #: of an engine's, those worth a line
_COMPILER = r"\b(gcc|cc|g\+\+|c\+\+)\b"
_HINTS = {
    "exec format error": "this engine cannot run programs of that platform: install emulation "
    "(`docker run --privileged --rm tonistiigi/binfmt --install all`), or choose another builder",
    r"Python\.h: No such file": "a package needs Python's headers: add python3-dev to `system_packages`",
    r"\b(assert|errno|limits|math|stdint|stdio|stdlib|string)\.h: No such file": "the compiler lacks the C library's "
    "headers: add libc6-dev to `system_packages`",
    rf"{_COMPILER}.*(not found|No such file)|No such file.*{_COMPILER}": "a compiler is needed: add gcc and libc6-dev, "
    "or g++, to `system_packages`",
    r"(?i:git executable not found)": "a package comes from git: add git to `system_packages`",
    "no space left on device": "the engine's disk is full: make room, as with `docker system prune`",
}
Tell = Callable[[str], None]


class DockerBuilder:
    """Makes images with the engine of this machine; several platforms, or a foreign one, with its buildx."""

    name = "docker"

    def __init__(self, *, logs: Path | None = None) -> None:
        self._logs = logs or user_cache_path("starburst") / "builds"

    def lacking(self, recipe: Recipe) -> str:
        """Why this recipe cannot be built so, here; empty if it can."""
        if unknown := [platform for platform in recipe.platforms if platform not in wheels.PLATFORMS]:
            return f"the worker runs on {' and '.join(wheels.PLATFORMS)} only, not on {', '.join(unknown)}"
        try:
            with _engine(_ANSWER_S) as client:
                own = _platform(client)
        except CannotBuild as error:
            return str(error)
        if recipe.platforms != (own,) and not _has_buildx():
            return f"the engine builds for {own}; for {', '.join(recipe.platforms)} install docker's buildx plugin"
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
        own_folder(self._logs, CACHE_INSTEAD)
        log = self._logs / f"{recipe.tag}.log"
        with (
            tempfile.TemporaryDirectory(prefix="starburst-build-") as folder,
            open(log, "w", opener=owner_only) as kept,
        ):
            context.prepare(Path(folder), recipe)
            told = _Told(kept.write, tell, log)
            with _engine(_PATIENCE_S) as client:
                if recipe.platforms == (_platform(client),):
                    self._one(client, Path(folder), recipe, target, told)
                else:
                    self._several(Path(folder), recipe, target, told)
        digest = registry.digest(target.repository, recipe.tag)
        if digest is None:
            raise Unavailable(f"{_image(target, recipe)} was pushed, but its registry does not have it: try again")
        log.unlink(missing_ok=True)
        return digest

    def _one(self, client: DockerClient, folder: Path, recipe: Recipe, target: Access, told: _Told) -> None:
        image = _image(target, recipe)
        arguments = {"TARGETARCH": context.architecture(recipe.platforms[0]), **_proxies(), **context.arguments(recipe)}
        login = {"username": target.user, "password": target.password} if target.user else None
        try:
            with told.building():
                if login and context.pinned(recipe).partition("/")[0] == image.partition("/")[0]:
                    base = client.api.pull(context.pinned(recipe), stream=True, decode=True, auth_config=login)
                    told.steps(base)
                steps = client.api.build(
                    path=str(folder), tag=image, buildargs=arguments, network_mode=_network(client), rm=True,
                    forcerm=True, decode=True, timeout=_PATIENCE_S,
                )  # fmt: skip
                told.steps(steps)
            with told.pushing(image, lambda: _there(target, recipe)):
                name, _, tag = image.rpartition(":")
                told.steps(client.api.push(name, tag, stream=True, decode=True, auth_config=login))
        finally:
            _remove(client, image)

    def _several(self, folder: Path, recipe: Recipe, target: Access, told: _Told) -> None:
        image, arguments = _image(target, recipe), {**_proxies(), **context.arguments(recipe)}
        with _settings(target) as settings:
            env = {**os.environ, **arguments, **settings}
            env.pop("BUILDX_BUILDER", None)
            _ensure_builder(env)
            try:
                told.command(build_command(folder, recipe, image, sorted(arguments)), env)
            except CannotBuild:
                if not _there(target, recipe):  # else somebody has pushed it meanwhile, and it stays
                    raise


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


def inspect_command() -> list[str]:
    """Whether the builder is there; starts it."""
    return ["docker", "buildx", "inspect", "--bootstrap", _BUILDER]


def create_command() -> list[str]:
    """Make the builder."""
    return ["docker", "buildx", "create", "--name", _BUILDER, "--driver", "docker-container", "--bootstrap"]


def with_login(settings: Mapping[str, Any], host: str, user: str, password: str) -> dict[str, Any]:
    """Docker's own settings with one more login; an empty helper has docker look for it here, not in a keychain.

    >>> with_login({"credsStore": "desktop"}, "r.io", "AWS", "x")
    {'credsStore': 'desktop', 'auths': {'r.io': {'auth': 'QVdTOng='}}, 'credHelpers': {'r.io': ''}}
    """
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    auths = {**(settings.get("auths") or {}), host: {"auth": secret}}
    return {**settings, "auths": auths, "credHelpers": {**(settings.get("credHelpers") or {}), host: ""}}


@contextmanager
def _settings(target: Access) -> Iterator[dict[str, str]]:
    """The user's settings of docker and our login, in a folder that only they can read, as variables for docker.

    Raises `CannotBuild`.
    """
    own = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    file = own / "config.json"
    try:
        settings = json.loads(file.read_text()) if file.is_file() else {}
        if not (isinstance(settings, dict) and all(isinstance(settings.get(name) or {}, dict) for name in _LOGINS)):
            raise ValueError(f"no object, or none in {' and '.join(_LOGINS)}")
    except (OSError, ValueError, RecursionError) as error:
        raise CannotBuild(
            f"docker's settings in {file} cannot be read ({error}): correct them, or name another in DOCKER_CONFIG"
        ) from error
    if target.user:
        settings = with_login(settings, urlsplit(target.url).netloc, target.user, target.password)
    with tempfile.TemporaryDirectory(prefix="starburst-docker-") as folder:
        Path(folder, "config.json").write_text(json.dumps(settings))
        for name in ("cli-plugins", "contexts"):
            if (own / name).is_dir():
                Path(folder, name).symlink_to((own / name).resolve())
        yield {"DOCKER_CONFIG": folder, "BUILDX_CONFIG": os.environ.get("BUILDX_CONFIG") or str(own / "buildx")}


def _ensure_builder(env: Mapping[str, str]) -> None:
    said = ""
    for command in (inspect_command(), create_command(), inspect_command()):  # another may have made it meanwhile
        done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
        said = done.stderr.strip() or said
        if done.returncode == 0:
            return
    raise CannotBuild(f"docker's buildx cannot make its builder {_BUILDER}: {without_credentials(said)}")


class _Told:
    """What a build says: kept whole in a file, told line by line, and its end explained if it fails."""

    def __init__(self, keep: Callable[[str], Any], tell: Tell, log: Path) -> None:
        self._keep, self._tell, self._log = keep, tell, log
        self._last = deque[str](maxlen=_LAST_LINES)
        self._step = deque[str](maxlen=_STEP_LINES)

    def line(self, text: str) -> None:
        """One line of output."""
        if not (text := without_credentials(_COLOURS.sub("", text).rstrip())):
            return
        self._keep(f"{text}\n")
        if not text.startswith(_NOISE):
            if text.startswith("Step "):
                self._step.clear()
            self._last.append(text)
            self._step.append(text)
            self._tell(text)

    def steps(self, steps: Generator[dict[str, Any]]) -> None:
        """An engine's answers. Raises `_EngineFailed`."""
        unfinished = why = ""
        with closing(steps):  # an engine works while its connection is open, as a kept exception would leave it
            for step in steps:  # to their end, which follows on an error: else the connection is not given back
                if not isinstance(step, dict):
                    continue
                *lines, unfinished = (unfinished + str(step.get("stream", ""))).replace("\r", "\n").split("\n")
                status = str(step.get("status", ""))
                if status.startswith(_MOVES):
                    lines.append(f"{step.get('id', '')} {status}")
                for line in lines:
                    self.line(line)
                why = why or str(step.get("error", ""))
        self.line(unfinished)
        if why:
            raise _EngineFailed(without_credentials(why))

    def command(self, command: list[str], env: dict[str, str]) -> None:
        """A program's output. Raises `CannotBuild`."""
        with subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        ) as program:
            try:
                for text in program.stdout or ():
                    self.line(text)
            except BaseException:
                program.terminate()
                raise
        if program.returncode:
            raise self._failed(f"{' '.join(command[:3])} ended with {program.returncode}")

    @contextmanager
    def building(self) -> Iterator[None]:
        """What goes wrong while the block builds is `CannotBuild`."""
        try:
            yield
        except _trouble() as error:
            raise self._failed(str(error)) from error

    @contextmanager
    def pushing(self, image: str, there: Callable[[], bool]) -> Iterator[None]:
        """What goes wrong while the block pushes; a tag that somebody else has pushed meanwhile is as good."""
        self.line(f"pushing {image}")
        try:
            yield
        except _trouble() as error:
            if there():
                return
            if _DENIED.search(str(error)):
                raise CannotBuild(
                    f"{image} cannot be pushed: {error}. Let these credentials push to that repository"
                ) from error
            raise Unavailable(f"{image} cannot be pushed: {error}. Try again") from error

    def _failed(self, why: str) -> CannotBuild:
        said, signs = "\n".join(self._last), "\n".join([*self._step, why])
        hints = [hint for sign, hint in _HINTS.items() if re.search(sign, signs)]
        end = [f"What it said is in {self._log}; it ends:", said] if said else []
        return CannotBuild("\n".join([f"the image cannot be built: {why.strip()}", *hints[:1], *end]))


class _EngineFailed(Exception):
    """What an engine says at the end of a build or push that failed."""


def _trouble() -> tuple[type[Exception], ...]:
    from docker.credentials.errors import StoreError
    from docker.errors import DockerException
    from requests import RequestException

    # the last two: the engine's JSON is none, or more than Python takes
    return _EngineFailed, DockerException, StoreError, RequestException, HTTPError, ValueError, RecursionError


# --- the engine -------------------------------------------------------------------------------------------------------


@contextmanager
def _engine(answer_s: int) -> Iterator[DockerClient]:
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


def _platform(client: DockerClient) -> str:
    told = client.version()
    return f"{told['Os']}/{told['Arch']}"


def _image(target: Access, recipe: Recipe) -> str:
    return f"{urlsplit(target.url).netloc}/{target.repository}:{recipe.tag}"


def _there(target: Access, recipe: Recipe) -> bool:
    return Registry.of(target).digest(target.repository, recipe.tag) is not None


def _network(client: DockerClient) -> str | None:
    """For commands of a build: the engine's usual one, or the machine's own where it has none."""
    return None if any(network.name == "bridge" for network in client.networks.list(names=["bridge"])) else "host"


def _remove(client: DockerClient, image: str) -> None:
    """Drop the name; a later build goes on from the steps, which stay."""
    with suppress(*_trouble()):
        client.images.remove(image, noprune=True)


def _has_buildx() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0


def _proxies() -> dict[str, str]:
    """Those this machine is told to use: docker knows them as build arguments, and keeps them out of the image."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if os.environ.get(name)}

"""A bare Debian machine in; a container engine, a registry beside it and images with the worker out.

What takes long is done once: it stays below `~/.cache/starburst-tests`. By hand, `python -m tests.testbed.engine up`
starts engine and registry and leaves them running, `down` ends them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from docker import DockerClient
from docker.errors import DockerException, ImageNotFound
from platformdirs import user_cache_path

from starburst_common.environment import Environment
from starburst_common.image import contents
from starburst_common.image.build import PYTHON
from starburst_common.image.layer import LayerBuilder
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.ports import Access

NEED = "STARBURST_TESTS_NEED_CONTAINERS"  #: set where a test with containers must not be skipped
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"

_PROJECT = Path(__file__).resolve().parents[2]
_CACHE = user_cache_path("starburst-tests").resolve()  # the engine takes no path with a link in it
_RUNNING = Path("/run/starburst-tests")  # short: a socket's path has at most 107 characters
_SOCKET = f"unix://{_RUNNING}/docker.sock"
_KEEP = _RUNNING / "keep"
_PORT = _RUNNING / "registry.port"
_PREFERRED_PORT = 5001
_WORKERS = "starburst-worker"
_PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
_PACKAGES = {"dockerd": "docker.io", "docker-registry": "docker-registry", "debootstrap": "debootstrap"}
_IN_BASE = "python3,python3-venv,ca-certificates"
_NOT_IN_BASE = [
    *("proc", "sys", "dev", "run", "tmp", "var/cache/apt", "var/lib/apt/lists", "var/log"),
    *(f"usr/share/{name}" for name in ("doc", "man", "info", "locale", "lintian", "bash-completion")),
]
Found = TypeVar("Found")
_INSTALL_S, _BOOTSTRAP_S, _IMAGE_S, _START_S = 600, 600, 600, 60


class NoContainers(Exception):
    """Containers cannot be had, and why."""


def lacking() -> str:
    """Why this machine cannot run containers for tests; empty if it can."""
    if os.geteuid() != 0:
        return "tests with containers start their own engine and make their own image, for which they must be root"
    if missing := [name for name in ("apt-get", "start-stop-daemon", "unshare") if shutil.which(name) is None]:
        return f"tests with containers install what they need by Debian's packages: {', '.join(missing)} not found"
    return ""


def must_run() -> bool:
    """Whether a test with containers fails, instead of being skipped, where there can be none."""
    return bool(os.environ.get("CI") or os.environ.get(NEED))


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine and its registry."""

    client: DockerClient
    registry: str  #: host:port

    def local(self, image: str) -> str:
        """Where an image that ECS would pull from ECR is pulled from here."""
        host, slash, rest = image.partition("/")
        return f"{self.registry}/{rest}" if slash and ".dkr.ecr." in host else image

    def publish(self, image: str, name: str) -> str:
        """Push a local image under `REPOSITORY:TAG`, and give the reference that a task definition has for it."""
        repository, _, tag = name.partition(":")
        self.client.images.get(image).tag(f"{self.registry}/{repository}", tag)
        if not self._published(repository, tag):
            for step in self.client.images.push(f"{self.registry}/{repository}", tag, stream=True, decode=True):
                if "error" in step:
                    raise NoContainers(f"cannot push {name}: {step['error']}")
        return f"{ECR}/{name}"

    def base_image(self) -> str:
        """Debian with its Python, made by debootstrap from where this machine has its packages."""
        release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
        suite = release.get("VERSION_CODENAME", "").strip('"')
        recipe = json.dumps([suite, _IN_BASE, _NOT_IN_BASE])
        return self._ensured("starburst-python", recipe, lambda tag: self._bootstrap(tag, suite))

    def recipe(self, environment: Environment | None = None, **more: Any) -> Recipe:
        """What an image with this environment is made of, on the base image; an empty one holds the worker alone."""
        base = self.base_image()
        self.publish(base, base)
        repository, _, tag = base.partition(":")
        digest = Registry(f"http://{self.registry}").digest(repository, tag)
        made: dict[str, Any] = {
            "environment": environment or Environment.of(PYTHON, ""),
            "platforms": (_PLATFORMS[os.uname().machine],),
            "base": f"{self.registry}/{base}",
            "base_digest": digest,
            "worker": contents.digest(),
            **more,
        }
        return Recipe(**made)

    def test_image(self) -> str:
        """The worker as this checkout has it, and nothing else, published."""
        recipe = self.recipe()
        LayerBuilder().build(recipe, Access(url=f"http://{self.registry}", repository=_WORKERS), lambda _: None)
        return f"{ECR}/{_WORKERS}:{recipe.tag}"

    def added_bytes(self, image: str, base: str) -> int:
        """What an image has on top of another."""
        sizes = [int(self.client.images.get(name).attrs["Size"]) for name in (image, base)]
        return sizes[0] - sizes[1]

    # --- making images ------------------------------------------------------------------------------------------------

    def _ensured(self, name: str, recipe: str, make: Callable[[str], None]) -> str:
        """The image made by this recipe; who comes at the same time waits."""
        tag = f"{name}:{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
        with _one_at_a_time(_CACHE / f"{name}.lock"):
            try:
                self.client.images.get(tag)
            except ImageNotFound:
                make(tag)
        return tag

    def _bootstrap(self, tag: str, suite: str) -> None:
        with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
            root, tar = Path(folder, "root"), Path(folder, "root.tar")
            # in a mount namespace of its own, debootstrap leaves nothing mounted, however it ends
            made = ["debootstrap", "--variant=minbase", f"--include={_IN_BASE}", suite, str(root), _packages_of(suite)]
            _run(["unshare", "--mount", *made], within_s=_BOOTSTRAP_S)
            left_out = [f"--exclude=./{name}/*" for name in _NOT_IN_BASE]
            _run(["tar", "--create", "--numeric-owner", *left_out, "--file", str(tar), "--directory", str(root), "."])
            repository, _, version = tag.partition(":")
            path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            self.client.api.import_image_from_file(str(tar), repository, version, changes=[f"ENV {path}"])
            self.client.images.get(tag)

    def _published(self, repository: str, tag: str) -> bool:
        kinds = "application/vnd.docker.distribution.manifest.v2+json"
        address = f"http://{self.registry}/v2/{repository}/manifests/{tag}"
        try:
            with urlopen(Request(address, method="HEAD", headers={"Accept": kinds}), timeout=10):
                return True
        except HTTPError as error:
            if error.code == 404:
                return False
            raise


@contextmanager
def running_engine(*, keep: bool = False) -> Iterator[Engine]:
    """An engine and its registry, shared with whoever else uses them now.

    What a session started ends with the last session that uses it, unless someone said to keep it.
    Raises `NoContainers`.
    """
    if reason := lacking():
        raise NoContainers(reason)
    for folder in (_CACHE, _RUNNING):
        folder.mkdir(parents=True, exist_ok=True)
    with (_RUNNING / "users").open("w") as users:
        try:
            with ExitStack() as open_until_then:
                with _one_at_a_time(_RUNNING / "lock"):
                    fcntl.flock(users, fcntl.LOCK_SH)
                    _install()
                    client = open_until_then.enter_context(closing(_engine_client()))
                    port = _registry_port()
                    if keep:
                        _KEEP.touch()
                yield Engine(client, f"127.0.0.1:{port}")
        finally:
            with _one_at_a_time(_RUNNING / "lock"), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _KEEP.exists():
                    _end()


def registry_now() -> str | None:
    """Host and port of the registry that runs now; none is started."""
    try:
        port = int(_PORT.read_text())
    except (OSError, ValueError):
        return None
    return f"127.0.0.1:{port}" if _registry_answers(port) else None


def engine_now() -> str | None:
    """DOCKER_HOST of the engine that runs now; none is started."""
    if (client := _answering(_SOCKET)) is None:
        return None
    client.close()
    return _SOCKET


# --- programs ---------------------------------------------------------------------------------------------------------


def _install() -> None:
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    # a package must not start a service of its own: this file forbids it while it exists
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        _run(["apt-get", "update", "-qq"], within_s=_INSTALL_S)
        quiet = ["apt-get", "install", "-qq", "-y", "--no-install-recommends"]
        _run([*quiet, *missing], within_s=_INSTALL_S)
    finally:
        if ours:
            policy.unlink()


def _engine_client() -> DockerClient:
    """To our engine, which is started unless it runs; one that the machine has keeps containers from its loopback."""
    if (client := _answering(_SOCKET)) is not None:
        return client
    # containers use the machine's own network: the engine needs no bridge and leaves the firewall as it is
    network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    where = ["--data-root", str(_CACHE / "docker"), "--exec-root", str(_RUNNING / "exec"), "--host", _SOCKET]
    # else it refuses to be the machine's second, or takes the first one's containers for its own
    apart = ["--pidfile", str(_RUNNING / "engine.pid"), "--containerd-namespace", "starburst-tests"]
    (_RUNNING / "engine.pid").unlink(missing_ok=True)
    log = _start("dockerd", *where, *apart, *network)
    return _soon(lambda: _answering(_SOCKET), "dockerd", log)


def _answering(address: str) -> DockerClient | None:
    with socket.socket(socket.AF_UNIX) as probe:  # the client would leak its socket where nobody listens
        if probe.connect_ex(address.removeprefix("unix://")) != 0:
            return None
    try:
        client = DockerClient(address, max_pool_size=64)
        client.ping()
    except (DockerException, OSError):
        return None
    return client


def _registry_port() -> int:
    if _PORT.exists() and _registry_answers(port := int(_PORT.read_text())):
        return port
    port = _free_port()
    config = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(_CACHE / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    file = _CACHE / "registry.json"
    file.write_text(json.dumps(config))  # which is YAML too
    _tidy(file)
    log = _start("docker-registry", "serve", str(file))
    _soon(lambda: _registry_answers(port) or None, "docker-registry", log)
    _PORT.write_text(str(port))
    return port


def _tidy(config: Path) -> None:
    """Remove what test beds pushed, of which none lives while the registry does not run."""
    repositories = _CACHE / "registry" / "docker" / "registry" / "v2" / "repositories"
    beds = list(repositories.glob("bed-*"))
    for each in beds:
        shutil.rmtree(each)
    if beds:
        with suppress(NoContainers):  # what it leaves costs room on the disk, no more
            _run(["docker-registry", "garbage-collect", str(config)])


def _registry_answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5) as answer:
            return "registry/2.0" in answer.headers.get("Docker-Distribution-Api-Version", "")
    except (URLError, OSError):
        return False


def _free_port() -> int:
    for port in (_PREFERRED_PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise NoContainers("no port is free on 127.0.0.1")


def _daemon(program: str) -> list[str]:
    return ["start-stop-daemon", "--pidfile", str(_RUNNING / f"{program}.pid"), "--exec", str(shutil.which(program))]


def _start(program: str, *arguments: str) -> Path:
    """Start a program that outlives us; returns its log."""
    log = _CACHE / f"{program}.log"
    log.unlink(missing_ok=True)
    how = ["--start", "--background", "--make-pidfile", "--output", str(log)]
    _run([*_daemon(program), *how, "--", *arguments])
    until = time.monotonic() + 20
    while not _runs(program) and time.monotonic() < until:  # forked, it is not yet the program
        time.sleep(0.02)
    return log


def _runs(program: str) -> bool:
    return subprocess.run([*_daemon(program), "--status"], check=False).returncode == 0


def _end() -> None:
    """End what we started, if it runs."""
    for program in ("docker-registry", "dockerd"):
        if (_RUNNING / f"{program}.pid").exists():
            _run([*_daemon(program), "--stop", "--oknodo", "--retry", "30", "--remove-pidfile"])
    for file in (_PORT, _KEEP):
        file.unlink(missing_ok=True)


def _soon(look: Callable[[], Found | None], program: str, log: Path) -> Found:
    until = time.monotonic() + _START_S
    while (found := look()) is None:
        if not (alive := _runs(program)) or time.monotonic() > until:
            said = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise NoContainers(f"{program} {'does not answer' if alive else 'has ended'}; its log {log} ends:\n{said}")
        time.sleep(0.1)
    return found


def _packages_of(suite: str) -> str:
    """Where this machine has a Debian release's packages from."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    for line in _run(targets).splitlines():
        origin, release, component = line.split()
        if (release, component) == (suite, "main"):
            return origin
    raise NoContainers(f"apt has no source of Debian's packages for {suite or 'this system'}")


def _run(command: list[str], *, within_s: float = 120) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=_PROJECT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=within_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NoContainers(f"{' '.join(command)} took longer than {within_s:g} s") from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise NoContainers(f"{' '.join(command)} failed with code {done.returncode}:\n{said}")
    return done.stdout


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """`up` or `down`, by hand."""
    if sys.argv[1:] == ["down"]:
        _end()
    elif sys.argv[1:] == ["up"]:
        with running_engine(keep=True) as up:
            print(f"DOCKER_HOST={_SOCKET} registry={up.registry}")
    else:
        sys.exit("usage: python -m tests.testbed.engine up|down")


if __name__ == "__main__":
    main()

"""Docker's buildx: its commands, a builder of our own, and the user's settings with one more login."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starburst_common.errors import CannotBuild
from starburst_common.image.recipe import Recipe
from starburst_common.phrases import without_credentials
from starburst_common.ports import Access

_BUILDER = "starburst"  #: buildx's, named always: whatever else the user has chosen stays as it is
_LOGINS = ("auths", "credHelpers")  #: of docker's settings, which get ours beside them


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
def logged_in(target: Access) -> Iterator[dict[str, str]]:
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


def ensure_builder(env: Mapping[str, str]) -> None:
    said = ""
    for command in (inspect_command(), create_command(), inspect_command()):  # another may have made it meanwhile
        done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
        said = done.stderr.strip() or said
        if done.returncode == 0:
            return
    raise CannotBuild(f"docker's buildx cannot make its builder {_BUILDER}: {without_credentials(said)}")


def has_buildx() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0

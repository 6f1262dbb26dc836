"""All that an image is made of in; its fingerprint, which names it, out. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from starburst_common.environment import Environment

PYTHON_LABEL = "starburst.python"  #: a label of every image that holds the worker: its minor version of Python
VERSION = 2  #: of how images are laid out: another one names all images anew

HOME = "/home/starburst"  #: where the workers' user, `USER`, may write
USER = (10001, 10001)
SUPERVISOR = "/opt/starburst/supervisor"  #: a program, `python3 SUPERVISOR`, with the packages that only it imports
SLOTS = "/opt/starburst/slots"  #: our packages, and those of others that slots import too
PACKAGES = "/opt/starburst/user"  #: the environment's, as Python's user site: before the base's own, whatever the base


def packages_folder(python: str) -> str:
    """Where the environment's packages are installed.

    >>> packages_folder("3.11")
    '/opt/starburst/user/lib/python3.11/site-packages'
    """
    return f"{PACKAGES}/lib/python{python}/site-packages"


def variables(path: str) -> dict[str, str]:
    """What a container's environment says, whoever built the image; `path` is the base's PATH."""
    return {
        "HOME": HOME,
        "USER": "starburst",  # for libraries that ask for the user's name: the base knows none for our user id
        "LOGNAME": "starburst",
        "PATH": f"{PACKAGES}/bin:{path}",
        "PYTHONUSERBASE": PACKAGES,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an image is made of."""

    environment: Environment
    platforms: tuple[str, ...]  #: as "linux/amd64" and "linux/arm64"
    base: str  #: the image below, as one would pull it, without its digest
    base_digest: str  #: of its index or, where it has none, of its manifest
    worker: str  #: digest of the worker's own files
    system_packages: tuple[str, ...] = ()  #: Debian packages
    build_steps: tuple[str, ...] = ()  #: shell commands, run as root in the order given

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of it, but for what is only there for people."""
        content = [
            VERSION,
            self.environment.python,
            self.environment.requirements,
            sorted(self.platforms),
            self.base_digest,
            self.worker,
            sorted(self.system_packages),
            self.build_steps,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def tag(self) -> str:
        """What the image is called in its repository."""
        return f"env-{self.fingerprint[:32]}"

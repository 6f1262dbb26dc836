"""A recipe in; the layers of our own that its image gets, each with what it is made from, out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starburst_common.environment.indexes import indexes_of
from starburst_common.image import contents, wheels
from starburst_common.image import recipe as layout
from starburst_common.image.grouped import Group
from starburst_common.image.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """One of our layers."""

    name: str
    differs: bool  #: between platforms
    of: Callable[[Recipe], Any]  #: what it is made from, beside platform and Python
    fill: Callable[[Path, Recipe, str], None]  #: the folder that stands for the image's root

    def key(self, recipe: Recipe, platform: str) -> str:
        """What names the layer of this recipe."""
        where = platform if self.differs else ""
        content = [layout.VERSION, self.name, where, recipe.environment.python, sys.version, self.of(recipe)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _fill_supervisor(root: Path, recipe: Recipe, platform: str) -> None:
    folder = _below(root, layout.SUPERVISOR)
    contents.prepare_supervisor(folder, platform=platform, python=recipe.environment.python)


def _fill_slots(root: Path, recipe: Recipe, platform: str) -> None:
    python = recipe.environment.python
    contents.prepare_slots(_below(root, layout.SLOTS), platform=platform, python=python)
    _below(root, layout.HOME).mkdir(parents=True)
    packages = _below(root, layout.packages_folder(python))
    packages.mkdir(parents=True)
    (packages / "starburst.pth").write_text(f"{layout.SLOTS}\n")


def install(folder: Path, recipe: Recipe, platform: str, requirements: Iterable[str]) -> None:
    """Some of a recipe's packages, into a folder that stands for the image's root. Raises `NoWheel`, `CannotBuild`."""
    wheels.install_environment(
        _below(folder, layout.PACKAGES),
        "".join(f"{line}\n" for line in requirements),
        platform=platform,
        python=recipe.environment.python,
        indexes=indexes_of(recipe.environment),
    )


def sizes(folder: Path) -> dict[str, int]:
    """Of the packages that `install` put into a folder."""
    return wheels.sizes(_below(folder, layout.PACKAGES))


def packages(group: Group) -> ImagePart:
    """Packages that share a layer."""
    return ImagePart(
        name=group.name,
        differs=True,
        of=lambda recipe: group.requirements,
        fill=lambda root, recipe, platform: install(root, recipe, platform, group.requirements),
    )


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


SUPERVISOR = ImagePart(
    name="supervisor", differs=True, of=lambda recipe: contents.supervisor_digest(), fill=_fill_supervisor
)
SLOTS = ImagePart(name="slots", differs=False, of=lambda recipe: contents.digest(), fill=_fill_slots)

"""A recipe in; the layers of our own that its image gets, each with what it is made from, out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starburst_common.environment.indexes import indexes_of
from starburst_common.image import contents, wheels
from starburst_common.image import recipe as layout
from starburst_common.image.recipe import Recipe
from starburst_common.image.wheels import NoWheel


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """One of our layers."""

    name: str
    differs: bool  #: between platforms
    kept: bool  #: its file, for images of other environments
    of: Callable[[Recipe], Any]  #: what it is made from, beside platform and Python
    fill: Callable[[Path, Recipe, str], None]  #: the folder that stands for the image's root

    def key(self, recipe: Recipe, platform: str) -> str:
        """What names the layer of this recipe."""
        where = platform if self.differs else ""
        content = [layout.VERSION, self.name, where, recipe.environment.python, sys.version, self.of(recipe)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def fill_all(self, folders: Sequence[Path], recipe: Recipe, platforms: Sequence[str]) -> None:
        """Each platform's folder. Raises `NoWheel` for all platforms together."""
        lacking = []
        for folder, platform in zip(folders, platforms, strict=True):
            folder.mkdir(parents=True)
            try:
                self.fill(folder, recipe, platform)
            except NoWheel as error:
                lacking.append(str(error))
        if lacking:
            raise NoWheel(
                f"{'; '.join(lacking)}. Choose versions that have one, or a builder that makes them (docker, codebuild)"
            )


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


def _fill_packages(root: Path, recipe: Recipe, platform: str) -> None:
    wheels.install_environment(
        _below(root, layout.PACKAGES),
        recipe.environment.text,
        platform=platform,
        python=recipe.environment.python,
        indexes=indexes_of(recipe.environment),
    )


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


SUPERVISOR = ImagePart(
    name="supervisor", differs=True, kept=True, of=lambda recipe: contents.supervisor_digest(), fill=_fill_supervisor
)
SLOTS = ImagePart(name="slots", differs=False, kept=True, of=lambda recipe: contents.digest(), fill=_fill_slots)
PACKAGES = ImagePart(
    name="packages", differs=True, kept=False, of=lambda recipe: recipe.environment.text, fill=_fill_packages
)

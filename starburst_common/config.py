"""Argument, environment, files and default in; one frozen `Settings` out that remembers where each value came from."""

# no annotations as text here: `rows` reads them
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from platformdirs import user_cache_path

from starburst_common.errors import BadInput
from starburst_common.offered import OPTIONS
from starburst_common.options import Options
from starburst_common.outside import (
    Sourced,
    first_said,
    of_project,
    project_file,
    refuse_unknown_names,
    said,
    variables,
    written_settings,
    written_site,
)
from starburst_common.phrases import told
from starburst_common.rows import TEXT, Row, Rule, number, of_type, one_of, rows, texts, whole
from starburst_common.sites.site import Site
from starburst_common.trust import believed, uv_believed

BUILDERS = ("auto", "layer", "docker", "codebuild")
PLATFORMS = ("linux/amd64", "linux/arm64")
STRATEGIES = ("", "first-index", "unsafe-first-match", "unsafe-best-match")
MOST_DAYS = 36_500
_NAME_BYTES = 255  #: of a file or folder, as good as everywhere
_OURS_BYTES = 400  #: of the longest path that is written below `home`
_DAYS = f"days from 0 to {MOST_DAYS:,}"
#: What options of maps can be set outside of a program.
OUTSIDE = {name: row for name, row in OPTIONS.items() if row.outside}


def _is_folder(value: Any) -> bool:
    try:
        Path(value).expanduser()
    except (TypeError, RuntimeError):
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """How images are made for environments: `[image]` of the settings, `[tool.starburst.image]` of a project."""

    base: Annotated[
        str, Row("the image below, with this Python and glibc; default: Python's official slim one", (TEXT,))
    ] = ""
    builder: Annotated[
        str, Row("layer, docker or codebuild; auto: the first of them that can", (TEXT, one_of(BUILDERS)))
    ] = "auto"
    platforms: Annotated[
        tuple[str, ...],
        Row(
            "linux/amd64, linux/arm64 or both; default: the site's architecture",
            (
                texts(),
                Rule(lambda value: {*value} <= {*PLATFORMS}, f": give some of {', '.join(PLATFORMS)}"),
            ),
        ),
    ] = ()
    system_packages: Annotated[tuple[str, ...], Row("packages of Debian", (texts(),))] = ()
    build_steps: Annotated[tuple[str, ...], Row("shell commands, run as root", (texts(),))] = ()
    requirements: Annotated[str, Row("the file that says what is needed; default: found in the project", (TEXT,))] = ""
    groups: Annotated[tuple[str, ...], Row("dependency groups of the project that are needed too", (texts(),))] = ()
    extras: Annotated[tuple[str, ...], Row("and its extras", (texts(),))] = ()
    index_strategy: Annotated[
        str,
        Row(
            "among package indexes, as uv has it; default: its own, the first that has a package",
            (TEXT, one_of(STRATEGIES)),
        ),
    ] = ""
    keep_days: Annotated[
        int,
        Row(
            "how long an image is kept, from when it was last pulled; runs have their own `keep_days`",
            (of_type(int, "days"), whole(1, MOST_DAYS, f"at least 1 day, at most {MOST_DAYS:,}")),
        ),
    ] = 30

    @classmethod
    def of(cls, table: Mapping[str, Any], source: str) -> Self:
        """From a settings table. Raises `BadInput` naming the source, the field and what it should be.

        >>> ImageSettings.of({"builder": "podman"}, "config.toml")
        Traceback (most recent call last):
        starburst_common.errors.BadInput: config.toml: builder='podman': give one of auto, layer, docker, codebuild
        """
        refuse_unknown_names(table, IMAGE, source)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
        }
        for name, value in values.items():
            if wrong := IMAGE[name].wrong(value):
                raise BadInput(f"{source}: {name}={told(table[name])}{wrong}")
        return cls(**values)

    def in_project(self, folder: Path) -> Self:
        """With what the nearest project from a folder upwards says in place of what the settings say.

        Raises `BadInput` where a file up there, of which uv reads others too, is another's: it could say what is run.
        """
        uv_believed(folder)
        file = project_file(folder)
        if file is None:
            return self
        return self.of({**asdict(self), **of_project(file, "image")}, f"{file}: [tool.starburst.image]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where to run and where to keep things, and options of maps that are set outside of programs."""

    backend: Annotated[
        str,
        Row(
            "auto, aws or local; auto is AWS where the file has a [site]",
            (one_of(("auto", "aws", "local"), ': use "auto", "aws" or "local"'),),
        ),
    ]
    home: Annotated[
        Path,
        Row(
            "folder of the local backend's store and queue, which hold all its runs; a file's is relative to it",
            (Rule(_is_folder, ": give a folder"),),
        ),
    ]
    keep_days: Annotated[
        float,
        Row(
            "days for which a run is kept, from its end",
            (number(lambda value: 0 <= value <= MOST_DAYS, _DAYS),),
            outside=_DAYS,
        ),
    ]
    discount: Annotated[
        float,
        Row(
            "what your contract takes off list prices, as a share: 0.15 is 15% less; for all estimates and costs",
            (number(lambda value: 0 <= value < 1, "a share from 0 on and below 1, such as 0.15"),),
            outside="a share from 0 on and below 1, such as 0.15",
        ),
    ]
    site: Site | None  #: where in AWS, if the file has a table of that name
    image: ImageSettings  #: how images are made there
    options: dict[str, Any] = field(default_factory=dict)  #: of maps, as far as something outside of programs says them
    sources: dict[str, str]  #: setting or option to "argument", the variable, the file with its table, or "default"


#: The settings of each table by name.
IMAGE, SETTINGS = rows(ImageSettings), rows(Settings)


def settings(*, backend: str | None = None, home: Path | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Resolve every setting once. Raises `BadInput` for one that is unknown or wrong, saying where it came from."""
    file, written = written_settings(env)
    table, source = written_site(file, written, env)
    image, of_maps = written.pop("image", {}), written.pop("map", {})
    if unknown := sorted(set(written) - set(SETTINGS)):
        known = ", ".join([*sorted(SETTINGS), "[site]", "[image]", "[map]"])
        raise BadInput(f"{file}: unknown setting {told(unknown[0])}: known are {known}")
    site = Site.of(table, source) if table is not None else None
    found = first_said(
        SETTINGS,
        said({"backend": backend, "home": home}, "argument"),
        variables(SETTINGS, env),
        said(written, str(file)),
        said({"backend": "auto", "home": user_cache_path("starburst"), "keep_days": 7, "discount": 0}, "default"),
    )
    options = _options(file, of_maps, env)
    values = {name: value for name, (value, _) in found.items()}
    if values["backend"] == "aws" and site is None:
        raise BadInput(
            f'backend="aws" (from {found["backend"][1]}), but no site is configured: `starburst setup` makes one, or '
            f"{file} names one in a [site] table"
        )
    return Settings(
        backend=values["backend"],
        home=_home(values["home"], found["home"][1], file),
        keep_days=float(values["keep_days"]),
        discount=float(values["discount"]),
        site=site,
        image=ImageSettings.of(image, f"{file}: [image]"),
        options={name: value for name, (value, _) in options.items()},
        sources={name: where for name, (_, where) in {**found, **options}.items()},
    )


def with_outside(
    given: Mapping[str, Any], *, but: Collection[str] = (), env: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Options of a map as a program gives them, with what variables, the project and the file say of the others.

    None in place of one that has no other default counts as not given; those named in `but` are only taken from the
    program. Raises `BadInput` as `settings` does, and for what does not go together.
    """
    file, written = written_settings(env)
    outside = _options(file, written.get("map", {}), env)
    said_here = {name for name, value in given.items() if value is not None or OPTIONS[name].default is not None}
    taken = {name: pair for name, pair in outside.items() if name not in {*but, *said_here}}
    asked = {**given, **{name: value for name, (value, _) in taken.items()}}
    try:
        Options.of(**asked)
    except BadInput as error:
        wrong = [f"{name} is from {where}" for name, (_, where) in taken.items() if f"{name}=" in str(error)]
        if not wrong:
            raise
        raise BadInput(f"{error} ({', '.join(wrong)})") from None
    return asked


def _options(file: Path, table: Any, env: Mapping[str, str]) -> Sourced:
    where = f"{file}: [map]"
    refuse_unknown_names(table, OUTSIDE, where)
    return first_said(OUTSIDE, variables(OUTSIDE, env), project_options(_here()), said(table, where))


def _here() -> Path:
    """The working directory; where it is gone, the root, above which no project is."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")


def project_options(folder: Path) -> Sourced:
    """What the nearest project from a folder upwards says of maps; `BadInput` where another has a hand in its file."""
    with suppress(OSError):
        file = project_file(folder)
        if file is None or b"starburst" not in file.read_bytes():
            return {}
        if table := of_project(file, "map"):
            believed(file, "remove its [tool.starburst.map], or work in a folder that does not lie below it")
            where = f"{file}: [tool.starburst.map]"
            refuse_unknown_names(table, OUTSIDE, where)
            return said(table, where)
    return {}


def _home(value: str | Path, source: str, file: Path) -> Path:
    home = Path(value).expanduser()
    if source == str(file):
        home = file.absolute().parent / home
    if longest := _too_long(home):
        raise BadInput(f"home={told(value)} (from {source}): too long a {longest}: give a shorter one")
    return home


def _too_long(folder: Path) -> str:
    """What of it no file system takes with our files below: a name or the path; empty if it can be."""
    sizes = [len(part.encode(errors="surrogatepass")) for part in folder.parts]
    if max(sizes, default=0) > _NAME_BYTES:
        return "name"
    return "path" if sum(sizes) + len(sizes) + _OURS_BYTES > os.pathconf("/", "PC_PATH_MAX") else ""

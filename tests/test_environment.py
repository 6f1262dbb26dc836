"""What a user's code needs is found where users write it, resolved in full, and the same each time."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import uv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from typer import Typer
from typer.testing import CliRunner

from starburst_common.cli import env as env_command
from starburst_common.environment import Environment, freeze
from starburst_common.environment.apart import beside
from starburst_common.environment.find import find_environment
from starburst_common.environment.indexes import index_settings, indexes_of
from starburst_common.environment.lines import sort_out
from starburst_common.environment.projects import project_name
from starburst_common.environment.resolve import TookTooLong, pin
from starburst_common.errors import BadInput, CannotBuild, Unavailable
from tests.indexes import Index, project, running_index, wheel

LOCKS = Path(__file__).parent / "environments"
HERE = Path(__file__).parent.parent
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SHORT = PYTHON.replace(".", "")
HASH = "0" * 64
PYPI = "https://pypi.org/simple"  # what builds projects comes from there


@dataclass
class Said(logging.Handler):
    """What the log said."""

    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.INFO)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if line.startswith("WARNING")]


@pytest.fixture
def said() -> Iterator[Said]:
    log, handler = logging.getLogger("starburst"), Said()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture(autouse=True)
def quiet_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """uv and pip as nobody has set them up, and a home folder of the test's own."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_INDEX", "PIP_EXTRA"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index there is, with alpha (which needs beta), beta and gamma, and six newer than the one here."""
    with running_index() as opened:
        opened.add("alpha", "1.0", "beta>=1", "gamma; sys_platform == 'win32'")
        opened.add("beta", "1.0")
        opened.add("beta", "1.5")
        opened.add("gamma", "1.0")
        opened.add("six", version("six"), *())
        opened.add("six", "99.0")
        monkeypatch.setenv("UV_DEFAULT_INDEX", opened.url)
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder above which nothing is looked at."""
    (tmp_path / "place" / ".git").mkdir(parents=True)
    return tmp_path / "place"


def find(folder: Path, **options: Any) -> Environment:
    return find_environment(folder, **{"cache": folder.parent / "cache", **options})


def bare(found: Environment) -> list[str]:
    """Requirements without hashes."""
    return [line.split(" --hash")[0] for line in found.requirements]


def pinned(*names: str) -> str:
    return "".join(f"{name} --hash=sha256:{HASH}\n" for name in names)


# --- where ---


def test_the_nearest_folder_with_a_known_file_counts(place: Path, said: Said) -> None:
    """Upwards from the code; content and name come from one file, and the log says which."""
    (place / "requirements.txt").write_text(pinned("far==1"))
    inner = place / "a" / "b" / "c"
    inner.mkdir(parents=True)
    assert bare(find(inner)) == ["far==1"]
    (place / "a" / "requirements.txt").write_text(pinned("near==1"))
    found = find(inner)
    assert bare(found) == ["near==1"] and found.source == str(place / "a" / "requirements.txt")
    assert f"INFO environment: {place / 'a' / 'requirements.txt'}" in said.lines


def test_nothing_is_looked_for_above_a_repository_or_in_the_home_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stray requirements file above the project is not the project's."""
    (tmp_path / "requirements.txt").write_text("this is not read")
    (tmp_path / "home" / "work").mkdir(parents=True)
    (tmp_path / "home" / "requirements.txt").write_text(pinned("at-home==1"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    for folder in (place, tmp_path / "home" / "work"):
        with pytest.raises(Unavailable):  # so it is a freeze, for which an index is asked
            find(folder)
    assert bare(find(tmp_path / "home")) == ["at-home==1"]


def test_of_several_kinds_in_a_folder_a_lock_wins(place: Path, said: Said) -> None:
    """In a known order, and the log says what was passed over."""
    (place / "requirements.txt").write_text(pinned("six==1"))
    (place / "environment.yml").write_text("dependencies: [numpy]")
    shutil.copy(LOCKS / "pylock" / "pylock.toml", place)
    assert find(place).source == str(place / "pylock.toml")
    assert any("pylock.toml is taken, not requirements.txt, environment.yml" in line for line in said.lines)
    assert bare(find(place, requirements=place / "requirements.txt")) == ["six==1"]


SEVERAL = {
    "requirements-gpu.txt": "requirements-gpu.txt",  # the only one
    "requirements-dev.txt requirements-gpu.txt": "requirements-gpu.txt",
    "requirements-dev.txt requirements_prod.txt": "requirements_prod.txt",
    "requirements-prod.txt requirements-base.txt": "requirements-prod.txt is taken, not requirements-base.txt",
    "requirements/base.txt requirements/test.txt": "requirements/base.txt",
    "requirements/requirements.txt requirements/docs.txt": "requirements/requirements.txt",
    "requirements/common.txt requirements/production.txt requirements/local.txt": "requirements/production.txt",
    "requirements.txt requirements/prod.txt": "requirements.txt",
    "requirements.in": "requirements.in",
    "requirements.in requirements.txt": "requirements.txt",
    "requirements.lock requirements-dev.lock requirements.txt": "requirements.lock",  # rye's
    "requirements-a.txt requirements-b.txt": "which of requirements-a.txt, requirements-b.txt",
    "requirements/a.txt requirements/b.txt requirements/dev.txt": "which of a.txt, b.txt",
    "Pipfile requirements-test.txt": "what is installed here",
    "pixi.toml": "what is installed here",
    "environment.yml requirements-docs.txt": "environment.yml: not",
    "pixi.lock": "pixi.lock: not",
    "conda-lock.yml": "conda-lock.yml: not",
    "pixi.lock requirements.txt": "requirements.txt",
    "Requirements.txt": "Requirements.txt",
    "dev-requirements.txt prod-requirements.txt": "prod-requirements.txt",
    "environment.yml requirements-gpu.txt": "environment.yml: not",
    "conda-linux-64.lock envs/environment-gpu.yaml": "what is installed here",
    f"requirements-py{PYTHON}.txt requirements-py36.txt": f"requirements-py{PYTHON}.txt",
    f"requirements/py{SHORT}.txt requirements/py36.txt": f"requirements/py{SHORT}.txt",
    "requirements-linux.txt requirements-windows.txt requirements_macos.txt": "requirements-linux.txt",
    "requirements-3.6.txt requirements-win32.txt": "what is installed here",
    "tox.ini Dockerfile constraints.txt reqs.txt env.yml binder/environment.yml": "what is installed here",
}


def test_of_several_requirements_files_the_one_for_workers_counts(
    place: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never one for development; what is not clear is the user's to say; what is not read is warned of."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    for number, (names, expected) in enumerate(SEVERAL.items()):
        folder = place / str(number)
        (folder / ".git").mkdir(parents=True)
        for name in names.split():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(pinned("six==1"))
        said.lines.clear()
        told = outcome(folder)
        assert (told == str(folder / expected)) or expected in f"{told} {said.warnings}", names
        if "here" in expected:
            assert all(f"{folder / name} is" in said.warnings[0] for name in names.split()), names
    (place / "pyproject.toml").write_text("[project]\nname = 'top'\n[tool.pixi]\npypi-dependencies = {six = '*'}\n")
    (place / "job.py").write_text(SCRIPT)
    assert "[tool.pixi], is not read: lock it" in (outcome(place), said.warnings[-1])[1]
    assert "job.py says what it needs itself" in said.warnings[-1]
    (place / "pyproject.toml").write_text(
        "[dependency-groups]\na = ['six']\n[tool.hatch.envs.b]\ndependencies = ['x']\n"
    )
    assert "in [dependency-groups] and [tool.hatch.envs]: say" in (outcome(place), said.warnings[-1])[1]


SCRIPT = """
# /// script
# requires-python = ">=3.11"
# dependencies = ["alpha", "starburst-ecs"]
#
# [[tool.uv.index]]
# url = "https://mine/simple"
# default = true
# ///
import sys
from pathlib import Path
from starburst_common.environment.find import find_environment
print(*find_environment(Path("elsewhere"), cache=Path("cache")).requirements)
"""


def test_a_script_says_what_it_needs_itself(place: Path, index: Index) -> None:
    """Where it is named, or runs and needs us too, whatever its folder says; from its lock if it has one."""
    job = place / "job.py"
    job.write_text(SCRIPT)
    (place / "requirements.txt").write_text("six\n")
    assert index_settings(job) == {"UV_DEFAULT_INDEX": "https://mine/simple"}
    done = subprocess.run([sys.executable, job], cwd=place, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.split() if "--" not in line] == ["alpha==1.0", "beta==1.5"]
    assert bare(find(place, requirements=job)) == ["alpha==1.0", "beta==1.5"]
    job.write_text(SCRIPT.replace(', "starburst-ecs"', "").replace("https://mine/simple", index.url))
    run_uv("lock", "--script", "job.py", folder=place)
    index.add("beta", "1.6")
    assert bare(find(place, requirements=job)) == ["alpha==1.0", "beta==1.5"]
    for text, told in (("import six", "does not say"), ("# /// script\n# a\n# ///", "no TOML")):
        job.write_text(text)
        with pytest.raises(BadInput, match=told):
            find(place, requirements=job)


def outcome(folder: Path) -> str:
    """Where an environment was found, or why none was."""
    try:
        return find(folder).source
    except (BadInput, Unavailable) as error:
        return str(error)


ENVIRONMENT_YML = """
name: mine
channels: [conda-forge]
dependencies:
  - conda-forge::python=PYTHON
  - pip
  - pip:
    - -r more.txt
    - beta<1.5
"""
CONDA_LOCK = """
version: 1
metadata: {platforms: [linux-64, osx-64]}
package:
- {name: python, version: PYTHON.4, manager: conda, platform: linux-64, url: "https://c/p.conda", hash: {md5: a}}
- {name: libzlib, version: "1.3", manager: conda, platform: linux-64, url: "https://c/z.conda", hash: {md5: a}}
- {name: beta, version: "1.5", manager: pip, platform: linux-64, url: "https://h/b", hash: {sha256: "1"}}
- {name: six, version: "1.5", manager: pip, platform: osx-64, url: "https://h/b", hash: {sha256: "1"}, category: main}
- {name: idna, version: "1", manager: pip, platform: linux-64, url: "https://h/i", hash: {sha256: "1"}, category: dev}
"""
PIXI_LOCK = """
version: 6
environments:
  default:
    channels: [{url: "https://c/forge/"}]
    indexes: ["https://mine/simple"]
    packages:
      linux-64:
      - conda: https://c/forge/linux-64/_openmp_mutex-4.5-20_gnu.conda
      - conda: https://c/forge/linux-64/python-PYTHON.13-hd63d673_0_cpython.conda
      - pypi: https://h/beta-1.5-cp311-x86_64.whl
      - pypi: https://h/tbb-1-x86_64.whl
      - pypi: ./
      linux-aarch64:
      - conda: https://c/forge/linux-aarch64/python-PYTHON.13-h91f4b29_0_cpython.conda
      - pypi: https://h/beta-1.5-cp311-aarch64.whl
      - pypi: ./
packages:
- {conda: "https://c/forge/linux-64/_openmp_mutex-4.5-20_gnu.conda", sha256: "0", license: MIT}
- {pypi: "https://h/beta-1.5-cp311-x86_64.whl", name: beta, version: "1.5", sha256: "1"}
- {pypi: "https://h/beta-1.5-cp311-aarch64.whl", name: beta, version: "1.5", sha256: "2"}
- {pypi: "https://h/tbb-1-x86_64.whl", name: tbb, version: "1", sha256: "3"}
- {pypi: "./", name: mine, version: "1"}
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("environment.yml", ENVIRONMENT_YML, ["beta==1.0", "six==99.0"]),
        ("conda-lock.yml", CONDA_LOCK, ["beta==1.5"]),
        ("pixi.lock", PIXI_LOCK, ["beta==1.5", 'tbb==1; platform_machine == "x86_64"']),
    ],
)
def test_a_conda_file_is_read_where_only_python_is_condas(
    place: Path, index: Index, name: str, text: str, expected: list[str]
) -> None:
    """conda's builds are not PyPI's: all else is refused, named and with the way out; so is another Python."""
    (place / "more.txt").write_text("six==99.0\n")
    (place / name).write_text(text.replace("PYTHON", PYTHON))
    found = find(place)
    assert bare(found) == expected and ("pixi" not in name or found.local == ("place",))
    assert index_settings(place / name).get("UV_INDEX", "") == ("https://mine/simple" if "pixi" in name else "")
    if "pixi" in name:
        assert found.requirements[0] == "beta==1.5 --hash=sha256:1 --hash=sha256:2"
    (place / name).write_text(text.replace("PYTHON", "3.9"))
    with pytest.raises(BadInput, match=rf"==3\.9\.\*; this is Python {PYTHON}"):
        find(place)
    more = text.replace("- pip\n", "- numpy>=2\n").replace("libzlib", "numpy").replace("_openmp_mutex", "numpy")
    (place / name).write_text(more.replace("PYTHON", PYTHON))
    with pytest.raises(BadInput, match=r"numpy.*requirements\.txt.*image="):
        find(place)
    for odd in (
        "",
        "[]",
        "{",
        "\x01",
        "dependencies: 5",
        "package: 5",
        "package: [5]",
        "environments: 5",
        "a: &a [*a]",
    ):
        (place / name).write_text(odd)
        with suppress(BadInput):
            assert find(place).requirements == ()
        with suppress(BadInput):
            index_settings(place / name)


HEADS = {
    "uv.lock": 'version = 1\nrequires-python = ">=3.11"\n',
    "pylock.toml": 'lock-version = "1.0"\n',
    "poetry.lock": '[metadata]\nlock-version = "2.1"\npython-versions = ">=3.11"\n',
    "pdm.lock": '[metadata]\nlock_version = "4.5"\nstrategy = ["inherit_metadata"]\n',
}
ODD = [
    "{0} = 5",
    "[[{0}]]",
    "[[{0}]]\nversion = '1'\ngroups = ['main', 'default']",
    "[[{0}]]\nname = 'a'\ngroups = ['main', 'default']",
    "[[{0}]]\nname = 5\nversion = 1\ngroups = ['main', 'default']",
    "[[{0}]]\nname = 'a'\nversion = '1'\ngroups = 5\nsource = 5",
    "[[{0}]]\nname = 'a'\nversion = '1'\ngroups = ['main', 'default']\nfiles = [5]\nwheels = [5]\nsource = []",
    "[[{0}]]\nname = 'a'\nversion = '1'\ngroups = ['main', 'default']\ndependencies = 5\nmarker = 5\nmarkers = 5",
]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("text", [*ODD, "\udcff", "[" * 5000, "metadata = 5"])
def test_a_lock_that_no_program_wrote_is_refused(place: Path, name: str, text: str) -> None:
    """It lacks a name or a version, has another type in its place, is no TOML or not UTF-8: its file is named."""
    (place / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\n')
    lines = text.format("packages" if name == "pylock.toml" else "package")
    (place / name).write_bytes(f"{'' if '= 5' in text else HEADS[name]}{lines}\n".encode(errors="surrogateescape"))
    refused = ""
    try:
        find(place)
    except BadInput as error:
        refused = str(error)
    assert name in refused or (not refused and name == "pylock.toml" and text in (ODD[5], "metadata = 5"))
    assert len(refused) < 2000
    with suppress(BadInput):
        index_settings(place / name)


ODD_PIPFILES = (
    *("", "[]", "[" * 5000, "\udcff", '{"default": 5}', '{"default": {"a": 5}}', '{"default": {"a": {"version": 5}}}'),
    *('{"default": {"a": {"version": "x 1"}}}', '{"default": {"a": {"git": 5}}}', '{"default": {"a": {"path": 5}}}'),
    '{"default": {}, "_meta": {"requires": {"python_version": 3}}}',
    *('{"default": {"a b": {"version": "==1"}}}', '{"_meta": {"requires": {"python_version": "2.7"}}}'),
)


def test_a_pipfile_lock_that_pipenv_did_not_write_is_refused(place: Path) -> None:
    """With its name."""
    for text in ODD_PIPFILES:
        (place / "Pipfile.lock").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises((BadInput, CannotBuild), match=r"Pipfile\.lock|a b==1|a==x 1"):
            find(place)
    (place / "Pipfile.lock").write_text('{"_meta": {"sources": [5]}}')
    with pytest.raises(BadInput, match=r"Pipfile\.lock"):
        index_settings(place / "Pipfile.lock")


@pytest.mark.parametrize(
    "line", ["==1", "a b c", "a=1", "\x1b[31m", "-r nope.txt", "-r .", "--nope", "a @ http://[", "a;"]
)
def test_a_requirements_line_that_is_none_is_refused(place: Path, index: Index, line: str) -> None:
    """Or taken, where uv knows what it means."""
    (place / "requirements.txt").write_text(f"{line}\n")
    with suppress(BadInput, CannotBuild):
        find(place)


def test_what_is_not_there_is_said(place: Path) -> None:
    """Of the file, of what it includes, of groups where there are none."""
    with pytest.raises(BadInput, match="no such file"):
        find(place, requirements=place / "uv.lock")
    (place / "requirements.txt").write_text("-r missing.txt\n")
    with pytest.raises(BadInput, match=r"missing\.txt"):
        find(place)
    (place / "requirements.txt").write_text(pinned("six==1"))
    with pytest.raises(BadInput, match="no groups"):
        find(place, groups=["g"])


# --- uv.lock ---


@pytest.fixture
def workspace(place: Path, index: Index) -> Path:
    """A locked workspace with a member, a dependency in a folder, groups and an extra."""
    project(place / "member", "member", "beta")
    project(place / "aside", "aside", "gamma")
    (place / "pyproject.toml").write_text(
        """
        [project]
        name = "app"
        version = "1"
        requires-python = ">=3.11"
        dependencies = ["alpha", "member", "aside"]
        [project.optional-dependencies]
        x = ["six>=99"]
        [dependency-groups]
        dev = ["six<99"]
        g = ["gamma"]
        [tool.uv]
        workspace.members = ["member"]
        conflicts = [[{ extra = "x" }, { group = "dev" }]]
        [tool.uv.sources]
        member = { workspace = true }
        aside = { path = "aside" }
        """
    )
    run_uv("lock", folder=place)
    return place


def run_uv(*words: str, folder: Path) -> str:
    done = subprocess.run([uv.find_uv_bin(), *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_uv_lock_gives_what_it_says(workspace: Path) -> None:
    """The lock's versions and hashes; projects in folders travel with the code, and what they need stays."""
    found = find(workspace)
    assert bare(found) == ["alpha==1.0", "beta==1.5", "gamma==1.0"]
    assert all("--hash=sha256:" in line for line in found.requirements)
    assert found.local == ("aside", "member") and found.python == PYTHON and found.source == str(workspace / "uv.lock")


def test_groups_and_extras_are_asked_for(workspace: Path) -> None:
    """The development group is none of the workers' business unless asked for."""
    assert "six==99.0" in bare(find(workspace, extras=["x"]))
    assert f"six=={version('six')}" in bare(find(workspace, groups=["dev"]))
    for wrong in ({"groups": ["nope"]}, {"extras": ["nope"]}):
        with pytest.raises(BadInput, match="nope"):
            find(workspace, **wrong)


def test_uvs_default_groups_are_for_developers(workspace: Path) -> None:
    """Whatever they are called: workers get groups that are asked for, and no others."""
    file = workspace / "pyproject.toml"
    text = file.read_text().replace("dev =", "work =").replace('"dev"', '"work"')
    file.write_text(text.replace("[tool.uv]\n", '[tool.uv]\n        default-groups = ["work"]\n'))
    run_uv("lock", folder=workspace)
    assert "six" in run_uv("export", folder=workspace)
    assert bare(find(workspace)) == ["alpha==1.0", "beta==1.5", "gamma==1.0"]
    assert f"six=={version('six')}" in bare(find(workspace, groups=["work"]))


def test_a_lock_counts_whatever_its_author_s_settings_were(workspace: Path, index: Index) -> None:
    """A date of his own, another patch release of Python: nothing is resolved anew for that."""
    (workspace / ".python-version").write_text(f"{PYTHON}.999\n")
    before = find(workspace)
    lock = (workspace / "uv.lock").read_text()
    for option in ('exclude-newer = "2100-01-01T00:00:00Z"', 'resolution-mode = "lowest-direct"'):
        (workspace / "uv.lock").write_text(lock.replace("\n[manifest]", f"\n[options]\n{option}\n\n[manifest]"))
        index.asked.clear()
        assert bare(find(workspace)) == bare(before) and not index.asked


def test_code_of_a_member_gets_what_the_member_needs(workspace: Path) -> None:
    """As uv itself does when started there."""
    found = find(workspace / "member" / "member")
    assert bare(found) == ["beta==1.5"] and found.local == ("member",)


def test_a_lock_that_is_not_up_to_date_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers would lack what was added since; who wants the lock as it is sets uv's own switch."""
    before = find(workspace)
    text = (workspace / "pyproject.toml").read_text()
    (workspace / "pyproject.toml").write_text(text.replace('"alpha",', '"alpha", "six",'))
    with pytest.raises(BadInput, match="run `uv lock`"):
        find(workspace)
    monkeypatch.setenv("UV_FROZEN", "1")
    assert find(workspace).requirements == before.requirements


def test_a_lock_for_other_pythons_is_refused(workspace: Path) -> None:
    """Workers run the same minor version as this interpreter."""
    lock = workspace / "uv.lock"
    lock.write_text(lock.read_text().replace('requires-python = ">=3.11"', 'requires-python = ">=3.99"'))
    with pytest.raises(BadInput, match=rf"3\.99.*{PYTHON}"):
        find(workspace)


def test_what_only_starburst_needs_is_left_out(place: Path, index: Index) -> None:
    """Unless the user's project asks for it itself, or for an extra of ours."""
    index.add("starburst_ecs", "1.0", "beta", "gamma", "delta", "six; extra == 'parquet'")
    index.files["starburst-ecs"] = index.files["starburst_ecs"]
    index.add("delta", "1.0")
    (place / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["starburst-ecs[parquet]", "gamma", "alpha"]\n'
    )
    run_uv("lock", folder=place)
    assert bare(find(place)) == ["alpha==1.0", "beta==1.5", "gamma==1.0", "six==99.0"]


def test_a_wheel_on_this_machine_cannot_be_had_elsewhere(place: Path, index: Index) -> None:
    """It is named, with what to do."""
    (place / "loose-1.0-py3-none-any.whl").write_bytes(wheel("loose", "1.0"))
    (place / "requirements.txt").write_text("beta\n./loose-1.0-py3-none-any.whl\n")
    with pytest.raises(CannotBuild, match=r"loose-1.0-py3-none-any\.whl.*image="):
        find(place)


# --- other locks, written by the real programs ---


def test_poetry_lock(tmp_path: Path) -> None:
    """Poetry 2.5's own lock: the main group, and others when asked."""
    folder = Path(shutil.copytree(LOCKS / "poetry", tmp_path / "poetry"))
    main = ["botocore", "jmespath", "python-dateutil", "s3transfer", "six", "tqdm", "urllib3"]
    assert [line.split("==")[0] for line in bare(find(folder))] == main
    more = find(folder, groups=["g", "dev"], extras=["x"])
    assert [line.split("==")[0] for line in bare(more)] == sorted([*main, "attrs", "idna", "iniconfig"])
    assert all(line.count("--hash=sha256:") == 2 for line in more.requirements)
    with pytest.raises(BadInput, match="no extra y; it has x"):
        find(folder, extras=["y"])


@pytest.mark.parametrize("tool", ["pipenv", "pip-tools", "poetry1"])
def test_a_lock_gives_the_packages_that_its_tool_installs(tmp_path: Path, index: Index, tool: str) -> None:
    """What pipenv, pip-compile and Poetry 1.8 locked, held against their own exports, for each kind of machine."""
    index.add("colorama", "0.4.6")  # pipenv has locked no version of it
    folder = Path(shutil.copytree(LOCKS / tool, tmp_path / tool))
    exported = [line for line in (folder / "exported.txt").read_text().splitlines() if not line.startswith("-")]
    found = find(folder)
    for machine in ("x86_64", "aarch64"):
        theirs = {"colorama==0.4.6" if line == "colorama" else line for line in applying(exported, machine)}
        assert applying(bare(found), machine) == theirs
    assert all("--hash=sha256:" in line for line in found.requirements)


def applying(lines: list[str], machine: str) -> set[str]:
    """Names with versions, of those that a Linux machine needs."""
    parsed = [Requirement(line) for line in lines]
    here = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    wanted = [each for each in parsed if each.marker is None or each.marker.evaluate(here)]
    return {f"{each.name}{each.specifier}" for each in wanted}


def test_groups_and_extras_of_a_pipfile_and_an_older_poetry(tmp_path: Path, index: Index) -> None:
    """As they are asked for; what there is not is named."""
    index.add("colorama", "0.4.6")
    pipenv, poetry = (Path(shutil.copytree(LOCKS / tool, tmp_path / tool)) for tool in ("pipenv", "poetry1"))
    names = {line.split("==")[0] for line in bare(find(pipenv, groups=["more", "develop"]))}
    assert {"attrs", "iniconfig", "pandas"} <= names
    names = {line.split("==")[0] for line in bare(find(poetry, groups=["dev"], extras=["x"]))}
    assert {"attrs", "iniconfig", "pandas"} <= names and not {"attrs", "iniconfig"} & {*bare(find(poetry))}
    for folder, what in ((pipenv, {"groups": ["z"]}), (pipenv, {"extras": ["z"]}), (poetry, {"groups": ["z"]})):
        with pytest.raises(BadInput, match=r"has no (group|extra) z"):
            find(folder, **what)


def test_what_pipenv_leaves_open_keeps_its_marker(place: Path, index: Index) -> None:
    """It locks no version of what its own machine lacks."""
    (place / "Pipfile.lock").write_text(
        """{"default": {"gamma": {"version": "*", "markers": "sys_platform == 'win32'"},
        "beta": {"version": "*", "markers": "platform_machine == 'aarch64'"}}}"""
    )
    assert bare(find(place)) == ['beta==1.5; platform_machine == "aarch64"']


def test_pdm_lock(tmp_path: Path) -> None:
    """PDM 2.25's own lock: the default group, and others when asked; a package with an extra comes once."""
    folder = Path(shutil.copytree(LOCKS / "pdm", tmp_path / "pdm"))
    main = ["botocore", "jmespath", "linkify-it-py", "markdown-it-py", "mdurl", "python-dateutil", "s3transfer"]
    main += ["six", "tqdm", "urllib3"]
    assert [line.split("==")[0] for line in bare(find(folder))] == main
    more = find(folder, groups=["g"], extras=["x"])
    assert [line.split("==")[0] for line in bare(more)] == sorted([*main, "attrs", "idna"])


def test_pylock_says_the_same_as_the_lock_it_was_made_of(workspace: Path) -> None:
    """PEP 751, hash for hash."""
    locked = find(workspace)
    run_uv("export", "--quiet", "--no-dev", "--format", "pylock.toml", "--output-file", "pylock.toml", folder=workspace)
    read = find(workspace, requirements=workspace / "pylock.toml")
    assert read.requirements == locked.requirements and read.local == locked.local


def test_a_pylock_need_not_say_a_version(place: Path) -> None:
    """The names of its files do."""
    (place / "pylock.prod.toml").write_text(
        'lock-version = "1.0"\n[[packages]]\nname = "six"\nwheels = [{ url = "https://h/six-1.17.0-py3-none-any.whl", '
        f'hashes = {{ sha256 = "{HASH}" }} }}]\n[[packages]]\nname = "b"\nsdist = {{ name = "b-2.tar.gz", '
        f'path = "b-2.tar.gz", hashes = {{ sha256 = "{HASH}" }} }}\n'
    )
    (place / "pylock.dev.toml").write_text('lock-version = "1.0"\n')
    assert bare(find(place)) == ["b==2", "six==1.17.0"]


# --- requirements files ---


def test_workers_get_what_is_installed_here(place: Path, index: Index, said: Said) -> None:
    """Where a file leaves a choice, the version here is chosen."""
    (place / "requirements.txt").write_text("six>=1\nalpha\n")
    assert bare(find(place)) == ["alpha==1.0", "beta==1.5", f"six=={version('six')}"]
    assert not said.warnings


def test_other_versions_than_here_are_warned_of(place: Path, index: Index, said: Said) -> None:
    """What is computed here and there would differ."""
    (place / "requirements.txt").write_text("six>=99\nalpha\n")
    assert bare(find(place)) == ["alpha==1.0", "beta==1.5", "six==99.0"]
    assert len(said.warnings) == 1 and f"six 99.0 (here {version('six')})" in said.warnings[0]
    find(place)
    assert len(said.warnings) == 2  # though the second answer was a kept one


def test_included_files_and_folders_count(place: Path, index: Index) -> None:
    """-r, -c and -e, and a project's change of needs."""
    project(place / "mine", "mine", "gamma")
    (place / "requirements.txt").write_text("-r more.txt\n-c bounds.txt\n-e ./mine\n")
    (place / "more.txt").write_text("alpha  # because\n")
    (place / "bounds.txt").write_text("beta<1.5\n")
    found = find(place)
    assert bare(found) == ["alpha==1.0", "beta==1.0", "gamma==1.0"] and found.local == ("mine",)
    (place / "bounds.txt").write_text("beta<2\n")
    assert "beta==1.5" in bare(find(place))
    project(place / "mine", "mine")
    assert "gamma==1.0" not in bare(find(place))


def test_exact_lines_with_hashes_need_no_index(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken as they are, with other layout, comments and systems left away."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    (place / "requirements.txt").write_text(
        f"--index-url https://me:secret@127.0.0.1/simple\nB_b==2 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:1\n"
        f"# why\na==1 ; python_version>='3.8' --hash=sha256:{HASH}\nw==1 ; os_name=='nt' --hash=sha256:{HASH}\n"
    )
    found = find(place)
    assert found.requirements == (
        f'a==1; python_version >= "3.8" --hash=sha256:{HASH}',
        f"b-b==2 --hash=sha256:{HASH} --hash=sha256:1",
    )


def test_credentials_go_nowhere(place: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not into the environment, an error, the log or what is kept; and builders get the index with them."""
    with running_index(password="hunter2") as private:
        private.add("mine", "1.0")
        (place / "requirements.txt").write_text(f"--index-url {private.url}\nmine\n")
        found = find(place)
        assert bare(found) == ["mine==1.0"]
        assert index_settings(place / "requirements.txt") == {"UV_DEFAULT_INDEX": private.url}
        wrong = private.url.replace("hunter2", "hunter3")
        (place / "requirements.txt").write_text(f"--index-url {wrong}\nmine\n")
        with pytest.raises((BadInput, CannotBuild), match=r"40[13]|mine") as refused:
            find(place)
        (place / "requirements.txt").write_text(f"--index-url {wrong}?x=1&private_token=hunter4\nmine\n")
        with pytest.raises((BadInput, CannotBuild), match=r"mine") as refused_too:
            find(place)
    address = "https://me:hunter5@127.0.0.1:9/a-1.tar.gz?token=hunter6&raw=1"
    kept = sort_out(f"a @ {address} --hash=sha256:{HASH}", python="3.11")
    assert kept.requirements == (f"a @ https://127.0.0.1:9/a-1.tar.gz?raw=1 --hash=sha256:{HASH}",)
    (place / "requirements.txt").write_text(f"a @ {address}\n")
    with pytest.raises(Unavailable, match=r"https://127.0.0.1:9/a-1.tar.gz\?raw=1") as unreachable:
        find(place)
    told = [
        repr(found),
        str(refused.value),
        str(refused_too.value),
        str(unreachable.value),
        *said.lines,
        *(path.read_text() for path in (tmp_path / "cache").iterdir()),
    ]
    assert not [text for text in told if "hunter" in text]


def commit(folder: Path) -> str:
    """All that is in a folder, as a commit of a repository there."""
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_whatever_pip_and_uv_read_is_read(place: Path, index: Index) -> None:
    """Encodings, quotes, pages of links, scripts, and what `pip freeze` writes of an editable repository."""
    mine = project(place.parent / "mine", "mine", "beta")
    at = f"git+{mine.as_uri()}@{commit(mine)}"
    (place / "my files").mkdir()
    (place / "my files" / "delta-1.0-py3-none-any.whl").write_bytes(wheel("delta", "1.0"))
    (place / "more.txt").write_bytes("six==99.0\r\n".encode("utf-16"))
    (place / "bounds.txt").write_bytes("beta<1.5\n".encode("utf-16"))
    (place / "static.txt").write_text(
        f"--requirement=more.txt\n-c 'bounds.txt'\n--index-url={index.url}\n--only-binary=:all:\n-f 'my files'\ndelta\n"
        f"-e {at}#egg=mine\n"
    )
    found = find(place, requirements=place / "static.txt")
    assert bare(found) == ["beta==1.0", "delta==1.0", f"mine @ {at}", "six==99.0"]
    told = index_settings(place / "static.txt")
    assert told == {"UV_DEFAULT_INDEX": index.url, "UV_FIND_LINKS": str(place / "my files")}
    for text in (
        "\ufeffalpha==1.0".encode("utf-16-be"),
        "alpha==1.0\r\n".encode("utf-32"),
        b"# coding: latin-1 \xfc\nalpha",
    ):
        (place / "static.txt").write_bytes(text)
        assert bare(find(place, requirements=place / "static.txt")) == ["alpha==1.0", "beta==1.5"]
    for text in ("alpha==1.0".encode("utf-16-le"), b"# \xfc\nalpha", b"# coding: nope\nalpha"):
        (place / "static.txt").write_bytes(text)
        with pytest.raises(BadInput, match="not UTF-8"):
            find(place, requirements=place / "static.txt")


def test_a_project_says_what_it_needs(place: Path, index: Index, said: Said) -> None:
    """Where there is no lock: its own dependencies, resolved, without those for developing; or a lock above has it."""
    folder = project(place / "mine", "mine", "alpha")
    text = (folder / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(f"{text}[dependency-groups]\ndev = ['six']\ng = ['gamma']\n")
    (folder / "requirements-dev.txt").write_text("six")
    assert bare(find(folder)) == ["alpha==1.0", "beta==1.5"] and not said.warnings
    assert bare(find(folder, groups=["g"])) == ["alpha==1.0", "beta==1.5", "gamma==1.0"]
    (folder / "environment.yml").write_text("dependencies: [numpy]")
    for name in ("requirements-min.txt", "requirements_rtd.txt"):
        (folder / name).write_text("six")
    pixi = "dependencies = {python = '*', gdal = '*'}\n[target.linux-64.dependencies]\nnumpy = '*'\n"
    (folder / "pixi.toml").write_text(pixi)
    assert find(folder).source == str(folder / "pyproject.toml")
    assert said.warnings == [
        f"WARNING environment: {folder / 'pyproject.toml'} is taken, not what pixi.toml lists for conda (gdal, numpy), "
        "environment.yml, requirements-min.txt"
    ]
    (place / "pyproject.toml").write_text(
        "[project]\nname='top'\nversion='1'\ndependencies=['six']\nrequires-python='>=3.11'\n"
    )
    (place / "uv.lock").write_text('version = 1\nrequires-python = ">=3.11"\n')
    assert find(folder).source == str(folder / "pyproject.toml"), "the lock above is another's"
    (place / "pyproject.toml").write_text("[tool.uv.workspace]\nmembers = ['mine']\n")
    run_uv("lock", folder=place)
    found = find(folder)
    assert found.source == str(place / "uv.lock") and bare(found) == ["alpha==1.0", "beta==1.5"]


def test_a_project_is_called_what_its_files_say(place: Path) -> None:
    """Whichever of them does, and nothing of it is run; else as its folder."""
    assert project_name(place) == "place"
    (place / "setup.py").write_text(
        "from setuptools import setup\nNAME = 'Older'\nsetup(version='1', name=NAME)\nexit(Extension(name='x'))\n"
    )
    assert project_name(place) == "older"
    (place / "setup.cfg").write_text("[metadata]\nname = Old_One\n")
    assert project_name(place) == "old-one"
    (place / "pyproject.toml").write_text("[project]\nname = 'new'\n")
    assert project_name(place) == "new"


POETRY = """
[tool.poetry]
package-mode = false
[tool.poetry.dependencies]
python = "^3.11"
alpha = "^1.0"
beta = [{version = "<1.5", markers = "sys_platform == 'win32'"}, {version = ">1", markers = "sys_platform != 'win32'"}]
six = {version = "<99", markers = "sys_platform == 'linux'"}
gamma = {version = "*", optional = true}
"""
CFG = "[metadata]\nname = old\n[options]\ninstall_requires =\n  alpha\n  six<99\n"


FLIT = """
[tool.flit.metadata]
module = "old"
requires = ["alpha", "six<99"]
requires-extra = {x = ["gamma"]}
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", POETRY),
        ("pyproject.toml", FLIT),
        ("setup.cfg", CFG),
        ("setup.cfg", "[options]\ninstall_requires = alpha; six<99"),
        ("setup.cfg", "[options]\ninstall_requires = file: more.txt, most.txt"),
    ],
)
def test_what_an_older_project_lists_is_read_without_building_it(
    place: Path, index: Index, name: str, text: str
) -> None:
    """Poetry's own table, Flit's, and setuptools' configuration; what is for Poetry alone is told."""
    (place / "more.txt").write_text("alpha\n")
    (place / "most.txt").write_text("six<99\n")
    (place / name).write_text(text)
    assert [line.split(";")[0] for line in bare(find(place))] == ["alpha==1.0", "beta==1.5", f"six=={version('six')}"]
    (place / name).write_text(text.replace('"^1.0"', '{git = "https://h/x"}'))
    if text == POETRY:
        with pytest.raises(BadInput, match=r"alpha.*poetry lock"):
            find(place)
    if text == FLIT:
        assert "gamma==1.0" in bare(find(place, extras=["x"]))


@pytest.mark.parametrize(
    ("name", "text", "arm", "other"),
    [
        (
            "pdm.lock",
            '[metadata]\nstrategy = ["inherit_metadata"]\ntargets = [{platform = "windows_amd64"}, {platform = "X"}]',
            "manylinux_2_40_aarch64",
            "macos_14_0_arm64",
        ),
        (
            "pylock.toml",
            'lock-version = "1.0"\nenvironments = ["sys_platform == \'win32\'", "X"]',
            "sys_platform == 'linux' and platform_machine == 'aarch64'",
            "sys_platform == 'darwin'",
        ),
        (
            "conda-lock.yml",
            "package: [{name: pip, manager: conda, platform: X, url: u, version: '1'}]",
            *("linux-aarch64", "osx-64"),
        ),
    ],
)
def test_what_is_locked_for_other_machines_is_told(
    place: Path, said: Said, name: str, text: str, arm: str, other: str
) -> None:
    """One kind that workers have is a warning, none an error."""
    (place / name).write_text(text.replace("X", arm))
    find(place)
    assert "is locked for aarch64 alone" in said.warnings[0]
    (place / name).write_text(text.replace("X", other))
    with pytest.raises(BadInput, match=rf"{name}: it is not locked for Linux"):
        find(place)


def test_builders_hear_of_the_indexes_that_uv_was_told(place: Path, said: Said) -> None:
    """In the project's settings; that is no choice of pip's, of whose order there would be a word."""
    (place / "pyproject.toml").write_text(
        "[tool.uv]\nfind-links = ['here']\n[[tool.uv.index]]\nname = 'a'\nurl = 'https://a/simple'\n"
    )
    (place / "requirements.txt").write_text(pinned("six==1"))
    links = {"UV_FIND_LINKS": str(place / "here")}
    assert index_settings(place / "requirements.txt") == {"UV_INDEX": "a=https://a/simple", **links}
    (place / "requirements.txt").write_text("# nothing")
    find(place)
    assert not [line for line in said.warnings if "several package indexes" in line]


def test_a_file_that_asks_for_nothing_is_told(place: Path, said: Said) -> None:
    """Workers without packages are seldom meant."""
    (place / "requirements.txt").write_text("# later\n")
    assert find(place).requirements == () and "asks for no packages" in said.warnings[0]


BUILT_ELSEWHERE = """
numpy @ file:///croot/numpy_167/work
six @ file:///tmp/build/80754af9/six_160/work
beta==1.0
"""


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (BUILT_ELSEWHERE, BadInput, ["numpy, six", "pip list --format=freeze"]),
        ("numpy=1.26.4=py311_0\nscipy=1.0\n", BadInput, ["numpy, scipy", "--format=freeze"]),
        ("mine @ git+https://nowhere.invalid/mine@abc\n", Unavailable, ["nowhere.invalid"]),
        ("pywin32==306\n", CannotBuild, ["pywin32", "sys_platform == 'win32'"]),
        ("pyobjc==1\n", CannotBuild, ["pyobjc; sys_platform == 'darwin'"]),
        ("beta==9\n", BadInput, ["beta==9", "requirements.txt"]),
        ("broken @ BROKEN\n", BadInput, ["broken", "No module named 'nothing_like_it'"]),
    ],
)
def test_what_cannot_be_had_is_told_with_its_cause(
    place: Path, index: Index, text: str, error: type[Exception], words: list[str]
) -> None:
    """All of it at once, with the way out, in uv's words to the last line; what may pass is no fault of the file."""
    index.add("pywin32", "306")
    index.add("pyobjc", "1")
    (place / "broken").mkdir()
    (place / "broken" / "setup.py").write_text("import nothing_like_it\n")
    (place / "broken" / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'nothing_like_it'\n"
    )
    (place / "requirements.txt").write_text(text.replace("BROKEN", (place / "broken").as_uri()))
    with pytest.raises(error) as refused:
        find(place)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_an_index_that_cannot_be_reached_is_no_fault_of_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call may succeed later."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    (place / "requirements.txt").write_text("alpha\n")
    with pytest.raises(Unavailable, match="cannot be reached"):
        find(place)


def test_pips_index_is_uvs_too(place: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who set pip up for an index of their own is not sent to PyPI."""
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    (place / "pip.conf").write_text(f"[global]\nindex-url = {index.url}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(place / "pip.conf"))
    (place / "requirements.txt").write_text("alpha\n")
    assert bare(find(place)) == ["alpha==1.0", "beta==1.5"]


def test_a_higher_version_elsewhere_changes_nothing(
    place: Path, index: Index, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several indexes the first that has a package gives it, pip's extra ones first; a setting may differ."""
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    index.add("mine", "99.0")
    with running_index() as private:
        private.add("mine", "1.0")
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", private.url)
        (place / "requirements.txt").write_text("mine\nalpha\n")
        found = find(place)
        assert bare(found) == ["alpha==1.0", "beta==1.5", "mine==1.0"]
        assert [line for line in said.lines if "the first that has it" in line and "index_strategy" in line]
        assert indexes_of(found)["UV_INDEX_STRATEGY"] == "unsafe-best-match", "the hash says which file it is"
        unhashed = Environment(python=found.python, requirements=("mine==1.0",), source=found.source)
        assert "UV_INDEX_STRATEGY" not in indexes_of(unhashed)
        said.lines.clear()
        assert "mine==99.0" in bare(find(place, index_strategy="unsafe-best-match"))
        assert not [line for line in said.lines if "the first that has it" in line]


def test_builders_hear_of_the_indexes_of_a_lock(place: Path) -> None:
    """By the names under which uv looks for credentials, pages of links apart; PyPI goes without saying."""
    flat = '[[tool.uv.index]]\nname = "page"\nurl = "https://page/all.html"\nformat = "flat"\n'
    (place / "pyproject.toml").write_text(f'[[tool.uv.index]]\nname = "ours"\nurl = "https://ours/simple/"\n{flat}')
    registries = ("https://pypi.org/simple", "https://ours/simple", "https://torch/cpu", "https://ours/simple")
    registries = (*registries, "https://page/all.html", "../wheels")
    (place / "uv.lock").write_text(
        "".join(f'[[package]]\nname = "p"\nsource = {{ registry = "{each}" }}\n' for each in registries)
    )
    told = index_settings(place / "uv.lock")
    assert told["UV_INDEX"] == "ours=https://ours/simple https://torch/cpu" and "UV_DEFAULT_INDEX" not in told
    assert told["UV_FIND_LINKS"] == f"https://page/all.html,{place.parent / 'wheels'}"
    (place / "Pipfile.lock").write_text(
        '{"_meta": {"sources": [{"url": "https://a/simple"}, {"url": "https://b/simple"}]}}'
    )
    assert index_settings(place / "Pipfile.lock") == {"UV_INDEX": "https://a/simple https://b/simple"}


def test_an_extra_of_ours_brings_what_it_needs(place: Path, index: Index) -> None:
    """The rest of starburst comes by itself."""
    index.add("pyarrow", version("pyarrow"))
    (place / "requirements.txt").write_text("starburst-ecs[parquet]\nbeta\n")
    assert bare(find(place)) == ["beta==1.5", f"pyarrow=={version('pyarrow')}"]


# --- kept answers ---


def test_a_kept_answer_asks_nobody(place: Path, index: Index) -> None:
    """The second call reads files only, until one of them changes or a day has passed."""
    (place / "requirements.txt").write_text("alpha\n")
    first, asked = find(place), len(index.asked)
    assert find(place) == first and len(index.asked) == asked
    (kept,) = (place.parent / "cache").iterdir()
    os.utime(kept, (time.time() - 90_000,) * 2)
    before = kept.stat().st_mtime
    find(place)
    assert kept.stat().st_mtime > before


def test_a_spoilt_answer_is_dropped(place: Path, index: Index) -> None:
    """Whatever is in the file."""
    (place / "requirements.txt").write_text("alpha\n")
    first = find(place)
    (kept,) = (place.parent / "cache").iterdir()
    for text in ("", "{", "[]", "null", '{"python": 3}', '{"requirements": 1, "local": []}'):
        kept.write_text(text)
        assert find(place) == first
    assert json.loads(kept.read_text())["python"] == PYTHON


# --- properties ---

LINES = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.integers(1, 9),
        st.sampled_from(["", " ; python_version >= '3.8'", " ; sys_platform == 'linux'"]),
        st.sets(st.sampled_from("0123456789"), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda line: line[0],
)


def written(folder: Path, lines: list[Any], *, comment: str = "", gap: str = " ") -> Environment:
    texts = (
        f"{name}=={number}{marker}{gap}" + gap.join(f"--hash=sha256:{each * 64}" for each in hashes) + comment
        for name, number, marker, hashes in lines
    )
    folder.mkdir(exist_ok=True)
    (folder / ".git").mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text("\n".join(texts) + "\n")
    return find(folder)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.randoms(), st.sampled_from([" ", "  ", " \\\n    "]))
def test_layout_is_of_no_account(tmp_path: Path, lines: list[Any], random: Any, gap: str) -> None:
    """Comments, order, line breaks and the folder leave the requirements as they are."""
    shuffled = random.sample(lines, len(lines))
    again = written(tmp_path / "two", shuffled, comment="  # what for", gap=gap)
    assert written(tmp_path / "one", lines).requirements == again.requirements


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.integers(0, 5), st.sampled_from(["version", "hash", "marker", "package"]))
def test_content_is_of_account(tmp_path: Path, lines: list[Any], which: int, what: str) -> None:
    """Another version, hash, marker or package is another environment."""
    name, number, marker, hashes = lines[which % len(lines)]
    other = {
        "version": (name, number + 1, marker, hashes),
        "hash": (name, number, marker, hashes ^ {"a"}),
        "marker": (name, number, f"{marker} and os_name == 'posix'" if marker else " ; os_name == 'posix'", hashes),
        "package": lines[which % len(lines)],
    }[what]
    changed = [other if line[0] == name else line for line in lines] + ([("z", 1, "", {"1"})] * (what == "package"))
    before = written(tmp_path / "one", lines).requirements
    assert written(tmp_path / "one", changed).requirements != before


# --- the running interpreter ---

_FIND = """
import json, logging, sys
from dataclasses import asdict
from pathlib import Path
logging.basicConfig(level=logging.WARNING)
from starburst_common.errors import StarburstError
from starburst_common.environment.find import find_environment
try:
    print(json.dumps(asdict(find_environment(Path(sys.argv[1]), cache=Path(sys.argv[2])))))
except StarburstError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A virtual environment with starburst in it."""

    folder: Path

    def install(self, *words: str) -> None:
        run_uv("pip", "install", "--quiet", "--python", str(self.folder / "bin/python"), *words, folder=self.folder)

    def find(self, place: Path) -> tuple[dict[str, Any], str]:
        words = [str(self.folder / "bin/python"), "-c", _FIND, str(place), str(self.folder / "cache")]
        done = subprocess.run(words, capture_output=True, text=True, cwd=place)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        found["bare"] = [line.split(" --hash")[0] for line in found.get("requirements", ())]
        return found, done.stderr


@pytest.fixture(scope="module")
def first_interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interpreter") / "venv"
    run_uv("venv", "--quiet", "--seed", "--python", sys.executable, str(folder), folder=folder.parent)
    Interpreter(folder).install("--editable", str(HERE))
    return folder


@pytest.fixture
def interpreter(first_interpreter: Path, tmp_path: Path) -> Interpreter:
    subprocess.run(["cp", "-al", str(first_interpreter), str(tmp_path / "venv")], check=True)
    return Interpreter(tmp_path / "venv")


def test_a_freeze_gives_what_is_installed(interpreter: Interpreter, place: Path, index: Index) -> None:
    """Exact versions with hashes, without starburst, its own needs and installers; none of other systems' packages."""
    interpreter.install("alpha", "beta==1.0")
    found, said = interpreter.find(place)
    assert found["bare"] == ["alpha==1.0", "beta==1.0"] and found["local"] == [] and not said
    assert all("--hash=sha256:" in line for line in found["requirements"])
    (place / "found.txt").write_text("\n".join(found["requirements"]))
    words = ["--no-deps", "--require-hashes", "--target", "there", "-r", "found.txt"]
    run_uv("pip", "install", "--quiet", "--python", sys.executable, *words, folder=place)
    assert (place / "there" / "alpha.py").exists()
    asked = len(index.asked)
    assert interpreter.find(place)[0] == found and len(index.asked) == asked
    interpreter.install("beta==1.5")
    assert interpreter.find(place)[0]["bare"] == ["alpha==1.0", "beta==1.5"]


def test_editable_projects_travel_with_the_code(interpreter: Interpreter, place: Path, index: Index) -> None:
    """They are no requirements, but what they need is."""
    mine = project(place.parent / "mine", "mine", "alpha")
    interpreter.install("beta", "gamma", "alpha")
    interpreter.install("--no-deps", "--default-index", PYPI, "-e", str(mine))
    found, _ = interpreter.find(place)
    assert found["bare"] == ["alpha==1.0", "beta==1.5", "gamma==1.0"] and found["local"] == ["mine"]


def test_a_project_installed_as_a_copy_is_warned_of(interpreter: Interpreter, place: Path, index: Index) -> None:
    """What lies in site-packages does not travel with the code, and no index has it."""
    mine = project(place.parent / "mine", "mine")
    interpreter.install("--no-deps", "--default-index", PYPI, str(mine))
    found, said = interpreter.find(place)
    assert found["local"] == ["mine"] and "workers lack: mine" in said
    assert "workers lack: mine" in interpreter.find(place)[1]
    interpreter.install("--no-deps", "--default-index", PYPI, "-e", str(mine))
    assert "workers lack" not in interpreter.find(place)[1]


def test_a_commit_is_kept(interpreter: Interpreter, place: Path, index: Index) -> None:
    """A package from a repository is had from there again, at the very commit."""
    mine = project(place.parent / "mine", "mine", "beta")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=mine, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=mine, check=True, capture_output=True, text=True).stdout
    interpreter.install("--no-deps", "--default-index", PYPI, f"mine @ git+{mine.as_uri()}")
    interpreter.install("beta")
    found, _ = interpreter.find(place)
    assert found["bare"] == ["beta==1.5", f"mine @ git+{mine.as_uri()}@{commit.strip()}"]


def test_all_that_cannot_be_had_is_named_at_once(interpreter: Interpreter, place: Path, index: Index) -> None:
    """With the way out."""
    interpreter.install("alpha", "gamma")
    del index.files["gamma"], index.files["beta"]
    found, _ = interpreter.find(place)
    assert found["error"] == "CannotBuild" and "beta==1.5, gamma==1.0" in found["message"]
    assert "image=" in found["message"] and "alpha" not in found["message"]


def test_a_wheel_from_a_file_is_named(interpreter: Interpreter, place: Path, index: Index) -> None:
    """A freeze knows where it came from: nowhere that workers can reach."""
    (place / "loose-1.0-py3-none-any.whl").write_bytes(wheel("loose", "1.0"))
    interpreter.install(str(place / "loose-1.0-py3-none-any.whl"))
    found, _ = interpreter.find(place)
    assert found["error"] == "CannotBuild" and "loose (from file://" in found["message"]


def test_packages_that_do_not_fit_are_taken_as_they_are(interpreter: Interpreter, place: Path, index: Index) -> None:
    """What runs here runs there, with a warning."""
    index.add("old", "1.0", "beta<1.2")
    interpreter.install("alpha", "beta")
    interpreter.install("--no-deps", "old")
    found, said = interpreter.find(place)
    assert found["bare"] == ["alpha==1.0", "beta==1.5", "old==1.0"] and "do not fit together" in said


def test_requirements_without_sense_are_passed_over(interpreter: Interpreter, place: Path, index: Index) -> None:
    """What a package asks for under a marker that means nothing, it does not ask for here."""
    interpreter.install("beta==1.0")
    info = next(interpreter.folder.glob("lib/*/site-packages/beta-*.dist-info"))
    metadata = (info / "METADATA").read_text()
    (info / "METADATA").unlink()
    (info / "METADATA").write_text(f"""{metadata.rstrip()}\nRequires-Dist: other (>1) ; "" == ""\n""")
    found, _ = interpreter.find(place)
    assert found["bare"] == ["beta==1.0"]


def test_in_a_conda_environment_its_limits_are_said(interpreter: Interpreter, place: Path, index: Index) -> None:
    """Python's packages come from an index in the same versions, whatever folder conda built them in; no others do."""
    interpreter.install("beta==1.0")
    (interpreter.folder / "conda-meta").mkdir()
    info = next(interpreter.folder.glob("lib/*/site-packages/beta-*.dist-info"))
    (info / "INSTALLER").unlink()
    (info / "INSTALLER").write_text("conda\n")
    (info / "direct_url.json").write_text('{"dir_info": {}, "url": "file:///home/conda/feedstock_root/beta"}')
    found, said = interpreter.find(place)
    assert found["bare"] == ["beta==1.0"] and "running in a conda environment" in said


# --- patience ---


@pytest.mark.rest
def test_what_takes_long_is_told(place: Path, index: Index, said: Said) -> None:
    """Within ten seconds, and what it is about."""
    index.slow_s = 9.0
    (place / "requirements.txt").write_text("beta\n")
    assert bare(find(place)) == ["beta==1.5"]
    told = [line for line in said.lines if "so far" in line]
    assert str(place / "requirements.txt") in told[0]


def test_what_takes_too_long_is_not_said_to_be_missing(place: Path, index: Index) -> None:
    """All that uv is asked for one answer shares one deadline."""
    with pytest.raises(TookTooLong, match="no answer"):
        pin(["beta==1.5"], folder=place, python=PYTHON, options=[], until=time.monotonic())


# --- the command ---


def shown(*words: str) -> str:
    app, group = Typer(), Typer()
    group.command("show")(env_command.show)
    app.add_typer(group, name="env")
    done = CliRunner().invoke(app, ["env", "show", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_env_show_tells_people_and_programs(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was found, where, and what names it; all of it on demand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(place)
    (place / "requirements.txt").write_text(pinned(*(f"p{number}==1" for number in range(8))))
    short, every = shown(), shown("--all")
    assert str(place / "requirements.txt") in short and "p0==1" in short and "p7==1" not in short
    assert "3 more (--all)" in short and "p7==1" in every and HASH not in every
    told = json.loads(shown("--json"))
    assert told["packages"] == 8 and told["python"] == PYTHON and told["local"] == [] and len(told["fingerprint"]) == 16
    assert told["fingerprint"] in short and told["requirements"][0] == "p0==1"
    assert json.loads(shown("--json", "-r", "requirements.txt")) == told
    assert asdict(find(place))["requirements"] and told["source"] == str(place / "requirements.txt")


def test_what_lies_beside_a_host_is_had_without_it(tmp_path: Path) -> None:
    """Its plugins and what only it needs are left out; what was asked for is not, whoever needs it."""
    needs = {
        "apache-airflow": ["apache-airflow-core", "pandas; extra == 'pandas'"],
        "apache-airflow-core": ["fastapi", "requests"],
        "cosmos": ["apache-airflow>=2", "dbt"],
        "app": ["numpy", "requests"],
        "starburst-ecs": ["boto3"],
        **{name: [] for name in ("fastapi", "requests", "numpy", "pandas", "boto3", "dbt", "pip")},
    }
    for name, lines in needs.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        metadata = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            "Version: 1.0",
            *(f"Requires-Dist: {each}" for each in lines),
        ]
        (info / "METADATA").write_text("\n".join(metadata))
    (tmp_path / "boto3-1.0.dist-info/REQUESTED").touch()
    packages = {
        name: freeze.Package(name=name, version="1.0", metadata=tmp_path / f"{name}-1.0.dist-info") for name in needs
    }
    found = beside("apache-airflow", packages)
    assert found == (["app==1.0", "boto3==1.0", "dbt==1.0", "numpy==1.0", "pandas==1.0", "requests==1.0"], 6)

"""What lies on this machine and others wrote: settings, projects, locks, items, records; and what programs print."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from shutil import rmtree

import pyarrow
from pyarrow import parquet

from starburst_common.cli.items import open_items
from starburst_common.code.bundle import bundle_of
from starburst_common.code.files import Piece, module_at
from starburst_common.config import OUTSIDE, ImageSettings, project_options, settings
from starburst_common.environment import choose, find, freeze, needs, texts, uvlock
from starburst_common.environment.asked import Asked, admit, well_formed
from starburst_common.environment.indexes import index_settings
from starburst_common.environment.kept import cached, running
from starburst_common.environment.lines import sort_out
from starburst_common.environment.pipconfig import from_pip
from starburst_common.environment.projects import project_name
from starburst_common.environment.resolve import _error as uv_error
from starburst_common.environment.resolve import blamed
from starburst_common.image.buildx import logged_in as docker_settings
from starburst_common.image.output import Told
from starburst_common.local.clock import FolderClock, boot_id
from starburst_common.local.compute import LocalCompute, worker_id
from starburst_common.model import FleetId
from starburst_common.outside import first_said
from starburst_common.phrases import without_credentials
from starburst_common.ports import Access
from starburst_common.toml import toml
from starburst_worker.duty import Duty
from tests.fuzz.hunt import Target
from tests.fuzz.mutations import Kind
from tests.fuzz.world import World

ENVIRONMENTS = Path(__file__).parent.parent / "environments"
PYTHON = running()
SETTINGS = b"""
backend = "local"
home = "~/runs"
keep_days = 7.5

[site]
name = "lab"
region = "us-east-1"
bucket = "lab-runs"
cluster = "lab"
subnets = ["subnet-1", "subnet-2"]
execution_role = "arn:aws:iam::123456789012:role/execution"
task_role = "arn:aws:iam::123456789012:role/task"
signing_secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:key"
log_days = 30
assign_public_ip = false

[image]
base = "python:3.11"
builder = "layer"
platforms = ["linux/amd64"]
groups = ["a"]
keep_days = 3

[map]
workers = 50
memory = "4GB"
spot = true
tolerate = "2%"
tags = { team = "risk" }
"""
PROJECT = b"""
[project]
name = "mine"
dependencies = ["attrs>=1", "starburst-ecs[parquet]"]
optional-dependencies = { x = ["idna (>=2) ; python_version > '3'"] }

[dependency-groups]
dev = ["pytest", { include-group = "x" }]

[tool.poetry.group.dev.dependencies]
rich = "^13"

[tool.starburst.image]
builder = "layer"
system_packages = ["git"]

[tool.starburst.map]
cpu = 0.5
budget = "2.50"
progress = "no"

[[tool.uv.index]]
name = "ours"
url = "https://host/simple"
"""
UV_LOCK = b"""
version = 1
requires-python = ">=3.11"

[manifest]
members = ["app", "lib"]

[[package]]
name = "app"
version = "0.1"
source = { editable = "." }
dependencies = [{ name = "attrs", extra = ["x"] }, { name = "lib", marker = "python_version > '3'" }]
optional-dependencies = { x = [{ name = "idna" }] }
dev-dependencies = { dev = [{ name = "pytest" }] }

[[package]]
name = "attrs"
version = "26.1"
source = { registry = "https://host/simple" }

[[package]]
name = "lib"
version = "1"
source = { directory = "lib" }
"""
REQUIREMENTS = b"""# what is needed
--index-url https://me:secret@host/simple
--extra-index-url=https://pypi.org/simple
attrs==26.1.0 ; python_version >= "3.8" --hash=sha256:%(h)s \\
    --hash=sha256:%(h)s
idna[all] @ https://host/idna-3.whl#sha256=1 --hash=sha256:%(h)s
-r more.txt
-e ./lib[x]
./here.whl
git @ git+ssh://git@host/x@1 ; sys_platform == 'linux'
""" % {b"h": b"a" * 64}
IGNORED = b"""# data
*.csv
/build/**/*.py[co]
!keep.csv
a[b-d]e?
**/logs/
\\#x
"""


def targets(world: World, folder: Path) -> list[Target]:
    """All of them."""
    return [*_settings(folder), *_environments(folder), *_items(folder), *_records(world, folder), *_said(folder)]


def _written(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A file with what is fed, then it is read."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name

    def feed(blob: bytes) -> None:
        file.write_bytes(blob)
        read(file)

    return feed


@contextmanager
def _variables(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


# --- settings ---------------------------------------------------------------------------------------------------------


def _settings(folder: Path) -> list[Target]:
    def of_user(file: Path) -> None:
        with _variables(STARBURST_CONFIG=str(file)):
            found = settings(env={})
        found.home.exists()

    def of_project(file: Path) -> None:
        try:
            ImageSettings().in_project(file.parent)
        finally:
            try:
                first_said(OUTSIDE, project_options(file.parent))
            finally:
                project_name(file.parent)

    return [
        Target(
            name="settings",
            kind=Kind.TEXT,
            samples=[SETTINGS],
            feed=_written(folder, "config.toml", of_user),
            always=[b'home = "%s"' % (b"a" * 300), b"keep_days = " + b"9" * 5000],
        ),
        Target(
            name="pyproject",
            kind=Kind.TEXT,
            samples=[PROJECT],
            feed=_written(folder / "project", "pyproject.toml", of_project),
            always=[b"x = " + b"9" * 5000, b"x = " + b"[" * 5000],
        ),
    ]


# --- environments -----------------------------------------------------------------------------------------------------


def _environments(folder: Path) -> list[Target]:
    def locked(file: Path) -> None:
        kind = choose.kind_of(file)
        with well_formed(file):
            kind.files(file)
            asked = Asked(folder=file.parent, extras=(), groups=())
            try:
                find._environment(kind.read(file, PYTHON, asked), file)
            finally:
                index_settings(file)

    def uv_locked(file: Path) -> None:
        index_settings(file)
        with well_formed(file):
            uvlock.files(file)
            lock = toml(file)
            admit(file, lock.get("requires-python", ""), PYTHON)
            uvlock._member(lock, "lib")
            packages = lock.get("package", [])
            edges = {node: targets for package in packages for node, targets in uvlock._edges(package)}
            needs.without_ours("attrs==1", edges, uvlock._direct(packages, Asked()))

    def required(file: Path) -> None:
        with well_formed(file):
            texts.files(file)
            texts.all_exact(file)
            texts._own_extras(file)
        index_settings(file)
        find._environment(file.read_text(encoding="utf-8-sig"), file)

    def exported(blob: bytes) -> None:
        text = blob.decode("utf-8", "replace")
        without_credentials(text)
        with well_formed(folder):
            sort_out(text, python=PYTHON)

    def uv_said(blob: bytes) -> None:
        text = without_credentials(blob.decode("utf-8", "replace"))
        blamed(text, ["attrs", "idna"])
        raise uv_error(text)

    def installed(blob: bytes) -> None:
        place = folder / "site"
        info = place / "mine-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        head, _, body = blob.partition(b"\n\n\n")
        (info / "direct_url.json").write_bytes(head)
        (info / "METADATA").write_bytes(body)
        found = {"mine": freeze.Package(name="mine", version="1.0", metadata=info)}
        freeze.state_of(found)
        freeze.copied(found)
        freeze.freeze(found)

    def pip(file: Path) -> None:
        with _variables(PIP_CONFIG_FILE=str(file)):
            from_pip()

    def kept(file: Path) -> None:
        found = cached(file.parent, file.stem, None, "", lambda: find.Environment.of(PYTHON, "attrs==1"))
        assert isinstance(found.text, str)
        find._warn_of_differences(found, {"attrs": "1"})

    def ignoring(name: str) -> Callable[[Path], None]:
        def read(file: Path) -> None:
            assert file.name == name
            found = module_at([Piece(file.parent, file.parent.name)])
            bundle_of({"mine": found})

        return read

    package = folder / "mine"
    for name in ("__init__.py", "keep.csv", "data.csv", "build/x.pyc", "logs/a.txt", "a" * 200 + "c.txt"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(b"")
    made = []
    for name, source, read in (
        ("pylock.toml", ENVIRONMENTS / "pylock" / "pylock.toml", locked),
        ("poetry.lock", ENVIRONMENTS / "poetry" / "poetry.lock", locked),
        ("pdm.lock", ENVIRONMENTS / "pdm" / "pdm.lock", locked),
    ):
        place = folder / name.replace(".", "-")
        made.append(Target(name=name, kind=Kind.TEXT, samples=[source.read_bytes()], feed=_written(place, name, read)))
    origin = {"url": "https://me:secret@host/mine.tar.gz", "archive_info": {"hashes": {"sha256": "0"}}}
    vcs = {"url": "https://host/x", "vcs_info": {"vcs": "git", "commit_id": "0a"}, "subdirectory": "x"}
    metadata = b"\n\n\nMetadata-Version: 2.1\nName: mine\nVersion: 1.0\nRequires-Dist: mine[x] (>=1) ; extra == 'x'\n"
    environment = {"python": PYTHON, "requirements": ["attrs==1"], "source": "here", "local": []}
    samples = [json.dumps(each).encode() + metadata for each in (origin, vcs, {"url": "file:///x", "dir_info": {}})]
    return [
        *made,
        Target(name="uv.lock", kind=Kind.TEXT, samples=[UV_LOCK], feed=_written(folder / "uv", "uv.lock", uv_locked)),
        Target(
            name="requirements",
            kind=Kind.TEXT,
            samples=[REQUIREMENTS],
            feed=_written(folder / "requirements", "requirements.txt", required),
            always=[b"./" + b"1" * 300, b"-e ./" + b"1/" * 4000],
        ),
        Target(name="uv's requirements", kind=Kind.TEXT, samples=[REQUIREMENTS], feed=exported),
        Target(
            name="uv's errors",
            kind=Kind.TEXT,
            samples=[b"error: No solution found when resolving: Because attrs==1 and you require idna>=2 \xe2\x80\xa6"],
            feed=uv_said,
        ),
        Target(
            name="installed packages",
            kind=Kind.TEXT,
            samples=samples,
            feed=installed,
            always=[b'{"url": "", "vcs_info": {"vcs": "git"}}'],
        ),
        Target(
            name="pip.conf",
            kind=Kind.TEXT,
            samples=[b"[global]\nindex-url = https://host/simple\nextra-index-url =\n  https://a/b\n  https://c/d\n"],
            feed=_written(folder, "pip.conf", pip),
            always=[b"[global]\nextra" + b" " * 20_000 + b"x\n"],
        ),
        Target(
            name="kept environments",
            kind=Kind.JSON,
            samples=[json.dumps(environment).encode()],
            feed=_written(folder / "kept", "0a1b.json", kept),
        ),
        *(
            Target(
                name=name,
                kind=Kind.TEXT,
                samples=[IGNORED],
                feed=_written(package, name, ignoring(name)),
                always=[b"**:***********/logs/\n" + b"*" * 20 + b"x\n"],
            )
            for name in (".starburstignore", ".gitignore")
        ),
    ]


# --- items ------------------------------------------------------------------------------------------------------------


def _items(folder: Path) -> list[Target]:
    def read(file: Path) -> None:
        found = open_items(str(file), None)
        assert len([*islice(found, 10**6)]) == len(found)  # type: ignore[arg-type]

    body = io.BytesIO()
    table = pyarrow.table({"a": [1, 2, None], "b": ["x", "é", ""], "c": [[1], [], [2, 3]], "d": [0.5, None, 1e300]})
    parquet.write_table(table, body)
    lines = b'{"a": 1, "b": [1.5, null]}\n"x"\n\n17\n'
    return [
        Target(name="items.jsonl", kind=Kind.TEXT, samples=[lines], feed=_written(folder, "items.jsonl", read)),
        Target(
            name="items.csv",
            kind=Kind.TEXT,
            samples=[b'a,b,"c\nd"\n1,2,3\n"x ""y""",,\n'],
            feed=_written(folder, "items.csv", read),
            always=[b"," * 100_000, b",".join(b"%d" % each for each in range(60_000))],
        ),
        Target(
            name="items.parquet",
            kind=Kind.BYTES,
            samples=[body.getvalue()],
            feed=_written(folder, "items.parquet", read),
        ),
    ]


# --- records ----------------------------------------------------------------------------------------------------------


def _records(world: World, folder: Path) -> list[Target]:
    fleet = FleetId("fleet-20270101-000000-0a1b2c3d")
    home = folder / "records"
    compute = LocalCompute(home)
    place = home / "workers" / fleet
    record = {"pid": 2**22 + 17, "born": 12345, "started_at": 1790000000.5}

    def workers(file: Path) -> None:
        for state in compute.workers(fleet):
            assert isinstance(state.started_at, float)
            compute.ended(fleet, state.id)
        compute.tail(fleet, worker_id(fleet, 1))
        compute.fleets()

    def ended(file: Path) -> None:
        (place / "000001.json").write_text(json.dumps(record))
        workers(file)

    def clock(blob: bytes) -> None:
        rmtree(folder / "clock", ignore_errors=True)
        (folder / "clock").mkdir()
        (folder / "clock" / boot_id()).write_bytes(blob)
        now = FolderClock(folder / "clock").now()
        os.utime(folder / "clock", (now, now))

    def duty(blob: bytes) -> None:
        found = Duty.read(blob.decode("utf-8", "surrogateescape"))
        assert found.slots + sum(found.pace.orders().values()) > 0
        assert f"{found.worker}{found.fleet}{found.backend}{found.home}"

    (orders,) = [
        {
            "fleet": fleet, "worker": "w", "backend": "local", "home": "/tmp/x", "cpu": 1.0, "slots": 2,
            "memory_mib": None, "idle_s": 20.0, "lifetime_s": 43200.0, "lease_s": 5.0, "chunk_s": 2.0,
            "inline_bytes": 65536, "wire": 1,
        }
    ]  # fmt: skip
    assert world.home.exists()
    return [
        Target(
            name="workers' records",
            kind=Kind.JSON,
            samples=[json.dumps(record).encode()],
            feed=_written(place, "000001.json", workers),
        ),
        Target(
            name="workers' ends",
            kind=Kind.JSON,
            samples=[json.dumps({"code": 3, "at": 1790000000.5}).encode()],
            feed=_written(place, "000001.end", ended),
        ),
        Target(name="the clock's file", kind=Kind.TEXT, samples=[b"1790000000.25"], feed=clock),
        Target(
            name="a worker's orders",
            kind=Kind.JSON,
            samples=[json.dumps(orders).encode()],
            feed=duty,
            always=[json.dumps({**orders, "worker": ""}).encode()],
        ),
    ]


# --- what programs say ------------------------------------------------------------------------------------------------


def _said(folder: Path) -> list[Target]:
    def config(file: Path) -> None:
        access = Access(url="https://host", repository="r", user="AWS", password="x")
        with _variables(DOCKER_CONFIG=str(file.parent)), docker_settings(access):
            pass

    def steps(blob: bytes) -> None:
        told = Told(lambda text: None, lambda text: None, folder / "log")
        with told.building():
            said = json.loads(blob)
            told.steps(step for step in (said if isinstance(said, list) else [said]))

    login = {"auths": {"host": {"auth": "eA=="}}, "credsStore": "desktop", "credHelpers": {"a": "b"}}
    engine = [{"stream": "Step 1/2 : FROM x\n"}, {"status": "Pulling", "id": "0a"}, {"error": "no", "errorDetail": {}}]
    return [
        Target(
            name="docker's settings",
            kind=Kind.JSON,
            samples=[json.dumps(login).encode()],
            feed=_written(folder / "docker", "config.json", config),
        ),
        Target(
            name="an engine's steps", kind=Kind.JSON, samples=[json.dumps(engine).encode()], feed=steps,
            always=[b"9" * 5000, b"[" * 100_000],
        ),
    ]  # fmt: skip

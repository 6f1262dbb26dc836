"""Images made without an engine run in one; the same recipe is the same image; what breaks leaves nothing half."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from starburst_common.environment import Environment
from starburst_common.errors import CannotBuild, Unavailable
from starburst_common.image import contents, oci, wheels
from starburst_common.image import recipe as layout
from starburst_common.image.blob import LayerCache
from starburst_common.image.layer import LayerBuilder, NoWheel
from starburst_common.image.oci import Layer
from starburst_common.image.packed import pack
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry, parse_reference
from starburst_common.ports import Access
from tests.places import environment
from tests.registry_front import PASSWORD, front_of
from tests.testbed.engine import Engine

AMD64, ARM64 = "linux/amd64", "linux/arm64"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
MACHINES = {AMD64: 62, ARM64: 183}  #: e_machine of ELF files
# compiled code, a command, a file that no Python compiles, and two modules that differ between platforms
PACKAGES = "numpy==2.2.6\nhttpx==0.28.1\n"
SMALL = "six==1.17.0\n"
WORKER = contents.digest()


@dataclass(frozen=True, slots=True)
class Base:
    """A base image with a second platform, which is the first's under another name."""

    name: str
    digest: str


@pytest.fixture(scope="session")
def base(engine: Engine) -> Base:
    """The tests' own base, published for two platforms."""
    name = engine.base_image()
    engine.publish(name, name)
    url, repository, tag = parse_reference(f"{engine.registry}/{name}")
    registry = Registry(url)
    found = registry.manifest(repository, tag)
    assert found is not None
    config = json.loads(registry.blob(repository, found.content["config"]["digest"]))
    manifests = {}
    for platform in (AMD64, ARM64):
        body = json.dumps({**config, "architecture": platform.partition("/")[2]}).encode()
        registry.put_blob(repository, oci.digest(body), body)
        manifests[platform] = oci.manifest_on_top(found.content, [], body)
        registry.put_manifest(repository, oci.digest(manifests[platform]), manifests[platform], oci.MANIFEST)
    digest = registry.put_manifest(repository, "both", oci.index(manifests), oci.INDEX)
    return Base(f"{engine.registry}/{repository}:both", digest)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where layers are kept for the tests that do not mind."""
    return tmp_path_factory.mktemp("layers")


def recipe_for(base: Base, text: str = SMALL, *platforms: str, **more: Any) -> Recipe:
    """A recipe for the tests' base."""
    return Recipe(
        environment=Environment.of(PYTHON, text),
        platforms=platforms or (AMD64,),
        base=base.name,
        base_digest=base.digest,
        worker=WORKER,
        **more,
    )


def place(engine: Engine) -> Access:
    """A repository that nobody used."""
    return Access(url=f"http://{engine.registry}", repository=f"test-images/{token_hex(6)}")


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left."""

    access: Access
    recipe: Recipe
    digest: str

    def manifest(self, platform: str) -> dict[str, Any]:
        """The manifest for a platform."""
        registry = Registry.of(self.access)
        index = registry.manifest(self.access.repository, self.recipe.tag)
        assert index is not None and index.digest == self.digest
        picked = oci.pick(index, platform)
        found = registry.manifest(self.access.repository, picked or self.digest)
        assert found is not None
        return found.content

    def layer(self, platform: str, number: int) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """The files of a layer, by path."""
        digest = self.manifest(platform)["layers"][number]["digest"]
        body = Registry.of(self.access).blob(self.access.repository, digest)
        with tarfile.open(fileobj=BytesIO(body), mode="r:gz") as tar:
            return {entry.name: (entry, stream.read() if (stream := tar.extractfile(entry)) else b"") for entry in tar}


@pytest.fixture(scope="module")
def built(engine: Engine, base: Base, cache: Path) -> Built:
    """An image for two platforms, with packages."""
    recipe, access = recipe_for(base, PACKAGES, AMD64, ARM64), place(engine)
    return Built(access, recipe, LayerBuilder(cache=cache).build(recipe, access, print))


def said(engine: Engine, built: Built, *command: str, entrypoint: list[str] | None = None) -> str:
    """What a container of the image prints; fails if it fails."""
    image = f"{engine.registry}/{built.access.repository}@{built.digest}"
    engine.client.api.pull(image)
    out = engine.client.containers.run(
        image, list(command), entrypoint=entrypoint, network_mode="host", remove=True, stderr=True
    )
    return bytes(out).decode()


def test_an_image_runs_as_its_recipe_says(engine: Engine, built: Built) -> None:
    """Packages and commands are found, home can be written, nothing is compiled anew, and it is nobody's root."""
    program = (
        "import numpy, os, json, starburst_common.ports as ports; open(os.path.expanduser('~/x'), 'w');"
        "print(json.dumps([numpy.__version__, numpy.__file__, ports.__file__, os.getuid(), os.getgid(), os.getcwd()]))"
    )
    found = json.loads(said(engine, built, "-c", program, entrypoint=["python3"]))
    assert found[:2] == ["2.2.6", f"{layout.packages_folder(PYTHON)}/numpy/__init__.py"]
    assert found[2:] == [f"{layout.SLOTS}/starburst_common/ports/__init__.py", *layout.USER, layout.HOME]
    how = said(engine, built, "-v", "-c", "import numpy, cloudpickle, starburst_common.ports", entrypoint=["python3"])
    loaded = [line for line in how.splitlines() if "code object from" in line and "/opt/starburst/" in line]
    assert len(loaded) > 50 and all(line.endswith(".pyc'") for line in loaded)
    assert said(engine, built, "-v", entrypoint=["f2py"]) == "2.2.6\n"


def test_the_entry_point_is_the_supervisor(engine: Engine, built: Built) -> None:
    """Its imports succeed: it gets as far as to miss its orders."""
    image = f"{engine.registry}/{built.access.repository}@{built.digest}"
    engine.client.api.pull(image)
    container = engine.client.containers.create(image, network_mode="host")
    try:
        container.start()
        assert container.wait()["StatusCode"] != 0
        logs = container.logs().decode()
    finally:
        container.remove(force=True)
    assert "STARBURST_WORKER" in logs and "ImportError" not in logs and "ModuleNotFoundError" not in logs


def test_both_platforms_are_in_one_index_with_their_own_files(built: Built) -> None:
    """What is the same is one blob; compiled code is each platform's; nothing tells when or where it was made."""
    layers = {name: built.manifest(name)["layers"] for name in (AMD64, ARM64)}
    assert [one == other for one, other in zip(*layers.values(), strict=True)] == [True, False, True, False, True]
    for name, machine in MACHINES.items():
        files = built.layer(name, 3) | built.layer(name, 4)
        programs = [body for path, (_, body) in files.items() if ".so" in path and body.startswith(b"\x7fELF")]
        assert len(programs) > 10
        assert {struct.unpack_from("<H", body, 18)[0] for body in programs} == {machine}
        assert {(entry.mtime, entry.uid, entry.uname) for entry, _ in files.values()} == {(0, 0, "")}
        assert {entry.mode for entry, _ in files.values()} <= {0o644, 0o755}
        marks = [os.fsencode(sys.prefix), str(Path.home() / ".cache").encode()]
        assert [path for path, (_, body) in files.items() if any(mark in body for mark in marks)] == []
        uncompiled = [path for path in files if path.endswith(".py") and not compiled(path) & files.keys()]
        assert uncompiled == []
    assert built.layer(AMD64, 2)["home/starburst"][0].uid == layout.USER[0]
    supervisor = built.layer(AMD64, 1)
    data = f"{layout.SUPERVISOR.lstrip('/')}/botocore/data"
    assert f"{data}/sqs" in supervisor and f"{data}/ec2" not in supervisor
    assert b'"sqs"' in (endpoints := supervisor[f"{data}/endpoints.json"][1])
    assert len(endpoints) < 100_000  # of 1.2 MB, which a worker would read before its first work


def compiled(path: str) -> set[str]:
    """Where a module's compiled code is."""
    folder, _, name = path.rpartition("/")
    return {f"{folder}/__pycache__/{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"}


def test_the_same_recipe_is_the_same_image(engine: Engine, base: Base, built: Built, tmp_path: Path) -> None:
    """Made again by another process in another folder, without what is kept: the same digest."""
    access = place(engine)
    program = (
        "import sys, pathlib\nfrom tests.test_image_layer import *\n"
        "base = Base(*sys.argv[1:3])\naccess = Access(url=sys.argv[3], repository=sys.argv[4])\n"
        "recipe = replace(recipe_for(base, PACKAGES, ARM64, AMD64), worker=sys.argv[6])\n"
        "print(LayerBuilder(cache=pathlib.Path(sys.argv[5])).build(recipe, access, lambda line: None))"
    )
    where = [access.url, access.repository, str(tmp_path / "another"), WORKER]
    command = [sys.executable, "-c", program, base.name, base.digest, *where]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert done.stdout.strip() == built.digest


def test_what_is_there_is_not_made_or_uploaded_again(engine: Engine, built: Built, cache: Path) -> None:
    """A tag that is there is its digest at once; another tag of the same parts uploads its config and manifest only."""
    with front_of(engine.registry) as front:
        told: list[str] = []
        access = replace(built.access, url=front.url)
        assert LayerBuilder(cache=cache).build(built.recipe, access, told.append) == built.digest
        assert len(front.asked) == 1 and told == []
        changed = replace(built.recipe, base_digest=only(built, AMD64), platforms=(AMD64,))
        LayerBuilder(cache=cache).build(changed, access, told.append)
        assert (front.count("^PATCH"), front.count("^PUT .*manifests"), told) == (0, 1, [])


def only(built: Built, platform: str) -> str:
    """The digest of the base's manifest for a platform."""
    url, repository, _ = parse_reference(built.recipe.base)
    index = Registry(url).manifest(repository, built.recipe.base_digest)
    assert index is not None
    return str(oci.pick(index, platform))


def test_another_environment_uploads_its_own_layer_only(engine: Engine, base: Base, built: Built, cache: Path) -> None:
    """The base's layers and those with the worker are common to all images of a repository."""
    with front_of(engine.registry) as front:
        told: list[str] = []
        access = replace(built.access, url=front.url)
        LayerBuilder(cache=cache).build(recipe_for(base, "idna==3.10\n"), access, told.append)
        assert front.count("^PATCH") == 2  # and the config
        assert told[0] == "making packages for linux/amd64" and told[1].startswith("uploading packages, 0.")


def test_a_package_that_changes_leaves_the_layers_of_the_others(engine: Engine, base: Base, cache: Path) -> None:
    """Nothing else is made or uploaded, and all is found that was before."""
    there, told = place(engine), list[str]()
    LayerBuilder(cache=cache).build(recipe_for(base, f"{PACKAGES}{SMALL}"), there, print)
    recipe = recipe_for(base, f"{PACKAGES}six==1.16.0\n")
    with front_of(engine.registry) as front:
        digest = LayerBuilder(cache=cache).build(recipe, replace(there, url=front.url), told.append)
        assert front.count("^PATCH") == 2  # and the config
    assert told[0] == "making packages for linux/amd64" and told[1].startswith("uploading packages, 0.")
    program = "import six, numpy, importlib.util as u; print(six.__version__, u.find_spec('httpx') is not None)"
    made = Built(there, recipe, digest)
    assert said(engine, made, "-c", program, entrypoint=["python3"]) == "1.16.0 True\n"


def test_an_image_without_packages_has_no_layer_for_them(engine: Engine, base: Base, cache: Path) -> None:
    """An empty environment is fine, and its modules are the base's."""
    access, recipe = place(engine), recipe_for(base, "")
    made = Built(access, recipe, LayerBuilder(cache=cache).build(recipe, access, print))
    assert len(made.manifest(AMD64)["layers"]) == 3
    assert said(engine, made, "-c", "import starburst_worker; print(1)", entrypoint=["python3"]) == "1\n"


def test_packages_without_a_wheel_are_all_named(engine: Engine, base: Base, cache: Path) -> None:
    """With the platform; the tag is not there."""
    access = place(engine)
    recipe = recipe_for(base, f"docopt==0.6.2\nfuture==0.18.2\n{SMALL}", AMD64, ARM64)
    each = r"2 packages without a wheel for Python [0-9.]+ on linux/{}64: docopt==0\.6\.2, future==0\.18\.2"
    words = f"^{each.format('amd')}; {each.format('arm')}\\. Choose"
    with pytest.raises(NoWheel, match=words):
        LayerBuilder(cache=cache).build(recipe, access, print)
    assert Registry.of(access).digest(access.repository, recipe.tag) is None


def test_what_nobody_could_build_is_told_so(engine: Engine, base: Base, cache: Path) -> None:
    """No other builder is tried: there are no wheels for Linux, and no source."""
    recipe = recipe_for(base, f"docopt==0.6.2\npywin32==308\n{SMALL}", AMD64, ARM64)
    with pytest.raises(CannotBuild, match=r"no source .*pywin32==308 \(win32, .*sys_platform == 'win32'") as told:
        LayerBuilder(cache=cache).build(recipe, place(engine), print)
    assert not isinstance(told.value, NoWheel)


def test_packages_that_are_not_there_are_told_in_uvs_words(engine: Engine, base: Base, cache: Path) -> None:
    """Another builder would not find them either."""
    with pytest.raises(CannotBuild, match=r"no version of six==99") as told:
        LayerBuilder(cache=cache).build(recipe_for(base, "six==99\n"), place(engine), print)
    assert not isinstance(told.value, NoWheel)


@pytest.mark.parametrize("what", [{"system_packages": ("git",)}, {"build_steps": ("true",)}])
def test_what_must_be_run_needs_another_builder(base: Base, what: dict[str, Any]) -> None:
    """It is told before anything is done."""
    assert "need a builder that runs them" in LayerBuilder().lacking(recipe_for(base, SMALL, **what))
    assert LayerBuilder().lacking(recipe_for(base)) == ""


def test_a_base_that_does_not_fit_is_refused(engine: Engine, base: Base, cache: Path) -> None:
    """Without one of the platforms; with another Python; gone."""
    url, repository, _ = parse_reference(base.name)
    registry, builder = Registry(url), LayerBuilder(cache=cache)
    index = registry.manifest(repository, base.digest)
    assert index is not None
    amd64 = registry.manifest(repository, str(oci.pick(index, AMD64)))
    assert amd64 is not None
    with pytest.raises(CannotBuild, match=r"is for linux/amd64, not for linux/arm64"):
        builder.build(replace(recipe_for(base, SMALL, ARM64), base_digest=amd64.digest), place(engine), print)
    part = oci.index({AMD64: amd64.body})
    registry.put_manifest(repository, "part", part, oci.INDEX)
    both = replace(recipe_for(base, SMALL, AMD64, ARM64), base_digest=oci.digest(part))
    with pytest.raises(CannotBuild, match=r"there is an image for linux/amd64, none for linux/arm64"):
        builder.build(both, place(engine), print)
    config = json.loads(registry.blob(repository, amd64.content["config"]["digest"]))
    config["config"]["Env"] = ["PYTHON_VERSION=3.7.1"]
    body = json.dumps(config).encode()
    registry.put_blob(repository, oci.digest(body), body)
    old = oci.manifest_on_top(amd64.content, [], body)
    registry.put_manifest(repository, "old", old, oci.MANIFEST)
    with pytest.raises(CannotBuild, match=rf"has Python 3\.7, and the environment is for {PYTHON}"):
        builder.build(replace(recipe_for(base), base_digest=oci.digest(old)), place(engine), print)
    with pytest.raises(CannotBuild, match="not there any more"):
        builder.build(replace(recipe_for(base), base_digest=f"sha256:{'0' * 64}"), place(engine), print)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_the_target_may_ask_who_we_are(engine: Engine, base: Base, cache: Path, auth: str) -> None:
    """With the credentials all works, though the base is read without; without them nothing is there."""
    recipe, there = recipe_for(base), place(engine)
    with front_of(engine.registry, auth=auth) as front:
        access = replace(there, url=front.url, user="AWS", password="wrong")
        with pytest.raises(CannotBuild, match="refuses the user AWS") as told:
            LayerBuilder(cache=cache).build(recipe, access, print)
        assert "wrong" not in str(told.value)
        made = LayerBuilder(cache=cache).build(recipe, replace(access, password=PASSWORD), print)
    assert Registry.of(there).digest(there.repository, recipe.tag) == made


@pytest.mark.parametrize("fault", ["^PATCH", "^PUT .*manifests"])
def test_a_registry_that_fails_leaves_no_tag_and_the_next_try_succeeds(
    engine: Engine, base: Base, cache: Path, fault: str
) -> None:
    """Wherever it fails for longer than is borne."""
    recipe, there = recipe_for(base), place(engine)
    with front_of(engine.registry) as front:
        access = replace(there, url=front.url)
        front.fail(fault, "500", times=12)
        with pytest.raises(Unavailable, match=there.repository):
            LayerBuilder(cache=cache).build(recipe, access, print)
        assert Registry.of(there).digest(there.repository, recipe.tag) is None
    made = LayerBuilder(cache=cache).build(recipe, there, print)
    assert Registry.of(there).digest(there.repository, recipe.tag) == made


@pytest.mark.rest
def test_cut_uploads_are_made_good(engine: Engine, base: Base, cache: Path) -> None:
    """Half a layer never counts."""
    recipe, there = recipe_for(base), place(engine)
    with front_of(engine.registry) as front:
        front.fail("^PATCH", "cut", times=2)
        made = LayerBuilder(cache=cache).build(recipe, replace(there, url=front.url), print)
    image = Built(there, recipe, made)
    assert said(engine, image, "-c", "import six; print(six.__version__)", entrypoint=["python3"]) == "1.17.0\n"


@contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.rest
@pytest.mark.parametrize("size", ["1m", "26m", "40m"])
def test_a_full_disk_is_told_and_the_next_try_succeeds(engine: Engine, base: Base, tmp_path: Path, size: str) -> None:
    """With the folder and how much is free in it, whether it fills while uv installs, or while layers are packed."""
    recipe, access = recipe_for(base), place(engine)
    with tiny_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(CannotBuild, match=rf"the disk is full: .* {disk}, where [0-9.]+ MB are free"):
            LayerBuilder(cache=disk).build(recipe, access, print)
        subprocess.run(["mount", "-o", "remount,size=500m", str(disk)], check=True)
        made = LayerBuilder(cache=disk).build(recipe, access, print)
        assert Registry.of(access).digest(access.repository, recipe.tag) == made
        assert not list(disk.glob("work-*"))


@pytest.mark.rest
def test_a_kept_layer_that_was_spoilt_is_made_anew(engine: Engine, base: Base, tmp_path: Path) -> None:
    """It is noticed by its digest, and a spoilt note by its form."""
    recipe = recipe_for(base)
    first = LayerBuilder(cache=tmp_path).build(recipe, place(engine), print)
    for file in tmp_path.iterdir():
        with file.open("r+b") as stream:
            stream.seek(100)
            stream.write(b"spoilt")
    access = place(engine)
    assert LayerBuilder(cache=tmp_path).build(recipe, access, print) == first
    assert Registry.of(access).digest(access.repository, recipe.tag) == first


def test_files_of_layers_go_where_they_are_too_many(tmp_path: Path) -> None:
    """Those that were used longest ago; what is noted of them stays."""
    cache = LayerCache(tmp_path, most_bytes=2500)
    for number in range(4):
        (made := tmp_path / "made").write_bytes(bytes([number]) * 1000)
        layer = Layer(digest=oci.digest(made.read_bytes()), diff_id="", size=1000, by="")
        kept = cache.keep(layer, made)
        cache.remember(str(number), layer)
        os.utime(kept, (time.time() - 100 + number,) * 2)
    with cache.work_folder():
        layers = [cache.find(str(number)) for number in range(4)]
    assert [layer is not None and cache.file(layer) is not None for layer in layers] == [False, False, True, True]


def test_a_layer_is_one_gzip_member_and_no_matter_of_cores(tmp_path: Path) -> None:
    """What loads layers lazily reads one; tar finds the same files in it."""
    folder = tmp_path / "root"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "large").write_bytes(random.Random(1).randbytes(5_000_000))
    (folder / "a" / "b" / "empty").touch()
    (folder / "a" / ("n" * 200)).write_text("long")
    layers = []
    for cores in (1, 4):
        with ThreadPoolExecutor(cores) as pool:
            layers.append(pack(folder, tmp_path / "layer", by="", owners={"a": (7, 8)}, cores=pool))
    assert layers[0] == layers[1]
    whole = zlib.decompressobj(31)
    plain = whole.decompress((tmp_path / "layer").read_bytes())
    assert whole.eof and not whole.unused_data and oci.digest(plain) == layers[0].diff_id
    with tarfile.open(fileobj=BytesIO(plain)) as tar:
        assert [(entry.name, entry.size, entry.uid) for entry in tar] == [
            ("a", 0, 7), ("a/b", 0, 0), ("a/b/empty", 0, 0), ("a/large", 5_000_000, 0), (f"a/{'n' * 200}", 4, 0),
        ]  # fmt: skip


def test_the_users_settings_for_uv_hold(engine: Engine, base: Base, cache: Path, tmp_path: Path) -> None:
    """Packages come from where the current folder's settings say; what they say of environments is of no account.

    All that a wheel has lies where an ordinary environment has it.
    """
    with zipfile.ZipFile(tmp_path / "mine-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mine.py", "def main():\n    print('mine')\n")
        about = "mine-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/entry_points.txt", "[console_scripts]\nmine = mine:main\n")
        for kind, name in (
            ("data", "lib/libmine.so.1"),
            ("headers", "mine.h"),
            ("platlib", "extra.py"),
            ("scripts", "do"),
        ):
            wheel.writestr(f"mine-1.0.data/{kind}/{name}", "#!python\nprint('done')\n")
        wheel.writestr(f"{about}/RECORD", "")
    settings = f'no-index = true\nfind-links = ["{tmp_path}"]\n[pip]\ncompile-bytecode = true\n'
    (tmp_path / "uv.toml").write_text(settings)
    access, recipe = place(engine), recipe_for(base, "mine==1.0\n")
    told: list[str] = []
    LayerBuilder(cache=cache).build(replace(recipe, environment=Environment.of(PYTHON, "")), access, told.append)
    with chdir(tmp_path), environment({"UV_COMPILE_BYTECODE": "1", "UV_SYSTEM_PYTHON": "1"}):
        made = Built(access, recipe, LayerBuilder(cache=cache).build(recipe, access, told.append))
    assert said(engine, made, entrypoint=["mine"]) == "mine\n"
    assert said(engine, made, entrypoint=["do"]) == "done\n"
    files = made.layer(AMD64, 3)
    (record,) = (body.decode() for path, (_, body) in files.items() if path.endswith("RECORD"))
    assert "../../../bin/mine,,\n" in record and "uv_cache.json" not in record and "direct_url" not in record
    user, packages = layout.PACKAGES.lstrip("/"), layout.packages_folder(PYTHON).lstrip("/")
    assert {f"{user}/lib/libmine.so.1", f"{packages}/extra.py", f"{user}/bin/do"} <= files.keys()
    assert f"{user}/include/site/python{PYTHON}/mine/mine.h" in files


@pytest.mark.parametrize("begin", ["#!/usr/bin/python3.11", "#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''"])
def test_commands_run_whichever_python_the_image_has(tmp_path: Path, begin: str) -> None:
    """However their first lines name the Python they were made with; programs stay as they are."""
    made = tmp_path / "bin"
    made.mkdir()
    (made / "script").write_text(f"{begin}\nimport sys\n")
    (made / "program").write_bytes(b"\x7fELF#!/usr/bin/python\n")
    (made / "shell").write_text("#!/bin/sh\necho\n")
    (made / "more").mkdir()  # some packages have folders there
    wheels.free_commands(tmp_path)
    assert (tmp_path / "bin" / "script").read_text() == "#!/usr/bin/env python3\nimport sys\n"
    assert (tmp_path / "bin" / "program").read_bytes() == b"\x7fELF#!/usr/bin/python\n"
    assert (tmp_path / "bin" / "shell").read_text() == "#!/bin/sh\necho\n"
